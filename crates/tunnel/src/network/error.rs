//! What can go wrong with the pod network.

use std::{io, path::PathBuf};

/// A failure to see or change a network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The network namespace is not there, or cannot be entered.
    #[error("cannot enter the network namespace {path}")]
    Namespace {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A network namespace cannot be made.
    #[error("cannot make the network namespace {path}")]
    MakeNamespace {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel cannot be spoken to.
    #[error("cannot open a netlink socket")]
    Socket(#[source] io::Error),
    /// The kernel refused.
    #[error("cannot {action} {subject}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// On which device, address or route.
        subject: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel's answer makes no sense, or none came.
    #[error("cannot {action} {subject}: {cause}")]
    Protocol {
        /// What was tried.
        action: &'static str,
        /// On what.
        subject: String,
        /// What is wrong.
        cause: String,
    },
    /// Another tunnel uses the VNI on this node.
    #[error("VNI {0} is in use on this node")]
    VniInUse(u32),
    /// The pod's namespace has no interface with an address: the CNI did not run, or failed.
    #[error("the pod's network namespace {0} has no interface with an address")]
    NoPodInterface(PathBuf),
    /// The node has no way out.
    #[error("the node has no default route: which of its addresses VMs reach is not known")]
    NoNodeAddress,
    /// There is no Ethernet device to configure.
    #[error("the VM has no network device")]
    NoEthernet,
    /// A MAC address is not one.
    #[error("{0:?} is no MAC address")]
    InvalidMac(String),
    /// The two ends of a tunnel or route are of different families.
    #[error("{0} mixes IPv4 and IPv6")]
    MixedFamilies(String),
}

impl NetworkError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Socket(_) | Self::Protocol { .. } => true,
            Self::Refused { source, .. } => {
                matches!(source.raw_os_error(), Some(code) if RETRYABLE.contains(&rustix::io::Errno::from_raw_os_error(code)))
            }
            Self::Namespace { .. }
            | Self::MakeNamespace { .. }
            | Self::VniInUse(_)
            | Self::NoPodInterface(_)
            | Self::NoNodeAddress
            | Self::NoEthernet
            | Self::InvalidMac(_)
            | Self::MixedFamilies(_) => false,
        }
    }
}

/// Short of memory or busy with another change: passes.
const RETRYABLE: [rustix::io::Errno; 4] = [
    rustix::io::Errno::NOBUFS,
    rustix::io::Errno::NOMEM,
    rustix::io::Errno::BUSY,
    rustix::io::Errno::AGAIN,
];
