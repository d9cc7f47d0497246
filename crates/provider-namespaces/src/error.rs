//! What can go wrong between this provider and its machine.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

use peerpods_provider::local::LocalError;

/// A failed step; it becomes the source of a [`peerpods_provider::ProviderError::Failed`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum NamespacesError {
    #[error(transparent)]
    Local(#[from] LocalError),
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
        let failed = LocalError::file(action, path);
        move |source| failed(source).into()
    }
}
