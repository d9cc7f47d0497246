//! The pod network between worker and VM, and the mutual TLS of the agent channel.
