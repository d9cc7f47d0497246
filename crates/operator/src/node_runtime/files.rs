//! Files of the node: replaced at once and durably, or not at all.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::NodeRuntimeError;

/// What configuration has; nothing of it is a secret.
const FILE_MODE: u32 = 0o644;
/// What programs have.
const PROGRAM_MODE: u32 = 0o755;

/// The node's root, wherever it is.
#[derive(Clone, Debug)]
pub struct NodeRoot(PathBuf);

/// A file as it is and as it is to be; absent where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) path: &'static str,
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
}

impl NodeRoot {
    /// The node's root is in this folder.
    pub fn new(root: PathBuf) -> Self {
        Self(root)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    /// Where a file of the node is for this process.
    pub(super) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.at(path).exists()
    }

    /// The text of a file; none where there is no file.
    pub(super) fn read(&self, path: &str) -> Result<Option<String>, NodeRuntimeError> {
        match fs::read_to_string(self.at(path)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", path)(error)),
        }
    }

    pub(super) fn write(&self, path: &str, text: &str) -> Result<(), NodeRuntimeError> {
        self.replace(path, text.as_bytes(), FILE_MODE)
            .map_err(failed("write", path))
    }

    pub(super) fn make(&self, change: &Change, content: &Option<String>) -> Result<(), NodeRuntimeError> {
        match content {
            Some(text) => self.write(change.path, text),
            None => self.remove(change.path),
        }
    }

    pub(super) fn remove(&self, path: &str) -> Result<(), NodeRuntimeError> {
        match fs::remove_file(self.at(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Takes away folders of ours; one that has something in it stays.
    pub(super) fn remove_empty_folders(&self, folders: &[&Path]) {
        for folder in folders {
            if let Err(error) = fs::remove_dir(self.at(folder)) {
                tracing::debug!(folder = %folder.display(), %error, "stays");
            }
        }
    }

    /// Copies a program to the node, unless the same is there.
    pub(super) fn place_program(&self, source: &Path, path: &str) -> Result<(), NodeRuntimeError> {
        let content = fs::read(source).map_err(|error| NodeRuntimeError::File {
            action: "read",
            path: source.to_owned(),
            source: error,
        })?;
        let there = self.at(path);
        let is_executable =
            || fs::metadata(&there).is_ok_and(|meta| meta.permissions().mode() & 0o111 == 0o111);
        if fs::read(&there).is_ok_and(|there| there == content) && is_executable() {
            return Ok(());
        }
        tracing::info!(path, "the shim is placed");
        self.replace(path, &content, PROGRAM_MODE)
            .map_err(failed("write", path))
    }

    /// A new file in the place of the old one: whoever reads sees all of one of them, also after a power cut.
    fn replace(&self, path: &str, content: &[u8], mode: u32) -> io::Result<()> {
        let target = self.at(path);
        let folder = target.parent().unwrap_or(&self.0);
        fs::create_dir_all(folder)?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let unfinished = folder.join(format!(".{name}.peerpods"));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&unfinished)?;
        file.write_all(content)?;
        // Whatever the process's mask is.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&unfinished, &target)?;
        File::open(folder)?.sync_all()
    }
}

fn failed(action: &'static str, path: &str) -> impl FnOnce(io::Error) -> NodeRuntimeError {
    let path = PathBuf::from(path);
    move |source| NodeRuntimeError::File { action, path, source }
}
