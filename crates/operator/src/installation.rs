//! How this operator installs: what an administrator chose once, for the operator itself.

use std::{str::FromStr, time::Duration};

use crate::observed::NodeName;

/// What the plans are made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Where the operator and what it installs live.
    pub namespace: String,
    /// The cluster's id, which VMs carry as a tag.
    pub cluster_id: String,
    /// What runs.
    pub images: Images,
    /// How the runtime comes to nodes.
    pub node_runtime: NodeRuntime,
    /// Who of cert-manager issues the webhook's certificate; without one the operator does.
    pub issuer: Option<Issuer>,
    /// How long others have for what is theirs to do.
    pub patience: Patience,
}

/// Container images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Of the node daemon.
    pub adaptor: String,
    /// Of the webhook.
    pub webhook: String,
    /// Of this program, with the shim beside it: what installs the runtime on nodes.
    pub node_runtime: String,
    /// Of `peerpodctl`, with the VM's disk beside it: what publishes the VM image.
    pub vm_image: String,
}

/// An issuer of cert-manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Which kind of issuer.
    pub kind: IssuerKind,
    /// Its name.
    pub name: String,
}

/// Where an issuer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssuerKind {
    /// In the operator's namespace.
    Issuer,
    /// Of the whole cluster.
    ClusterIssuer,
}

impl IssuerKind {
    /// As Kubernetes calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Issuer => "Issuer",
            Self::ClusterIssuer => "ClusterIssuer",
        }
    }
}

/// What names no issuer.
#[derive(Debug, thiserror::Error)]
#[error("an issuer of cert-manager is Issuer/NAME or ClusterIssuer/NAME")]
pub struct InvalidIssuer;

impl FromStr for Issuer {
    type Err = InvalidIssuer;

    fn from_str(text: &str) -> Result<Self, InvalidIssuer> {
        let (kind, name) = text.split_once('/').ok_or(InvalidIssuer)?;
        let kinds = [IssuerKind::Issuer, IssuerKind::ClusterIssuer];
        let kind = kinds.into_iter().find(|one| one.name() == kind);
        let (Some(kind), false) = (kind, name.is_empty()) else {
            return Err(InvalidIssuer);
        };
        Ok(Self {
            kind,
            name: name.to_owned(),
        })
    }
}

/// How long a PeerPod whose pod is gone is left to others, before this operator ends its VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// To the adaptor of its node.
    pub adaptor: Duration,
    /// To a node that is gone, and may register itself again.
    pub node: Duration,
}

impl Default for Patience {
    /// Longer than a provider takes to end a VM and an adaptor to restart; a node that restarts keeps its object.
    fn default() -> Self {
        Self {
            adaptor: Duration::from_secs(10 * 60),
            node: Duration::from_secs(2 * 60),
        }
    }
}

/// How the runtime comes to nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeRuntime {
    /// As the cluster configures its nodes: by MachineConfigs where pools of OpenShift manage them, else by pods.
    Auto,
    /// Pods of a DaemonSet install and remove it.
    DaemonSet,
    /// It is there already: in the nodes' image, or put there by hand.
    Preinstalled,
}

impl NodeName {
    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
