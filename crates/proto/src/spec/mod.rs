//! The OCI runtime specification on the wire of the agent protocol, and back.
