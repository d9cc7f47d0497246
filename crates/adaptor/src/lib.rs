//! `cloud-api-adaptor`: the node daemon that gives every peer pod its VM.
//!
//! - [`sandbox`] is the heart: one state machine per VM, journaled before anything is done.
//! - `host` does what the machines ask for: provider, network, pod directories.
//! - `service` is what shims call; `relay` is for stock shims only.

mod daemon;
mod host;
mod journal;
mod provider;
mod relay;
mod request;
mod sandbox;
mod service;
mod settings;

pub use daemon::main;
