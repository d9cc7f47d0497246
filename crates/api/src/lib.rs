//! The Kubernetes API of peer pods: custom resources, and the names of labels, annotations and resources.
//!
//! The types are the source; the CRD manifests under `deploy/crds` are printed from them (`cargo xtask docs`). Groups,
//! versions, fields and defaults are those of OpenShift sandboxed containers, so that objects written for it apply
//! unchanged. A field is never removed: one that means nothing here any more stays, marked as deprecated.
//!
//! A rule that only new objects have to keep is a CEL rule of the schema, with a message that says what to write. The
//! Rust types stay as wide as what may be stored already: one object that cannot be read would hide all others from a
//! watch.

// The derivation of a schema makes a copy of each type, within a function; two columns may be of one type.
#![allow(unreachable_pub, clippy::duplicated_attributes)]

pub mod admission;
pub mod crd;
pub mod names;

mod kata_config;
mod peer_pod;
mod peer_pod_config;

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

pub use self::{
    kata_config::{
        KataConfig, KataConfigSpec, KataConfigStatus, KataNodes, NodeFailure, PeerPodAdmission,
        PeerPodNamespaces, UnknownLogLevel,
    },
    peer_pod::{PeerPod, PeerPodPhase, PeerPodSpec, PeerPodStatus},
    peer_pod_config::{InvalidLimit, PeerPodConfig, PeerPodConfigSpec, PeerPodConfigStatus, VmLimit},
};
