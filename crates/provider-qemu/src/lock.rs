//! The file lock that a living VM holds.

use std::{fs::File, path::Path};

use peerpods_provider::local::open_lock;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::error::QemuError;

/// Locks the file, for a VM to inherit; `None` when a VM holds it already.
pub(crate) fn claim(path: &Path) -> Result<Option<File>, QemuError> {
    let file = open_lock(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(QemuError::file("lock", path)(errno.into())),
    }
}

/// Whether a VM holds the lock. Only for holders of the [`peerpods_provider::local::StateLock`], as it takes the lock to find out.
pub(crate) fn is_held(path: &Path) -> Result<bool, QemuError> {
    match File::open(path) {
        Ok(_) => Ok(claim(path)?.is_none()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(QemuError::file("open", path)(error)),
    }
}
