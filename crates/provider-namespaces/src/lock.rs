//! The lock that orders all calls, of all processes.

use std::{
    fs::{File, OpenOptions},
    path::Path,
    process::Stdio,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use crate::error::NamespacesError;

/// The longest wait for other calls: each holds the lock for a fraction of a second.
const LOCK_LIMIT: Duration = Duration::from_secs(60);

/// Held while a call reads and changes the state directory; released with the last of its copies.
#[derive(Debug)]
pub(crate) struct StateLock(File);

impl StateLock {
    /// Waits for all other calls, and for launchers that their calls have left behind.
    pub(crate) async fn acquire(path: &Path) -> Result<Self, NamespacesError> {
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let file = opened.map_err(NamespacesError::file("open", path))?;
        // A call that is cancelled here leaves a thread behind that takes the lock and at once drops it.
        let waiting = tokio::task::spawn_blocking(move || {
            rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive)).map(|()| file)
        });
        match tokio::time::timeout(LOCK_LIMIT, waiting).await {
            Ok(Ok(Ok(file))) => Ok(Self(file)),
            Ok(Ok(Err(error))) => Err(NamespacesError::file("lock", path)(error.into())),
            Ok(Err(join)) => Err(NamespacesError::file("lock", path)(join.into())),
            Err(_) => Err(NamespacesError::LockHeld {
                path: path.to_owned(),
                limit: LOCK_LIMIT,
            }),
        }
    }

    /// A copy for a process to keep for as long as it runs.
    pub(crate) fn share(&self, path: &Path) -> Result<Stdio, NamespacesError> {
        let copy = self.0.try_clone();
        Ok(Stdio::from(copy.map_err(NamespacesError::file("share", path))?))
    }
}
