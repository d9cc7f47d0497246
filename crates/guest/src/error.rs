//! What can go wrong in the guest, and the one place where it becomes a status for the worker.

use std::{io, path::PathBuf, sync::Arc};

use peerpods_proto::{payload::PayloadError, spec::SpecError};
use peerpods_tunnel::{channel::ChannelError, forward::ForwardError, network::NetworkError};
use ttrpc::{Code, get_status};

use crate::{
    clock::sntp::SntpError,
    container::ContainerId,
    ec2::{JoinError, external::ExternalError, metadata::MetadataError},
    image::ImageError,
};

/// A failure of the guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuestError {
    #[error("cannot {action} {}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot {action}")]
    System { action: &'static str, source: io::Error },
    #[error("the boot payload cannot be used")]
    Payload(#[from] PayloadError),
    #[error("this is neither QEMU nor EC2: its firmware names another maker")]
    UnknownPlatform,
    #[error(transparent)]
    JoinNetwork(#[from] JoinError),
    #[error("the pod has no way to the outside")]
    External(#[from] ExternalError),
    #[error("the VM gets no boot payload")]
    Metadata(#[from] MetadataError),
    #[error("containers do not get to the instance metadata service")]
    Outlet(#[from] ForwardError),
    #[error("the time cannot be had")]
    Time(#[from] SntpError),
    #[error("nobody saved this VM within {0:?}")]
    NotSaved(std::time::Duration),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("{field}: {problem}")]
    Invalid { field: &'static str, problem: String },
    #[error("the container's spec cannot be used")]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("the VM has no place for images and what containers write")]
    Scratch(#[source] Arc<GuestError>),
    #[error("{0} does not exist")]
    NotFound(String),
    #[error("container {0} does not exist")]
    UnknownContainer(ContainerId),
    #[error("{0} exists already")]
    Exists(String),
    #[error("cannot {action} {subject}: it is {state}")]
    WrongState {
        action: &'static str,
        subject: String,
        state: &'static str,
    },
    #[error("{0} is not supported in a peer pod")]
    Unsupported(&'static str),
    #[error("cannot {action} container {container}: {cause}")]
    Runtime {
        action: &'static str,
        container: String,
        cause: String,
    },
}

impl GuestError {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::System {
            action,
            source: error.into(),
        }
    }

    /// The message with all its causes, in one line.
    pub(crate) fn chain(&self) -> String {
        peerpods_error::chain(self)
    }

    fn code(&self) -> Code {
        match self {
            // Stock shims know "not found" of processes alone: for their agent, a request that names a container which
            // does not exist is malformed.
            Self::Invalid { .. } | Self::Spec(_) | Self::UnknownContainer(_) => Code::INVALID_ARGUMENT,
            Self::NotFound(_) => Code::NOT_FOUND,
            Self::Exists(_) => Code::ALREADY_EXISTS,
            Self::WrongState { .. } => Code::FAILED_PRECONDITION,
            Self::Unsupported(_) => Code::UNIMPLEMENTED,
            Self::Image(_) => Code::UNAVAILABLE,
            Self::File { .. }
            | Self::System { .. }
            | Self::Payload(_)
            | Self::UnknownPlatform
            | Self::JoinNetwork(_)
            | Self::External(_)
            | Self::Metadata(_)
            | Self::Outlet(_)
            | Self::Time(_)
            | Self::NotSaved(_)
            | Self::Network(_)
            | Self::Channel(_)
            | Self::Scratch(_)
            | Self::Runtime { .. } => Code::INTERNAL,
        }
    }
}

impl From<GuestError> for ttrpc::Error {
    fn from(error: GuestError) -> Self {
        ttrpc::Error::RpcStatus(get_status(error.code(), error.chain()))
    }
}
