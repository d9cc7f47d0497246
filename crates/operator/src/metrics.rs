//! What Prometheus is told.

use std::{
    fmt,
    sync::{
        Mutex,
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
struct OutcomeLabels {
    outcome: Outcome,
}

/// The figures of one process.
pub struct Metrics {
    registry: Mutex<Registry>,
    actions: Family<ActionLabels, Counter<u64, AtomicU64>>,
    rounds: Family<OutcomeLabels, Counter<u64, AtomicU64>>,
    nodes: Family<StateLabels, Gauge<i64, AtomicI64>>,
    leader: Gauge<i64, AtomicI64>,
    peer_pods: Gauge<i64, AtomicI64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("peerpods_operator");
        let (actions, rounds, nodes) = (Family::default(), Family::default(), Family::default());
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

    /// All figures, as OpenMetrics.
    pub fn text(&self) -> String {
        let registry = self
            .registry
            .lock()
            .expect("nothing panics while it holds the registry");
        peerpods_probes::figures(&registry)
    }
}
