//! An instance's control group: it lives while there are processes in it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use peerpods_provider::local::LocalError;

/// The control group of one instance.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn make(&self) -> Result<(), LocalError> {
        match fs::create_dir(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(LocalError::file("make", &self.0)(error))
            }
            _ => Ok(()),
        }
    }

    /// Whether a process is in it or in a group below.
    pub(crate) fn is_populated(&self) -> Result<bool, LocalError> {
        let path = self.0.join("cgroup.events");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().any(|line| line == "populated 1")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(LocalError::file("read", path)(error)),
        }
    }

    /// Kills all processes, in groups below too.
    pub(crate) fn kill(&self) -> Result<(), LocalError> {
        let path = self.0.join("cgroup.kill");
        gone_is_done(fs::write(&path, "1")).map_err(LocalError::file("write", path))
    }

    /// Removes it with all groups below; none may have a process.
    pub(crate) fn remove(&self) -> Result<(), LocalError> {
        gone_is_done(remove_tree(&self.0)).map_err(LocalError::file("remove", &self.0))
    }
}

fn remove_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

/// What is asked of a group that is gone has been done.
fn gone_is_done(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
