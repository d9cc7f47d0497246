//! What can go wrong between a local provider and its files.

use std::{io, path::PathBuf, time::Duration};

/// A failed step of a provider that keeps its instances on this node.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A record is not what this program writes.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The record.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// Another call did not give the lock back.
    #[error("other calls held {} for {limit:?}", path.display())]
    LockHeld {
        /// The lock.
        path: PathBuf,
        /// How long it was waited for.
        limit: Duration,
    },
}

impl LocalError {
    /// For use with `map_err` on file operations.
    pub fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
