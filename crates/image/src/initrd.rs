//! The initrd's bytes: a `newc` archive without anything that differs from build to build.

use std::{collections::BTreeMap, io::Write};

use cpio::{NewcBuilder, newc};

use crate::{ImageError, modules::ModuleSet};

/// Directories that the guest mounts and writes on.
const EMPTY_DIRECTORIES: [&str; 7] = ["dev", "etc", "proc", "root", "run", "sys", "tmp"];

/// File types and permissions, as `stat` gives them.
const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

/// The kernel reads the initrd with a 512-byte granularity when several archives follow each other.
const ALIGNMENT_BYTES: usize = 512;

/// Archives the guest program and its modules.
pub(crate) fn archive(guest: &[u8], modules: &ModuleSet) -> Result<Vec<u8>, ImageError> {
    let load_list = modules.load_list();
    let mut entries: BTreeMap<String, (u32, &[u8])> = BTreeMap::new();
    for directory in EMPTY_DIRECTORIES.iter().chain(&["modules"]) {
        entries.insert((*directory).to_owned(), (DIRECTORY, &[]));
    }
    for (file, bytes) in &modules.files {
        entries.insert(format!("modules/{file}"), (FILE, bytes));
    }
    entries.insert("modules/load".to_owned(), (FILE, load_list.as_bytes()));
    entries.insert("init".to_owned(), (PROGRAM, guest));

    let mut archive = Vec::new();
    for (inode, (path, (mode, bytes))) in (1..).zip(&entries) {
        append(&mut archive, inode, path, *mode, bytes)?;
    }
    newc::trailer(&mut archive).expect("writing to memory does not fail");
    archive.resize(archive.len().next_multiple_of(ALIGNMENT_BYTES), 0);
    Ok(archive)
}

fn append(archive: &mut Vec<u8>, inode: u32, path: &str, mode: u32, bytes: &[u8]) -> Result<(), ImageError> {
    let size = u32::try_from(bytes.len()).map_err(|_| ImageError::FileTooLarge {
        path: path.to_owned(),
        bytes: bytes.len(),
    })?;
    let mut writer = NewcBuilder::new(path)
        .ino(inode)
        .nlink(1)
        .mode(mode)
        .write(archive, size);
    writer
        .write_all(bytes)
        .and_then(|()| writer.finish().map(drop))
        .expect("writing to memory does not fail");
    Ok(())
}

#[cfg(test)]
mod tests {
    use cpio::NewcReader;

    use super::archive;
    use crate::modules::ModuleSet;

    fn modules() -> ModuleSet {
        ModuleSet {
            files: [("overlay.ko".to_owned(), vec![7; 9])].into(),
            load: vec![("common", "overlay.ko".to_owned())],
        }
    }

    #[test]
    fn the_archive_holds_init_modules_and_directories_in_order() {
        let archive = archive(b"guest", &modules()).unwrap();
        let mut rest = archive.as_slice();
        let mut seen = Vec::new();
        loop {
            let reader = NewcReader::new(rest).unwrap();
            let entry = reader.entry();
            if entry.is_trailer() {
                break;
            }
            assert_eq!((entry.mtime(), entry.uid(), entry.gid()), (0, 0, 0));
            seen.push(format!("{:o} {}", entry.mode(), entry.name()));
            rest = reader.finish().unwrap();
        }
        assert_eq!(
            seen,
            [
                "40755 dev",
                "40755 etc",
                "100755 init",
                "40755 modules",
                "100644 modules/load",
                "100644 modules/overlay.ko",
                "40755 proc",
                "40755 root",
                "40755 run",
                "40755 sys",
                "40755 tmp"
            ]
        );
    }

    #[test]
    fn the_same_contents_give_the_same_bytes() {
        assert_eq!(
            archive(b"guest", &modules()).unwrap(),
            archive(b"guest", &modules()).unwrap()
        );
        assert_ne!(
            archive(b"guest", &modules()).unwrap(),
            archive(b"other", &modules()).unwrap()
        );
    }
}
