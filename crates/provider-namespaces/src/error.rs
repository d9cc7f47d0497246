//! What can go wrong between this provider and its machine.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

use peerpods_provider::ProviderError;

/// A failed step; it becomes the source of a [`ProviderError::Failed`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum NamespacesError {
    #[error("cannot {action} {}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is damaged", path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("other calls held {} for {limit:?}", path.display())]
    LockHeld { path: PathBuf, limit: Duration },
    #[error("the processes of {} belong to no record", .0.display())]
    NoRecord(PathBuf),
    #[error("the launcher ended with {status}: {message}")]
    Launcher { status: ExitStatus, message: String },
    #[error("the launcher did not end in {0:?}")]
    NotStarted(Duration),
}

impl NamespacesError {
    /// For use with `map_err` on file operations.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// For use with `map_err`: the provider call that failed, and for what.
    pub(crate) fn during(
        action: &'static str,
        subject: impl std::fmt::Display,
    ) -> impl Fn(Self) -> ProviderError {
        move |source| ProviderError::Failed {
            action,
            subject: subject.to_string(),
            source: Box::new(source),
        }
    }
}

/// Removing what is not there has succeeded.
pub(crate) fn unless_absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
