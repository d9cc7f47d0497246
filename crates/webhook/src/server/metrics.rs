//! What is counted and measured.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::review::Outcome;

/// From what an answer takes to what the API server does not wait for, in seconds.
const BUCKETS: [f64; 10] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.025, 0.25, 2.5,
];

/// The server's metrics.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    reviews: Family<OutcomeLabel, Counter>,
    durations: Histogram,
    connections: Gauge,
    certificates: Family<CertificateLabel, Counter>,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: OutcomeValue,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelValue)]
#[allow(non_camel_case_types)]
enum OutcomeValue {
    unchanged,
    changed,
    refused,
    malformed,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CertificateLabel {
    usable: CertificateValue,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelValue)]
#[allow(non_camel_case_types)]
enum CertificateValue {
    yes,
    no,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("peerpods_webhook");
        let reviews = Family::<OutcomeLabel, Counter>::default();
        registry.register(
            "reviews",
            "Reviews of the API server, by what became of them",
            reviews.clone(),
        );
        let durations = Histogram::new(BUCKETS);
        let about = "From a review's last byte to its answer";
        registry.register_with_unit("review_duration", about, Unit::Seconds, durations.clone());
        let connections = Gauge::default();
        registry.register("connections", "Connections of API servers", connections.clone());
        let certificates = Family::<CertificateLabel, Counter>::default();
        let about = "Changed certificates, by whether they could be used";
        registry.register("certificates", about, certificates.clone());
        // Counters begin with nothing counted: what first appears with a count has not grown, for Prometheus.
        for outcome in [
            OutcomeValue::unchanged,
            OutcomeValue::changed,
            OutcomeValue::refused,
            OutcomeValue::malformed,
        ] {
            drop(reviews.get_or_create(&OutcomeLabel { outcome }));
        }
        for usable in [CertificateValue::yes, CertificateValue::no] {
            drop(certificates.get_or_create(&CertificateLabel { usable }));
        }
        Self {
            registry,
            reviews,
            durations,
            connections,
            certificates,
        }
    }
}

impl Metrics {
    pub(super) fn reviewed(&self, outcome: Outcome, took: Duration) {
        let outcome = match outcome {
            Outcome::Unchanged => OutcomeValue::unchanged,
            Outcome::Changed => OutcomeValue::changed,
            Outcome::Refused => OutcomeValue::refused,
            Outcome::Malformed => OutcomeValue::malformed,
        };
        self.reviews.get_or_create(&OutcomeLabel { outcome }).inc();
        self.durations.observe(took.as_secs_f64());
    }

    pub(super) fn connections(&self) -> &Gauge {
        &self.connections
    }

    pub(super) fn certificate_read(&self, is_usable: bool) {
        let usable = if is_usable {
            CertificateValue::yes
        } else {
            CertificateValue::no
        };
        self.certificates
            .get_or_create(&CertificateLabel { usable })
            .inc();
    }

    /// All of them, as OpenMetrics writes them.
    pub(super) fn text(&self) -> String {
        peerpods_probes::figures(&self.registry)
    }
}
