//! What can go wrong between this provider and its machine.

use std::{io, path::PathBuf, time::Duration};

use peerpods_provider::ProviderError;

/// A failed step; it becomes the source of a [`ProviderError::Failed`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum QemuError {
    #[error("cannot {action} {path}")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is damaged")]
    Damaged {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("other calls held {path} for {limit:?}")]
    LockHeld { path: PathBuf, limit: Duration },
    #[error("cannot make the tap device {name}")]
    Tap {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot {action} the network device {name}")]
    Link {
        action: &'static str,
        name: String,
        #[source]
        source: rtnetlink::Error,
    },
    #[error("there is no bridge {0}")]
    NoBridge(String),
    #[error("cannot start {binary}")]
    Spawn {
        binary: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("QEMU ended while it started: {0}")]
    Ended(String),
    #[error("QEMU did not start in {0:?}")]
    NotStarted(Duration),
    #[error("QEMU's control socket failed")]
    Control(#[source] io::Error),
    #[error("QEMU's control socket answered {0:?}")]
    UnexpectedAnswer(String),
    #[error("cannot end the VM's process")]
    Kill(#[source] io::Error),
}

impl QemuError {
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
