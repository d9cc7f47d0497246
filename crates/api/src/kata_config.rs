//! `KataConfig`: which nodes run peer pods.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which nodes run pods in virtual machines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "kataconfiguration.openshift.io",
    version = "v1",
    kind = "KataConfig",
    plural = "kataconfigs",
    status = "KataConfigStatus",
    derive = "PartialEq",
    doc = "Which nodes run pods in virtual machines. A cluster has at most one.",
    printcolumn(
        name = "InProgress",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"InProgress\")].status",
        description = "Whether nodes are being changed"
    ),
    printcolumn(
        name = "Completed",
        type_ = "integer",
        json_path = ".status.kataNodes.readyNodeCount",
        description = "Nodes on which everything is installed"
    ),
    printcolumn(
        name = "Total",
        type_ = "integer",
        json_path = ".status.kataNodes.nodeCount",
        description = "Nodes that are selected"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct KataConfigSpec {
    /// The nodes that run peer pods. Without it all worker nodes do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(
        "!has(self.matchExpressions) || self.matchExpressions.all(one, one.operator in ['In', 'NotIn', 'Exists', 'DoesNotExist'])"
    ).message("the operator of a requirement must be In, NotIn, Exists or DoesNotExist"))]
    #[schemars(schema_with = "crate::crd::label_selector")]
    pub kata_config_pool_selector: Option<LabelSelector>,

    /// Takes only nodes that Node Feature Discovery labelled feature.node.kubernetes.io/runtime.kata=true.
    #[serde(default)]
    pub check_node_eligibility: bool,

    /// How much adaptors and shims log, one of error, warn, info, debug and trace.
    #[serde(default = "info")]
    pub log_level: String,

    /// Whether pods of runtime class kata-remote run in virtual machines beside the nodes.
    #[serde(default)]
    pub enable_peer_pods: bool,

    /// What changes peer pods as they are created.
    #[serde(default)]
    pub peer_pod_admission: PeerPodAdmission,

    /// The namespaces that may have peer pods. Without it all namespaces may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_pod_namespaces: Option<PeerPodNamespaces>,

    /// Deprecated: accepted and not used. Nothing on the nodes needs a monitor of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kata_monitor_image: Option<String>,
}

fn info() -> String {
    "info".to_owned()
}

impl KataConfigSpec {
    /// The log level as our programs name it. Today's are those of CRI-O, which has some more.
    ///
    /// # Errors
    /// It is none.
    pub fn level(&self) -> Result<&'static str, UnknownLogLevel> {
        match self.log_level.to_ascii_lowercase().as_str() {
            "panic" | "fatal" | "error" => Ok("error"),
            "warn" | "warning" => Ok("warn"),
            "" | "info" => Ok("info"),
            "debug" => Ok("debug"),
            "trace" => Ok("trace"),
            _ => Err(UnknownLogLevel(self.log_level.clone())),
        }
    }
}

/// A log level that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("spec.logLevel is {0:?}: it must be error, warn, info, debug or trace")]
pub struct UnknownLogLevel(pub String);

/// What changes peer pods as they are created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PeerPodAdmission {
    /// The program peerpods-webhook, on any cluster.
    #[default]
    Webhook,
    /// A MutatingAdmissionPolicy within the API server, from Kubernetes 1.36 on.
    Policy,
}

/// The namespaces that may have peer pods: those named, and those that the selector takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.names) || has(self.selector)")
    .message("peerPodNamespaces needs names, a selector, or both; leave it out to allow every namespace"))]
pub struct PeerPodNamespaces {
    /// Namespaces by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,

    /// Namespaces by their labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::crd::label_selector")]
    pub selector: Option<LabelSelector>,
}

/// What has become of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct KataConfigStatus {
    /// The generation of the spec that the rest is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The runtime classes that pods can use now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runtime_classes: Vec<String>,

    /// The nodes, by how far each is.
    #[serde(default)]
    pub kata_nodes: KataNodes,

    /// The state of the whole: InProgress, Ready, SettingsValid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// Deprecated: never set.
    #[serde(default)]
    pub waiting_for_mco_to_start: bool,
}

/// Nodes by how far each is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KataNodes {
    /// How many nodes are selected.
    #[serde(default)]
    pub node_count: i64,
    /// On how many of them everything is installed.
    #[serde(default)]
    pub ready_node_count: i64,
    /// Nodes on which everything is installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub installed: Vec<String>,
    /// Nodes that are being changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub installing: Vec<String>,
    /// Nodes whose turn has not come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_to_install: Vec<String>,
    /// Nodes on which the installation failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_to_install: Vec<String>,
    /// Nodes from which everything is being removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uninstalling: Vec<String>,
    /// Nodes whose turn to be cleaned has not come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_to_uninstall: Vec<String>,
    /// Nodes from which not everything could be removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_to_uninstall: Vec<String>,
    /// Why the nodes that failed did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<NodeFailure>,
}

/// Why one node failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeFailure {
    /// The node's name.
    pub node: String,
    /// What failed, in one word.
    pub reason: String,
    /// What failed, and what to do.
    pub message: String,
}
