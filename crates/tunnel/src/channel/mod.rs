//! Mutual TLS of the agent channel: identities, the join, connections.
