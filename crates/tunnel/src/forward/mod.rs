//! Port-forward: what is dialled on the loopback of the pod's namespace on the worker reaches the pod's loopback in its VM.
//!
//! ```text
//! worker                                                                 VM
//! pod netns          │ shim                                              │ guest          │ podns
//! dial 127.0.0.1:80 ─┼─► catch ─► worker ──── mutual TLS, one TCP ───────┼─► guest ── dial┼─► 127.0.0.1:80
//!                    │            connection for each that was caught    │                │
//! ```
//!
//! A container runtime forwards a port by dialling `localhost` in the pod's namespace on its own node, where nothing of a
//! peer pod listens. [`LoopbackCatch`] has the kernel hand such connections to a listener of ours, whatever their port;
//! [`carry_caught`] opens a connection to the agent port with [`FORWARD_PROTOCOL`](crate::channel::FORWARD_PROTOCOL) for
//! each; [`GuestForwarder`] dials the pod's loopback and answers. From then on both sides only copy.

mod carry;
mod catch;
mod error;
mod guest;
mod header;
mod outlet;
mod program;
mod worker;

pub use catch::{Caught, LoopbackCatch};
pub use error::ForwardError;
pub use guest::{GUEST_LIMIT, GuestForwarder};
pub use header::{Destination, Family};
pub use outlet::{OUTLET_LIMIT, open_outlet};
pub use worker::{WORKER_LIMIT, carry_caught};
