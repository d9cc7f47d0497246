//! What can go wrong in the shim, and the one place where it becomes a status for the container runtime.
//!
//! The text of a status ends up in the pod's events, so every error names the action, its subject and,
//! through its sources, the cause.

use std::{io, path::PathBuf};

use peerpods_proto::spec::SpecError;
use peerpods_tunnel::channel::ChannelError;
use ttrpc::{Code, get_status};

/// The longest that another program's words may be: an event of Kubernetes has room for this many.
const MESSAGE_CHARACTERS: usize = 1024;

/// A request that the shim could not fulfil.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{what} {id} does not exist")]
    NotFound { what: &'static str, id: String },
    #[error("{what} {id} exists already")]
    AlreadyExists { what: &'static str, id: String },
    #[error("cannot {action} {id}: it is {state}")]
    WrongState {
        action: &'static str,
        id: String,
        state: &'static str,
    },
    #[error("{field}: {problem}")]
    Invalid { field: &'static str, problem: String },
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    #[error(
        "a peer pod runs in a virtual machine and cannot share this node's namespaces: remove `{0}` from the pod's \
         spec, or its runtimeClassName"
    )]
    HostNamespace(&'static str),
    #[error("{action} {}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{action}")]
    System { action: &'static str, source: io::Error },
    #[error("the virtual machine's agent could not {action}: {}", plain(source))]
    Agent { action: String, source: ttrpc::Error },
    #[error("the cloud-api-adaptor on this node could not {action}: {}", plain(source))]
    Hypervisor {
        action: &'static str,
        source: ttrpc::Error,
    },
    #[error("connect to the virtual machine's agent")]
    Channel(#[source] ChannelError),
    #[error("the virtual machine is gone: {0}")]
    Lost(String),
    #[error("mount {destination}: {problem}")]
    Mount { destination: String, problem: String },
}

impl Error {
    pub(crate) fn no_container(id: &str) -> Self {
        Self::NotFound {
            what: "container",
            id: id.to_owned(),
        }
    }

    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    fn code(&self) -> Code {
        match self {
            Self::NotFound { .. } => Code::NOT_FOUND,
            Self::AlreadyExists { .. } => Code::ALREADY_EXISTS,
            Self::WrongState { .. } => Code::FAILED_PRECONDITION,
            Self::Invalid { .. } | Self::Spec(_) | Self::Mount { .. } => Code::INVALID_ARGUMENT,
            Self::Unsupported(_) | Self::HostNamespace(_) => Code::UNIMPLEMENTED,
            Self::Lost(_) => Code::UNAVAILABLE,
            Self::File { .. } | Self::System { .. } => Code::INTERNAL,
            Self::Channel(_) => Code::UNAVAILABLE,
            // The codes of the far side mean the same to the runtime, except "not found", which the
            // runtime would take for "this task does not exist".
            Self::Agent { source, .. } | Self::Hypervisor { source, .. } => match source {
                ttrpc::Error::RpcStatus(status) => match status.code() {
                    Code::NOT_FOUND | Code::OK => Code::INTERNAL,
                    code => code,
                },
                _ => Code::UNAVAILABLE,
            },
        }
    }

    /// The whole chain of causes in one line.
    pub(crate) fn chain(&self) -> String {
        match self {
            // The sources of these two are already part of their own text.
            Self::Agent { .. } | Self::Hypervisor { .. } => self.to_string(),
            _ => peerpods_error::chain(self),
        }
    }
}

impl From<Error> for ttrpc::Error {
    fn from(error: Error) -> Self {
        ttrpc::Error::RpcStatus(get_status(error.code(), error.chain()))
    }
}

/// The message of a ttrpc error, without the debug form that its `Display` wraps around a status. It may be the guest's.
fn plain(error: &ttrpc::Error) -> String {
    match error {
        ttrpc::Error::RpcStatus(status) => peerpods_error::shorten(status.message(), MESSAGE_CHARACTERS),
        other => peerpods_error::shorten(&other.to_string(), MESSAGE_CHARACTERS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_carries_the_cause_and_a_code() {
        let refused = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = Error::file("read", "/etc/hosts")(refused);
        let ttrpc::Error::RpcStatus(status) = error.into() else {
            panic!("not a status")
        };
        assert_eq!(status.code(), Code::INTERNAL);
        assert_eq!(status.message(), "read /etc/hosts: permission denied");
    }

    #[test]
    fn a_missing_process_in_the_guest_is_not_a_missing_task() {
        let source = ttrpc::Error::RpcStatus(get_status(Code::NOT_FOUND, "no such process"));
        let error = Error::Agent {
            action: "signal a process".into(),
            source,
        };
        assert_eq!(error.code(), Code::INTERNAL);
        assert_eq!(
            error.chain(),
            "the virtual machine's agent could not signal a process: no such process"
        );
    }
}
