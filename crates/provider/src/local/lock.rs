//! The lock that orders all calls, of all processes.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use super::{LOCK, LocalError};

/// The longest wait for other calls: a node starts a few dozen instances at once, each under the lock for well
/// below a second.
const LOCK_LIMIT: Duration = Duration::from_secs(60);

/// Held by a call while it reads and changes the state directory; released with the last of its copies.
#[derive(Debug)]
pub struct StateLock {
    file: File,
    path: PathBuf,
}

impl StateLock {
    /// Waits for all other calls, of this and of other processes, and for what they have handed copies to.
    pub async fn acquire(state_dir: &Path) -> Result<Self, LocalError> {
        let path = state_dir.join(LOCK);
        let file = open_lock(&path)?;
        // A call that is cancelled here leaves a thread behind that takes the lock and at once drops it.
        let waiting = tokio::task::spawn_blocking(move || {
            rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive)).map(|()| file)
        });
        match tokio::time::timeout(LOCK_LIMIT, waiting).await {
            Ok(Ok(Ok(file))) => Ok(Self { file, path }),
            Ok(Ok(Err(errno))) => Err(LocalError::file("lock", path)(errno.into())),
            Ok(Err(join)) => Err(LocalError::file("lock", path)(join.into())),
            Err(_) => Err(LocalError::LockHeld {
                path,
                limit: LOCK_LIMIT,
            }),
        }
    }

    /// A copy for a process to keep for as long as it runs.
    pub fn share(&self) -> Result<Stdio, LocalError> {
        let copy = self.file.try_clone();
        Ok(Stdio::from(copy.map_err(LocalError::file("share", &self.path))?))
    }
}

/// Opens a file to lock; made where it is missing, for this user alone.
pub fn open_lock(path: &Path) -> Result<File, LocalError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(LocalError::file("open", path))
}
