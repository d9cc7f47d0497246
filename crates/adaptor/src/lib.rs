//! cloud-api-adaptor: the node daemon that gives every peer pod its VM.
