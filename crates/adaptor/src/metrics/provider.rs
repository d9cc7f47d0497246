//! A provider whose calls are counted.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use peerpods_provider::{
    Instance, InstanceId, InstanceKind, InstanceStatus, LaunchRequest, LaunchToken, OwnedInstance,
    OwnerScope, PodIdentity, Provider, ProviderError, Shape,
};

use super::Metrics;

/// Another provider, measured: every call that leaves this process, and those that were given up on.
pub(crate) struct Measured {
    provider: Arc<dyn Provider>,
    metrics: Arc<Metrics>,
}

impl Measured {
    pub(crate) fn new(provider: Arc<dyn Provider>, metrics: Arc<Metrics>) -> Self {
        Self { provider, metrics }
    }

    async fn measure<T>(
        &self,
        call: &'static str,
        made: impl Future<Output = Result<T, ProviderError>> + Send,
    ) -> Result<T, ProviderError> {
        let mut running = Running {
            metrics: &self.metrics,
            call,
            outcome: GIVEN_UP,
            start: Instant::now(),
        };
        let result = made.await;
        running.outcome = outcome(&result);
        result
    }
}

/// The calls that are counted.
pub(super) const CALLS: [&str; 6] = ["launch", "claim", "find", "describe", "terminate", "list"];

/// What may become of a call.
pub(super) const OUTCOMES: [&str; 10] = [
    "done",
    "invalid-request",
    "no-capacity",
    "throttled",
    "denied",
    "failed",
    "claimed-by-another",
    "ended",
    "still-alive",
    GIVEN_UP,
];

/// Nobody waited for the answer any more.
const GIVEN_UP: &str = "given-up";

/// A call under way; it is counted when this is dropped.
struct Running<'a> {
    metrics: &'a Metrics,
    call: &'static str,
    outcome: &'static str,
    start: Instant,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let took: Duration = self.start.elapsed();
        self.metrics.called(self.call, self.outcome, took);
    }
}

fn outcome<T>(result: &Result<T, ProviderError>) -> &'static str {
    match result {
        Ok(_) => "done",
        Err(ProviderError::InvalidRequest(_)) => "invalid-request",
        Err(ProviderError::Capacity(_)) => "no-capacity",
        Err(ProviderError::Throttled { .. }) => "throttled",
        Err(ProviderError::Denied { .. }) => "denied",
        Err(ProviderError::Failed { .. }) => "failed",
        Err(ProviderError::ClaimedByAnother { .. }) => "claimed-by-another",
        Err(ProviderError::Ended(_)) => "ended",
        Err(ProviderError::StillAlive(_)) => "still-alive",
    }
}

#[async_trait]
impl Provider for Measured {
    async fn launch(&self, request: &LaunchRequest) -> Result<Instance, ProviderError> {
        self.measure("launch", self.provider.launch(request)).await
    }

    fn batch_limit(&self) -> usize {
        self.provider.batch_limit()
    }

    async fn launch_together(
        &self,
        request: &LaunchRequest,
        count: usize,
    ) -> Result<Vec<Instance>, ProviderError> {
        let launched = self.provider.launch_together(request, count);
        self.measure("launch", launched).await
    }

    fn kind(&self, shape: &Shape) -> Result<InstanceKind, ProviderError> {
        self.provider.kind(shape)
    }

    async fn claim(&self, id: &InstanceId, pod: &PodIdentity, name: &str) -> Result<(), ProviderError> {
        self.measure("claim", self.provider.claim(id, pod, name)).await
    }

    async fn find(&self, token: &LaunchToken) -> Result<Option<Instance>, ProviderError> {
        self.measure("find", self.provider.find(token)).await
    }

    async fn find_all(&self, token: &LaunchToken) -> Result<Vec<Instance>, ProviderError> {
        self.measure("find", self.provider.find_all(token)).await
    }

    async fn describe(&self, id: &InstanceId) -> Result<InstanceStatus, ProviderError> {
        self.measure("describe", self.provider.describe(id)).await
    }

    async fn ended(&self, id: &InstanceId) {
        self.provider.ended(id).await;
    }

    async fn interruption(&self, id: &InstanceId) -> String {
        self.provider.interruption(id).await
    }

    async fn terminate(&self, id: &InstanceId) -> Result<(), ProviderError> {
        self.measure("terminate", self.provider.terminate(id)).await
    }

    async fn list(&self, scope: &OwnerScope) -> Result<Vec<OwnedInstance>, ProviderError> {
        self.measure("list", self.provider.list(scope)).await
    }

    async fn console_tail(&self, id: &InstanceId) -> Option<String> {
        self.provider.console_tail(id).await
    }
}

#[cfg(test)]
mod tests {
    use peerpods_provider::{conformance, fake::FakeProvider};

    use super::*;

    #[tokio::test]
    async fn a_measured_provider_is_still_a_provider_and_its_calls_are_counted() {
        let metrics = Arc::new(Metrics::default());
        let provider = Arc::new(FakeProvider::new());
        let measured = Measured::new(provider, metrics.clone());
        let request = conformance::warm_request("measured");
        let instance = measured.launch(&request).await.unwrap();
        measured.terminate(&instance.id).await.unwrap();

        let text = metrics.text(&[], 0);
        for line in [
            r#"peerpods_adaptor_provider_calls_total{call="launch",outcome="done"} 1"#,
            r#"peerpods_adaptor_provider_calls_total{call="terminate",outcome="done"} 1"#,
            r#"peerpods_adaptor_provider_call_duration_seconds_count{call="launch"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "no {line:?} in\n{text}");
        }
    }

    #[tokio::test]
    async fn a_call_that_is_given_up_is_counted_too() {
        let metrics = Arc::new(Metrics::default());
        let measured = Measured::new(Arc::new(FakeProvider::new()), metrics.clone());
        let endless = measured.measure("find", std::future::pending::<Result<(), ProviderError>>());
        assert!(
            tokio::time::timeout(Duration::from_millis(1), endless)
                .await
                .is_err()
        );
        let line = r#"peerpods_adaptor_provider_calls_total{call="find",outcome="given-up"} 1"#;
        assert!(metrics.text(&[], 0).contains(line));
    }
}
