//! What runs between a worker node and a peer pod VM: the pod network, and the mutual TLS of the agent channel.

pub mod channel;
pub mod network;
