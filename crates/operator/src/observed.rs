//! What the operator knows of the cluster when it plans: of every object only what a plan depends on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use k8s_openapi::jiff::Timestamp;
use peerpods_api::{KataConfig, PeerPod, PeerPodConfig};
use serde_json::Value;

use crate::managed::{Kind, ObjectKey};

/// The name of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeName(pub String);

/// One picture of the cluster. Whatever is not read is not in it: a plan is never made of half a picture.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// All KataConfigs: more than one only by mistake.
    pub kata_configs: Vec<KataConfig>,
    /// All PeerPodConfigs, of every namespace.
    pub peer_pod_configs: Vec<PeerPodConfig>,
    /// All nodes.
    pub nodes: BTreeMap<NodeName, Node>,
    /// The settings, `peer-pods-cm`, where it exists.
    pub settings: Option<BTreeMap<String, String>>,
    /// The credentials, `peer-pods-secret`, where it exists.
    pub credentials: Option<Credentials>,
    /// The pods of what the operator installed.
    pub components: Vec<ComponentPod>,
    /// The objects that carry the operator's label.
    pub objects: BTreeMap<ObjectKey, Value>,
    /// The kinds of objects that this cluster's API server does not know.
    pub unserved: BTreeSet<Kind>,
    /// OpenShift: the pools of nodes.
    pub pools: BTreeMap<String, Pool>,
    /// The machines of all pods.
    pub peer_pods: Vec<PeerPodSummary>,
    /// Who uses the runtime class; read only when something is to be removed.
    pub class_use: ClassUse,
    /// What could not be done in the last round, in words.
    pub failures: Vec<String>,
}

/// Of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Since when its runtime is to be installed or removed: a [`crate::names::RUNTIME_SINCE`] annotation.
    pub runtime_since: Option<Timestamp>,
    /// How many VMs it says it may have.
    pub capacity: Option<String>,
    /// What OpenShift says of its configuration, where it manages it.
    pub machine_config: Option<MachineConfigOfNode>,
}

/// Which configuration a node has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineConfigOfNode {
    /// The one that it has.
    pub current: String,
    /// The one that it is to have.
    pub desired: String,
    /// Nothing is being changed.
    pub done: bool,
    /// Why it cannot be changed.
    pub stuck: Option<String>,
}

/// Of a MachineConfigPool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// The configurations that are made of ours and others: the one that all of its nodes had last, and the next.
    pub with_ours: BTreeSet<String>,
    /// Why its nodes cannot be configured.
    pub degraded: Option<String>,
}

/// Of the credentials: never a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The keys that have a value.
    pub keys: BTreeSet<String>,
    /// Changes with the Secret.
    pub version: String,
}

/// What the operator installs as pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// The node daemon that launches VMs.
    Adaptor,
    /// What installs the runtime on a node.
    NodeInstall,
    /// What removes it from a node.
    NodeRemove,
    /// What changes peer pods as they are created.
    Webhook,
    /// What publishes the VM image.
    ImagePublisher,
}

impl Component {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Adaptor,
        Self::NodeInstall,
        Self::NodeRemove,
        Self::Webhook,
        Self::ImagePublisher,
    ];

    /// The value of the label `app.kubernetes.io/component`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Adaptor => "cloud-api-adaptor",
            Self::NodeInstall => "node-install",
            Self::NodeRemove => "node-remove",
            Self::Webhook => "webhook",
            Self::ImagePublisher => "image-publisher",
        }
    }
}

/// The id of an image in EC2, such as `ami-0123456789abcdef0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageId(String);

/// What is no id of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an image's id is ami- and letters or digits")]
pub struct InvalidImageId;

impl FromStr for ImageId {
    type Err = InvalidImageId;

    fn from_str(text: &str) -> Result<Self, InvalidImageId> {
        let rest = text.strip_prefix("ami-").ok_or(InvalidImageId)?;
        let is_id = !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_id.then(|| Self(text.to_owned())).ok_or(InvalidImageId)
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A pod of one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentPod {
    /// Whose it is.
    pub component: Component,
    /// The UID of the object that made it.
    pub owner: Option<String>,
    /// Its node, once it has one.
    pub node: Option<NodeName>,
    /// How far it is.
    pub state: PodState,
    /// When it was made.
    pub created: Timestamp,
}

/// How far a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodState {
    /// It starts, and nothing is wrong.
    Starting,
    /// It says that it is ready.
    Ready,
    /// Its work is done, and this is what it says of that.
    Finished {
        /// Its termination message.
        message: String,
    },
    /// Something keeps it from becoming ready.
    Failing {
        /// In one word, as the kubelet says it.
        reason: String,
        /// What it printed last, or what the kubelet says.
        message: String,
    },
}

/// Of a PeerPod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPodSummary {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The provider of its VM, where it says so.
    pub provider: Option<String>,
    /// The provider's name for the VM, once known.
    pub instance: Option<String>,
    /// The node of its pod, where it says so.
    pub node: Option<NodeName>,
    /// The sandbox, where it says so.
    pub sandbox: Option<String>,
    /// Since when its pod is gone: then Kubernetes has marked it for deletion.
    pub deleted_at: Option<Timestamp>,
    /// What keeps it.
    pub finalizers: Vec<String>,
    /// What its status says.
    pub message: Option<String>,
    /// The version that was seen.
    pub resource_version: Option<String>,
}

impl From<PeerPod> for PeerPodSummary {
    fn from(object: PeerPod) -> Self {
        let (metadata, spec) = (object.metadata, object.spec);
        let status = object.status.unwrap_or_default();
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        Self {
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
            provider: said(spec.cloud_provider),
            instance: said(status.instance_id).or(said(spec.instance_id)),
            node: said(spec.node_name).map(NodeName),
            sandbox: said(spec.sandbox_id),
            deleted_at: metadata.deletion_timestamp.map(|time| time.0),
            finalizers: metadata.finalizers.unwrap_or_default(),
            message: status.message,
            resource_version: metadata.resource_version,
        }
    }
}

/// Which pods use the runtime class and have not finished.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClassUse {
    /// Nobody asked.
    #[default]
    NotRead,
    /// These, as `NAMESPACE/NAME`.
    Pods(Vec<String>),
}
