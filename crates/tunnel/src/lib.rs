//! What runs between a worker node and a peer pod VM: the pod network, the mutual TLS of the agent channel, and the
//! connections that are forwarded over it.

pub mod channel;
pub mod forward;
pub mod network;
