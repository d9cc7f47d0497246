//! What can go wrong between this provider and its machine.

use std::{io, path::PathBuf, time::Duration};

use peerpods_provider::local::LocalError;

/// A failed step; it becomes the source of a [`peerpods_provider::ProviderError::Failed`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum QemuError {
    #[error(transparent)]
    Local(#[from] LocalError),
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
    #[error("other programs took {0} loop devices before this one could")]
    LoopDevicesBusy(u32),
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
    #[error("the VM's launch was cut off before it ran")]
    CutOff,
    #[error("the VM that was to be saved {0}")]
    NotSaved(String),
    #[error("cannot end the VM's process")]
    Kill(#[source] io::Error),
}

impl QemuError {
    /// For use with `map_err` on file operations.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let failed = LocalError::file(action, path);
        move |source| failed(source).into()
    }
}
