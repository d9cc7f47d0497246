//! Real Kubernetes, registry and VMs for tests; one file of tests per behaviour.
//!
//! A scenario reads like a shell session against the test bed that `make up` started. Most run twice:
//! with runc, which shows that the scenario itself is right, and as peer pods.
//!
//! [`namespaces`] is for tests of single crates that change networks and mounts.
//! Component tests of what speaks to Kubernetes, and needs no node, start an [`ApiServer`] of their own; those of what
//! speaks to AWS, an EC2 of their own ([`ec2`]).

mod api_server;
mod bed;
mod daemons;
pub mod ec2;
pub mod http;
mod https;
pub mod namespaces;
mod pod;
mod unsafe_namespaces;
mod wait;

pub use api_server::ApiServer;
pub use bed::{Bed, NAMESPACE, Output};
pub use daemons::{ChangedSettings, process_of, replaced, wait_adaptor_serves};
pub use https::{Reply, https, tls_stream};
pub use pod::{Pod, PodBuilder, container};
pub use wait::{wait_for, wait_no_disk_without_machine};

/// Who runs a scenario's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// The node's runc: the reference that every scenario must pass first.
    Runc,
    /// A VM of its own for every pod.
    PeerPod,
}

/// Set to `namespaces`, it lets the guests of peer pods run in namespaces of the node: in a fraction of the time, for
/// scenarios that need neither a kernel of the pod's own nor limits.
const GUEST: &str = "PEERPODS_TEST_GUEST";

impl Runtime {
    /// The pod's `runtimeClassName`, where it has one.
    pub fn class(self) -> Option<&'static str> {
        match self {
            Self::Runc => None,
            Self::PeerPod if std::env::var(GUEST).as_deref() == Ok("namespaces") => Some("kata-namespaces"),
            Self::PeerPod => Some("kata-remote"),
        }
    }

    /// A suffix for names.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::PeerPod => "peer",
        }
    }
}

/// Defines a scenario: one test with runc, the reference, and one with peer pods.
#[macro_export]
macro_rules! scenario {
    ($(#[$meta:meta])* $name:ident, $bed:ident, $runtime:ident, $body:block) => {
        $(#[$meta])*
        mod $name {
            use super::*;

            fn scenario($bed: &$crate::Bed, $runtime: $crate::Runtime) $body

            #[test]
            fn with_runc() {
                scenario(&$crate::Bed::connect(), $crate::Runtime::Runc);
            }

            #[test]
            fn as_peer_pod() {
                scenario(&$crate::Bed::connect(), $crate::Runtime::PeerPod);
            }
        }
    };
}
