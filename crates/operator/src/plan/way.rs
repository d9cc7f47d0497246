//! How the runtime comes to the nodes of this cluster.
//!
//! OpenShift owns what is configured on its nodes: a MachineConfig says it, and nodes of a pool get it one after the other,
//! drained and restarted. There the shim alone is placed by pods, and first: CRI-O leaves out a handler whose shim is missing
//! when it starts.
//!
//! ```text
//! install: shim placed ─► node joins the pool ─► it has the pool's configuration ─► installed
//! remove:  node leaves the pool ─► it has another configuration ─► shim removed
//! ```

use std::collections::BTreeSet;

use crate::{
    installation::{Installation, NodeRuntime},
    names::{CONTROL_PLANE, MASTER_POOL, POOL, WORKER_POOL},
    observed::{MachineConfigOfNode, Node, Observed, Pool},
};

/// What [`NodeRuntime`] comes to here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Pods place the shim and configure the container runtime.
    DaemonSet,
    /// Pods place the shim; the Machine Config Operator configures.
    MachineConfigs(Membership),
    /// All of it is there.
    Preinstalled,
}

/// By what nodes have the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Membership {
    /// A pool of ours, that nodes join and leave by their label.
    OurPool,
    /// The pool of a cluster that has no other nodes: no node leaves it.
    Masters,
}

impl Membership {
    /// The pool's name, and the role that its MachineConfigs have.
    pub(super) fn pool(&self) -> &'static str {
        match self {
            Self::OurPool => POOL,
            Self::Masters => MASTER_POOL,
        }
    }
}

impl Way {
    pub(super) fn of(observed: &Observed, installation: &Installation) -> Self {
        match installation.node_runtime {
            NodeRuntime::Preinstalled => Self::Preinstalled,
            NodeRuntime::DaemonSet => Self::DaemonSet,
            NodeRuntime::Auto => membership(observed).map_or(Self::DaemonSet, Self::MachineConfigs),
        }
    }
}

/// None where no pool manages nodes: also in an OpenShift whose control plane is hosted elsewhere.
fn membership(observed: &Observed) -> Option<Membership> {
    let is_managed = [WORKER_POOL, MASTER_POOL]
        .iter()
        .any(|pool| observed.pools.contains_key(*pool));
    if !is_managed {
        return None;
    }
    let is_master = |node: &Node| CONTROL_PLANE.iter().any(|role| node.labels.contains_key(*role));
    let is_of_pools = |node: &&Node| node.machine_config.is_some();
    let nodes: Vec<_> = observed.nodes.values().filter(is_of_pools).collect();
    // Counts of pools follow nodes late: a pool without nodes for a moment is not taken for a cluster without workers.
    Some(
        match nodes.iter().all(|node| is_master(node)) && !nodes.is_empty() {
            true => Membership::Masters,
            false => Membership::OurPool,
        },
    )
}

/// How far the Machine Config Operator is with a node.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It has the configuration of ours.
    Has,
    /// It has not.
    HasNot,
    /// It changes.
    Changes,
    /// It cannot be changed.
    Stuck(String),
    /// Nobody changes its configuration.
    Unmanaged,
}

impl Progress {
    pub(super) fn of(node: &Node, pool: Option<&Pool>) -> Self {
        let none = BTreeSet::new();
        let with_ours = pool.map_or(&none, |pool| &pool.with_ours);
        match &node.machine_config {
            None => Self::Unmanaged,
            // Also while it gets the next one, as in an upgrade of the cluster.
            Some(config) if with_ours.contains(&config.current) => Self::Has,
            Some(MachineConfigOfNode { stuck: Some(why), .. }) => Self::Stuck(why.clone()),
            Some(config) if config.current != config.desired || !config.done => Self::Changes,
            Some(_) => Self::HasNot,
        }
    }
}
