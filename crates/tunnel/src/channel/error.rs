//! What can go wrong on the agent channel.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

/// A failure of the agent channel.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// A key or certificate could not be made.
    #[error("cannot make a key or certificate")]
    Issue(#[source] rcgen::Error),
    /// A key or certificate that was given is not usable.
    #[error("the {what} cannot be used: {cause}")]
    Credentials {
        /// Which one.
        what: &'static str,
        /// Why.
        cause: String,
    },
    /// Nothing answers at the address, or not yet.
    #[error("cannot reach {address}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The other side took too long.
    #[error("{address} did not {action} within {limit:?}")]
    Timeout {
        /// Where.
        address: SocketAddr,
        /// What it should have done.
        action: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// TLS was not agreed upon: a wrong key, a foreign authority, or something else speaking.
    #[error("no TLS session with {address}")]
    Handshake {
        /// With whom.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The guest ended the join: it does not take this worker's proof, or serves its agent already.
    #[error("{0} refused the join")]
    Refused(SocketAddr),
    /// The guest cannot serve the pod that it was claimed for.
    #[error("{address} refused the claim: {reason}")]
    ClaimRefused {
        /// The guest.
        address: SocketAddr,
        /// What it said.
        reason: String,
    },
    /// The guest's proof is wrong: it does not know the join secret.
    #[error("{0} does not know the join secret: it is not the VM that was launched")]
    WrongProof(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A connection file cannot be read or written.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The listener was closed.
    #[error("the agent's listener has ended")]
    Closed,
}

impl ChannelError {
    /// Whether the same call may succeed later: a VM that boots does not answer yet.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Timeout { .. } => true,
            // A guest that dies while it boots resets its connections; every other end of a handshake is a refusal.
            Self::Handshake { source, .. } => {
                matches!(
                    source.kind(),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
                )
            }
            Self::Issue(_)
            | Self::Credentials { .. }
            | Self::Refused(_)
            | Self::ClaimRefused { .. }
            | Self::WrongProof(_)
            | Self::Listen { .. }
            | Self::File { .. }
            | Self::Closed => false,
        }
    }
}
