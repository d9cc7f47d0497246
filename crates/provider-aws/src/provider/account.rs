//! What is known of instances, and how they end: all that needs nothing but the account.

use peerpods_aws::{Action, Ec2, Parameters, RefusalKind};
use peerpods_provider::{InstanceId, ProviderError};
use serde::de::IgnoredAny;
use tokio::time::{Instant, sleep};

use super::lookup;
use crate::{
    Timing,
    answers::{Existence, InstanceView, Reached},
    error::during,
    launches::Launches,
    spot::SpotRequestView,
    watch::Watch,
};

/// One account in one region, with what this process knows of its instances.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) ec2: Ec2,
    pub(super) reached: Reached,
    pub(super) timing: Timing,
    pub(super) launches: Launches,
    pub(super) watch: Watch<InstanceView>,
    /// Of spot instances alone.
    pub(super) spot_requests: Watch<SpotRequestView>,
}

impl Account {
    pub(super) fn new(ec2: Ec2, reached: Reached, timing: Timing) -> Self {
        Self {
            launches: Launches::new(timing),
            watch: Watch::new(ec2.clone()),
            spot_requests: Watch::new(ec2.clone()),
            ec2,
            reached,
            timing,
        }
    }

    /// Ends the instance; success means that it is gone, or never was.
    pub(super) async fn terminate(&self, id: &InstanceId) -> Result<(), ProviderError> {
        if !lookup::is_instance(id) {
            return Ok(());
        }
        if self.ask_for_end(id).await? {
            let deadline = Instant::now() + self.timing.end;
            while let Some(view) = self.shown(id, Instant::now()).await? {
                if view.existence() == Existence::Ended {
                    break;
                }
                if Instant::now() >= deadline {
                    return Err(ProviderError::StillAlive(id.clone()));
                }
                sleep(self.timing.look).await;
            }
        }
        self.watch.forget(id).await;
        self.spot_requests.forget(id).await;
        self.launches.forget(id);
        Ok(())
    }

    async fn has_ended(&self, id: &InstanceId) -> Result<bool, ProviderError> {
        let shown = self.shown(id, Instant::now()).await?;
        Ok(shown.is_none_or(|view| view.existence() == Existence::Ended))
    }

    /// Asks EC2 to end the instance; answers whether there was one.
    async fn ask_for_end(&self, id: &InstanceId) -> Result<bool, ProviderError> {
        let mut parameters = Parameters::new();
        parameters.set_list("InstanceId", [id.as_str()]);
        loop {
            let ended = self
                .ec2
                .call::<IgnoredAny>(Action::TerminateInstances, &parameters)
                .await;
            let error = match ended {
                Ok(_) => return Ok(true),
                Err(error) => error,
            };
            match error.refusal() {
                Some(RefusalKind::NotFound) => {}
                // A policy permits it by tags, which an instance loses some time after its end.
                Some(RefusalKind::Denied) if self.has_ended(id).await? => return Ok(false),
                _ => return Err(during("terminate", id)(error)),
            }
            if self.launches.is_visible(self.launches.launched(id)) {
                return Ok(false);
            }
            sleep(self.timing.look).await;
        }
    }
}
