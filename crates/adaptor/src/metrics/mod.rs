//! What is counted and measured of the node's VMs.
//!
//! Times begin anew with the process: of a sandbox that was taken up again they are those since then.

mod provider;

use std::{sync::Mutex, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

pub(crate) use self::provider::Measured;
use crate::sandbox::{REASON_KEYS, Reason, STATE_KEYS, State};

/// From a VM that waited to one that did not boot within its limit, in seconds.
const START_BUCKETS: [f64; 13] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0,
];
/// From a call of a provider on this node to one of a cloud that is slow, in seconds.
const CALL_BUCKETS: [f64; 10] = [0.002_5, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 120.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    call: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabel {
    call: &'static str,
}

/// The figures of one process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    sandboxes: Family<StateLabel, Gauge>,
    warm: Gauge,
    stages: Family<StateLabel, Histogram>,
    starts: Histogram,
    ends: Family<ReasonLabel, Counter>,
    calls: Family<CallLabels, Counter>,
    call_durations: Family<CallLabel, Histogram>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("peerpods_adaptor");
        let (sandboxes, warm, ends, calls) = (
            Family::default(),
            Gauge::default(),
            Family::default(),
            Family::default(),
        );
        let stages = Family::new_with_constructor((|| Histogram::new(START_BUCKETS)) as fn() -> Histogram);
        let call_durations =
            Family::new_with_constructor((|| Histogram::new(CALL_BUCKETS)) as fn() -> Histogram);
        let starts = Histogram::new(START_BUCKETS);
        registry.register(
            "sandboxes",
            "Sandboxes of this node, by how far their VM is",
            Clone::clone(&sandboxes),
        );
        registry.register("warm_vms", "VMs that wait for a pod", Clone::clone(&warm));
        registry.register_with_unit(
            "vm_stage_duration",
            "How long a sandbox's VM was in a state that it has left",
            Unit::Seconds,
            Clone::clone(&stages),
        );
        registry.register_with_unit(
            "vm_start_duration",
            "From the shim's wish for a VM to its agent's answer",
            Unit::Seconds,
            starts.clone(),
        );
        registry.register(
            "vm_ends",
            "VMs that ended or never began, by the reason",
            Clone::clone(&ends),
        );
        registry.register(
            "provider_calls",
            "Calls of the provider, by what became of them",
            Clone::clone(&calls),
        );
        registry.register_with_unit(
            "provider_call_duration",
            "How long calls of the provider took, whatever became of them",
            Unit::Seconds,
            Clone::clone(&call_durations),
        );
        let metrics = Self {
            registry: Mutex::new(registry),
            sandboxes,
            warm,
            stages,
            starts,
            ends,
            calls,
            call_durations,
        };
        metrics.begin();
        metrics
    }
}

impl Metrics {
    /// Counters begin with nothing counted: what first appears with a count has not grown, for Prometheus.
    fn begin(&self) {
        for state in STATE_KEYS {
            drop(self.stages.get_or_create(&StateLabel { state }));
        }
        for reason in REASON_KEYS {
            drop(self.ends.get_or_create(&ReasonLabel { reason }));
        }
        for call in provider::CALLS {
            drop(self.call_durations.get_or_create(&CallLabel { call }));
            for outcome in provider::OUTCOMES {
                drop(self.calls.get_or_create(&CallLabels { call, outcome }));
            }
        }
    }

    /// A sandbox's VM has left a state.
    pub(crate) fn left(&self, state: &State, lasted: Duration) {
        let label = StateLabel { state: state.key() };
        self.stages.get_or_create(&label).observe(lasted.as_secs_f64());
    }

    /// A VM's agent has answered, so long after the shim wanted it.
    pub(crate) fn started(&self, took: Duration) {
        self.starts.observe(took.as_secs_f64());
    }

    /// A VM is being ended.
    pub(crate) fn ended(&self, reason: &Reason) {
        let label = ReasonLabel { reason: reason.key() };
        self.ends.get_or_create(&label).inc();
    }

    fn called(&self, call: &'static str, outcome: &'static str, took: Duration) {
        self.calls.get_or_create(&CallLabels { call, outcome }).inc();
        let durations = self.call_durations.get_or_create(&CallLabel { call });
        durations.observe(took.as_secs_f64());
    }

    /// All figures as OpenMetrics: of `states` and `warm`, what there is now.
    pub(crate) fn text(&self, states: &[State], warm: usize) -> String {
        for key in STATE_KEYS {
            let count = states.iter().filter(|state| state.key() == key).count();
            let gauge = self.sandboxes.get_or_create(&StateLabel { state: key });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.warm.set(i64::try_from(warm).unwrap_or(i64::MAX));
        let registry = self
            .registry
            .lock()
            .expect("nothing panics while it holds the registry");
        peerpods_probes::figures(&registry)
    }
}
