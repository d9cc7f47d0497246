//! The boot payload: what a peer pod VM is told as it starts.
