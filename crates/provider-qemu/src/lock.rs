//! File locks: the one that orders all calls, and the one that a living VM holds.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::error::QemuError;

/// The longest wait for other calls: a node starts a few dozen VMs at once, each under the lock for well
/// below a second.
const LOCK_LIMIT: Duration = Duration::from_secs(60);

/// Held by a call while it reads and changes the state directory; released when dropped.
#[derive(Debug)]
pub(crate) struct StateLock(#[expect(dead_code, reason = "the lock is held by the open file")] File);

impl StateLock {
    /// Waits for all other calls, of this and of other processes.
    pub(crate) async fn acquire(path: &Path) -> Result<Self, QemuError> {
        let file = open(path)?;
        // A call that is cancelled here leaves a thread behind that takes the lock and at once drops it.
        let waiting = tokio::task::spawn_blocking(move || {
            rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive)).map(|()| file)
        });
        match tokio::time::timeout(LOCK_LIMIT, waiting).await {
            Ok(Ok(Ok(file))) => Ok(Self(file)),
            Ok(Ok(Err(errno))) => Err(QemuError::file("lock", path)(errno.into())),
            Ok(Err(join)) => Err(QemuError::file("lock", path)(join.into())),
            Err(_) => Err(QemuError::LockHeld {
                path: path.to_owned(),
                limit: LOCK_LIMIT,
            }),
        }
    }
}

/// Locks the file, for a VM to inherit; `None` when a VM holds it already.
pub(crate) fn claim(path: &Path) -> Result<Option<File>, QemuError> {
    let file = open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(QemuError::file("lock", path)(errno.into())),
    }
}

/// Whether a VM holds the lock. Only for holders of the [`StateLock`], as it takes the lock to find out.
pub(crate) fn is_held(path: &Path) -> Result<bool, QemuError> {
    match File::open(path) {
        Ok(_) => Ok(claim(path)?.is_none()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(QemuError::file("open", path)(error)),
    }
}

fn open(path: &Path) -> Result<File, QemuError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(QemuError::file("open", path))
}
