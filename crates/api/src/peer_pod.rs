//! `PeerPod`: one virtual machine of one pod.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One virtual machine of one pod. It is there before the machine is, and goes when the machine is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "confidentialcontainers.org",
    version = "v1alpha1",
    kind = "PeerPod",
    plural = "peerpods",
    namespaced,
    status = "PeerPodStatus",
    derive = "PartialEq",
    doc = "One virtual machine of one pod. It is there before the machine is, and goes when the machine is gone.",
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "How far the machine is"
    ),
    printcolumn(
        name = "Instance",
        type_ = "string",
        json_path = ".status.instanceID",
        description = "The provider's name for the machine"
    ),
    printcolumn(
        name = "Node",
        type_ = "string",
        json_path = ".spec.nodeName",
        description = "The node of the pod"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct PeerPodSpec {
    /// Where the machine runs, as CLOUD_PROVIDER names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloud_provider: Option<String>,

    /// The provider's name for the machine. Written by today's adaptors, which make the object after the machine; ours
    /// make it before, and say it in the status.
    #[serde(rename = "instanceID", skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,

    /// The node of the pod, whose adaptor launches the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,

    /// The container runtime's id of the pod's sandbox: the machine carries it as a tag.
    #[serde(rename = "sandboxID", skip_serializing_if = "Option::is_none")]
    pub sandbox_id: Option<String>,
}

/// How far the machine is. Phases follow one another, and only `Draining` can be skipped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PeerPodPhase {
    /// A machine was asked for, and none is known to exist.
    Launching,
    /// The machine exists and does not answer yet.
    Booting,
    /// The machine answers.
    Ready,
    /// The machine is being ended.
    Draining,
    /// The provider confirmed that there is no machine.
    Gone,
}

/// What is known of the machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct PeerPodStatus {
    /// The generation of the spec that the rest is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// How far the machine is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<PeerPodPhase>,

    /// The provider's name for the machine, from Booting on.
    #[serde(rename = "instanceID", skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,

    /// The provider's name for the machine's size, for example an EC2 instance type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,

    /// The machine's own addresses, on the nodes' network. They are not the pod's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,

    /// When a machine was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launch_time: Option<Time>,

    /// When the provider said that the machine exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_time: Option<Time>,

    /// When the machine first answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_time: Option<Time>,

    /// Why the machine is in this phase, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,

    /// The state of the whole: Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// Deprecated: never set; the name is today's.
    #[serde(rename = "cleand", skip_serializing_if = "Option::is_none")]
    pub cleaned: Option<bool>,
}
