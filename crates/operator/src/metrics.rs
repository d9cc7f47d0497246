//! What Prometheus is told.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicI64, AtomicU64},
    },
};

use peerpods_api::KataNodes;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::perform::ACTION_NAMES;

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Outcome {
    /// As it should.
    Done,
    /// It is tried again.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    action: &'static str,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodeLabels {
    node: String,
}

/// What one node has for peer pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRoom {
    /// Its name.
    pub node: String,
    /// How many VMs it may have.
    pub capacity: u64,
    /// How many it has.
    pub machines: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: Outcome,
}

/// The figures of one process.
pub struct Metrics {
    registry: Mutex<Registry>,
    actions: Family<ActionLabels, Counter<u64, AtomicU64>>,
    rounds: Family<OutcomeLabels, Counter<u64, AtomicU64>>,
    nodes: Family<StateLabels, Gauge<i64, AtomicI64>>,
    capacity: Family<NodeLabels, Gauge<i64, AtomicI64>>,
    machines: Family<NodeLabels, Gauge<i64, AtomicI64>>,
    leader: Gauge<i64, AtomicI64>,
    peer_pods: Gauge<i64, AtomicI64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("peerpods_operator");
        let (actions, rounds, nodes) = (Family::default(), Family::default(), Family::default());
        let (capacity, machines) = (Family::default(), Family::default());
        let (leader, peer_pods) = (Gauge::default(), Gauge::default());
        registry.register(
            "actions",
            "Actions, by kind and outcome; each is one call of the API server",
            actions.clone(),
        );
        registry.register(
            "rounds",
            "Rounds of observing, planning and performing",
            rounds.clone(),
        );
        registry.register(
            "nodes",
            "Nodes of the KataConfig, by how far each is",
            nodes.clone(),
        );
        registry.register(
            "node_capacity",
            "VMs that a node may have, by node",
            capacity.clone(),
        );
        registry.register("node_vms", "VMs that a node has, by node", machines.clone());
        registry.register(
            "leader",
            "1 where this process is the one that acts",
            leader.clone(),
        );
        registry.register("peer_pods", "PeerPods in the cluster", peer_pods.clone());
        let metrics = Self {
            registry: Mutex::new(registry),
            actions,
            rounds,
            nodes,
            capacity,
            machines,
            leader,
            peer_pods,
        };
        metrics.begin();
        metrics
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Counters begin with nothing counted: what first appears with a count has not grown, for Prometheus.
    fn begin(&self) {
        for outcome in [Outcome::Done, Outcome::Failed] {
            drop(self.rounds.get_or_create(&OutcomeLabels { outcome }));
            for action in ACTION_NAMES {
                drop(self.actions.get_or_create(&ActionLabels { action, outcome }));
            }
        }
        self.sees(&KataNodes::default(), 0);
    }

    /// How many actions there were so far, whatever became of them.
    pub fn actions(&self) -> u64 {
        // The family has no way to go through its members: its text has.
        let text = self.text();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("peerpods_operator_actions_total{"));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    pub(crate) fn acted(&self, action: &'static str, outcome: Outcome) {
        self.actions
            .get_or_create(&ActionLabels { action, outcome })
            .inc();
    }

    pub(crate) fn round(&self, outcome: Outcome) {
        self.rounds.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    pub(crate) fn sees(&self, nodes: &KataNodes, peer_pods: usize) {
        let count = |items: &[String]| i64::try_from(items.len()).unwrap_or(i64::MAX);
        for (state, number) in [
            ("installed", count(&nodes.installed)),
            ("installing", count(&nodes.installing)),
            ("waiting-to-install", count(&nodes.waiting_to_install)),
            ("failed-to-install", count(&nodes.failed_to_install)),
            ("uninstalling", count(&nodes.uninstalling)),
            ("waiting-to-uninstall", count(&nodes.waiting_to_uninstall)),
            ("failed-to-uninstall", count(&nodes.failed_to_uninstall)),
        ] {
            self.nodes.get_or_create(&StateLabels { state }).set(number);
        }
        self.peer_pods.set(i64::try_from(peer_pods).unwrap_or(i64::MAX));
    }

    /// What nodes have; a node that is not among them is no more told of.
    pub fn sees_room(&self, nodes: impl IntoIterator<Item = NodeRoom>) {
        // Nobody is answered while some are there and others are not.
        let _registry = self.registry();
        self.capacity.clear();
        self.machines.clear();
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        for NodeRoom {
            node,
            capacity,
            machines,
        } in nodes
        {
            let labels = NodeLabels { node };
            self.capacity.get_or_create(&labels).set(gauge(capacity));
            self.machines.get_or_create(&labels).set(gauge(machines));
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry
            .lock()
            .expect("nothing panics while it holds the registry")
    }

    /// All figures, as OpenMetrics.
    pub fn text(&self) -> String {
        peerpods_probes::figures(&self.registry())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_gone_is_not_told_of() {
        let metrics = Metrics::default();
        let room = |node: &str| NodeRoom {
            node: node.to_owned(),
            capacity: 10,
            machines: 3,
        };
        metrics.sees_room([room("one"), room("two")]);
        assert!(
            metrics
                .text()
                .contains("peerpods_operator_node_vms{node=\"two\"} 3")
        );
        metrics.sees_room([room("one")]);
        let text = metrics.text();
        assert!(
            text.contains("peerpods_operator_node_capacity{node=\"one\"} 10"),
            "{text}"
        );
        assert!(!text.contains("two"), "{text}");
    }
}
