//! `cloud-api-adaptor`: the node daemon that gives every peer pod its VM.
//!
//! - [`sandbox`] is the heart: one state machine per VM, journaled before anything is done.
//! - `warm` keeps VMs without pods ready, for sandboxes to take.
//! - `host` does what the machines ask for: provider, network, pod directories.
//! - `credentials` finds what a pod's images are pulled with, by `kubernetes`.
//! - `peer_pods` shows the cluster what VMs there are.
//! - `service` is what shims call; `relay` is for stock shims only.

mod agent;
mod credentials;
mod daemon;
mod external_network;
mod host;
mod journal;
mod kubernetes;
mod last_words;
mod launch;
mod metrics;
mod peer_pods;
mod provider;
mod relay;
mod request;
mod retry;
mod sandbox;
mod service;
mod settings;
mod warm;

pub use daemon::main;

/// The figures that the adaptor tells Prometheus, as OpenMetrics, before anything has happened: names, kinds and meanings.
pub fn metrics() -> String {
    metrics::Metrics::default().text(&[], 0)
}
