//! What of a publication is done, in a file beside the disk: one line for each step, written when the step is done.
//!
//! A line that was cut short by a crash is passed over, and its step taken for not done: writing a block again changes
//! nothing.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use peerpods_aws::Region;
use serde::{Deserialize, Serialize};

use super::PublishError;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// What is published, and the token by which EBS knows a repeated beginning.
    Begin { digest: String, token: String },
    /// The snapshot that the blocks go to.
    Snapshot(String),
    /// A block that is written.
    Block(u32),
}

/// The record of one publication.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    pub(super) token: String,
    pub(super) snapshot: Option<String>,
    pub(super) written: BTreeSet<u32>,
}

impl Journal {
    /// Opens the record of this digest's publication, or begins one with `token`.
    pub(super) fn open(
        disk: &Path,
        region: &Region,
        digest: &str,
        token: String,
    ) -> Result<Self, PublishError> {
        let path = path(disk, region);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(failed("read", &path)(source)),
        };
        let mut lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        let known = match lines.next() {
            Some(Line::Begin { digest: of, token }) if of == digest => Some(token),
            // Of another disk, or nothing.
            _ => None,
        };
        let mut journal = Self {
            file: open(&path, known.is_none())?,
            path,
            token: known.clone().unwrap_or(token),
            snapshot: None,
            written: BTreeSet::new(),
        };
        if known.is_none() {
            let begin = Line::Begin {
                digest: digest.to_owned(),
                token: journal.token.clone(),
            };
            journal.append(&begin)?;
            return Ok(journal);
        }
        for line in lines {
            match line {
                Line::Snapshot(id) => journal.snapshot = Some(id),
                Line::Block(index) => drop(journal.written.insert(index)),
                Line::Begin { .. } => break,
            }
        }
        if !text.ends_with('\n') {
            journal
                .file
                .write_all(b"\n")
                .map_err(failed("write", &journal.path))?;
        }
        Ok(journal)
    }

    pub(super) fn set_snapshot(&mut self, id: &str) -> Result<(), PublishError> {
        self.append(&Line::Snapshot(id.to_owned()))?;
        self.snapshot = Some(id.to_owned());
        Ok(())
    }

    pub(super) fn add_block(&mut self, index: u32) -> Result<(), PublishError> {
        self.append(&Line::Block(index))?;
        self.written.insert(index);
        Ok(())
    }

    fn append(&mut self, line: &Line) -> Result<(), PublishError> {
        let mut text = serde_json::to_string(line).expect("a line is plain data");
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .map_err(failed("write", &self.path))
    }
}

/// Removes the record, if there is one: the publication is done, or its snapshot is of no use.
pub(super) fn remove(disk: &Path, region: &Region) -> Result<(), PublishError> {
    let path = path(disk, region);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn path(disk: &Path, region: &Region) -> PathBuf {
    let mut name = disk.as_os_str().to_owned();
    name.push(format!(".{region}.publish"));
    name.into()
}

fn open(path: &Path, anew: bool) -> Result<File, PublishError> {
    let mut options = OpenOptions::new();
    if anew {
        options.write(true).create(true).truncate(true);
    } else {
        options.append(true);
    }
    options.open(path).map_err(failed("write", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PublishError {
    let path = path.to_owned();
    move |source| PublishError::Journal { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_interrupted_goes_on_wherever_it_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk.raw");
        let region: Region = "eu-central-1".parse().unwrap();
        let open =
            |digest: &str, token: &str| Journal::open(&disk, &region, digest, token.to_owned()).unwrap();
        let mut first = open("d1", "first");
        first.set_snapshot("snap-1").unwrap();
        first.add_block(7).unwrap();
        first.add_block(12).unwrap();

        let path = path(&disk, &region);
        let whole = fs::read(&path).unwrap();
        for length in 0..=whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let mut again = open("d1", "second");
            assert!(
                again.written.iter().all(|index| [7, 12].contains(index)),
                "cut at {length}"
            );
            assert!(again.token == "first" || again.snapshot.is_none());
            // What is added behind the cut is read the next time.
            again.set_snapshot("snap-2").unwrap();
            again.add_block(20).unwrap();
            let third = open("d1", "third");
            assert_eq!(third.snapshot.as_deref(), Some("snap-2"), "cut at {length}");
            assert!(third.written.contains(&20), "cut at {length}");
        }

        fs::write(&path, &whole).unwrap();
        let other = open("d2", "fourth");
        assert_eq!(
            (other.token.as_str(), other.snapshot.as_deref()),
            ("fourth", None)
        );
        remove(&disk, &region).unwrap();
        remove(&disk, &region).unwrap();
        assert!(!path.exists());
    }
}
