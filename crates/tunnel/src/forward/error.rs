//! What can go wrong with port-forward.

use std::{io, net::SocketAddr, time::Duration};

use super::Destination;
use crate::{channel::ChannelError, network::NetworkError};

/// A failure to catch, carry or dial.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The pod's namespace is not there, or cannot be entered.
    #[error(transparent)]
    Namespace(#[from] NetworkError),
    /// A listener in the pod's namespace cannot be made.
    #[error("cannot listen on {address} in the pod's namespace")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a step of the catch.
    #[error("cannot {action}")]
    Kernel {
        /// Which one.
        action: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The guest is not reached, or does not know the protocol.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The other side took too long.
    #[error("no {what} within {limit:?}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        limit: Duration,
    },
    /// The other side ended before everything was said that comes before the bytes.
    #[error("no {what}")]
    Unsaid {
        /// What is missing.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What the other side said makes no sense.
    #[error("{bytes:02x?} is no {what}")]
    Malformed {
        /// What it should be.
        what: &'static str,
        /// What it is.
        bytes: Vec<u8>,
    },
    /// Nobody listens there.
    #[error("nobody listens on {0} in the VM")]
    Refused(Destination),
    /// The guest could not find out whether anybody listens there.
    #[error("the guest cannot connect to {0} now")]
    Unavailable(Destination),
    /// The pod's loopback could not be dialled.
    #[error("cannot connect to {address} in the pod's namespace")]
    Dial {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An established connection did not end in order.
    #[error("the connection to {destination} broke off")]
    BrokenOff {
        /// Where it led.
        destination: Destination,
        /// Why.
        #[source]
        source: io::Error,
    },
}
