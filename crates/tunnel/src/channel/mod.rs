//! Mutual TLS of the agent channel: identities, the join, connections.
//!
//! TLS 1.3 only. These application protocols share the agent port of the VM:
//! - [`JOIN_PROTOCOL`]: the worker meets a guest that made its key at boot. Each proves to the other that it knows the join
//!   secret of the boot payload, bound to this TLS session by its exporter (RFC 8446, section 7.5); then the worker pins the
//!   guest's key. May be repeated until the first connection of another protocol, which spends the secret.
//! - [`AGENT_PROTOCOL`]: the Kata agent API, from a client of the sandbox's own authority to a guest with the pinned key.
//! - [`CLAIM_PROTOCOL`]: the worker gives a guest that was launched without a pod ([`WarmListener`]) the boot payload of one,
//!   by the credentials that it met the guest with. The guest then listens anew, by the payload's own authority, secret and
//!   with another key: nothing of the time before opens anything, and there is no second claim.
//! - [`FORWARD_PROTOCOL`]: between the same two, one connection to the loopback of the pod ([`forward`](crate::forward)).

mod claim;
mod client;
mod connection;
mod error;
mod gate;
mod identity;
mod listener;
mod pin;
mod proof;
mod socket;
mod warm;

pub use claim::{Claim, claim};
pub use client::{connect, connect_forward, join};
pub use connection::{CONNECTION_FILE, Connection};
pub use error::ChannelError;
pub use identity::{ClientIdentity, StockIdentity};
pub use listener::{AgentListener, AgentStream, ForwardListener, ListenerConfig};
pub use pin::{InvalidPin, ServerKeyPin};
pub use warm::{WarmEvent, WarmListener};

/// The TCP port of the agent in the VM, fixed by today's peer pods.
pub const AGENT_PORT: u16 = 15150;

/// Application protocol of the first meeting.
pub const JOIN_PROTOCOL: &[u8] = b"peerpods-join/1";

/// Application protocol of agent connections.
pub const AGENT_PROTOCOL: &[u8] = b"peerpods-agent/1";

/// Application protocol of claims.
pub const CLAIM_PROTOCOL: &[u8] = b"peerpods-claim/1";

/// Application protocol of forwarded connections.
pub const FORWARD_PROTOCOL: &[u8] = b"peerpods-forward/1";

fn provider() -> std::sync::Arc<rustls::crypto::CryptoProvider> {
    std::sync::Arc::new(rustls::crypto::ring::default_provider())
}
