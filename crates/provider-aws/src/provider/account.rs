//! What is known of instances, and how they end: all that needs nothing but the account.

use peerpods_aws::{Action, Ec2, Parameters, RefusalKind};
use peerpods_provider::{InstanceId, ProviderError};
use serde::de::IgnoredAny;
use tokio::time::{Instant, sleep};

use super::lookup;
use crate::{
    Timing,
    addresses::{ElasticAddresses, Requests},
    answers::{Addressing, Existence, InstanceView, Reached},
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
    /// Where this process's instances have public addresses from; none where it launches none.
    pub(super) addressing: Option<Addressing>,
    pub(super) timing: Timing,
    pub(super) launches: Launches,
    pub(super) watch: Watch<InstanceView>,
    /// Of spot instances alone.
    pub(super) spot_requests: Watch<SpotRequestView>,
    /// Of instances that have elastic ones alone.
    pub(super) addresses: Watch<ElasticAddresses>,
    pub(super) address_requests: Requests,
}

/// What EC2 made of being asked to end an instance.
enum Asked {
    /// It ends, or has ended.
    Ends,
    /// EC2 does not know it, and has had time to.
    Unknown,
}

impl Account {
    pub(super) fn new(ec2: Ec2, reached: Reached, addressing: Option<Addressing>, timing: Timing) -> Self {
        Self {
            launches: Launches::new(timing),
            watch: Watch::new(ec2.clone()),
            spot_requests: Watch::new(ec2.clone()),
            addresses: Watch::new(ec2.clone()),
            address_requests: Requests::new(timing.visibility),
            ec2,
            reached,
            addressing,
            timing,
        }
    }

    /// Ends the instance; success means that it is gone with all that it had, or never was.
    pub(super) async fn terminate(&self, id: &InstanceId) -> Result<(), ProviderError> {
        if !lookup::is_instance(id) {
            return Ok(());
        }
        let shown = match self.ask_for_end(id).await? {
            Asked::Ends => self.await_end(id).await?,
            Asked::Unknown => None,
        };
        self.release_left(id, shown.as_ref()).await?;
        self.watch.forget(id).await;
        self.spot_requests.forget(id).await;
        self.launches.forget(id);
        Ok(())
    }

    /// Waits until the instance has ended, and answers what EC2 still shows of it.
    async fn await_end(&self, id: &InstanceId) -> Result<Option<InstanceView>, ProviderError> {
        let deadline = Instant::now() + self.timing.end;
        loop {
            let shown = self.shown(id, Instant::now()).await?;
            if has_ended(shown.as_ref()) {
                return Ok(shown);
            }
            if Instant::now() >= deadline {
                return Err(ProviderError::StillAlive(id.clone()));
            }
            sleep(self.timing.look).await;
        }
    }

    /// Asks EC2 to end the instance.
    async fn ask_for_end(&self, id: &InstanceId) -> Result<Asked, ProviderError> {
        let mut parameters = Parameters::new();
        parameters.set_list("InstanceId", [id.as_str()]);
        loop {
            let asked = Instant::now();
            let ended = self
                .ec2
                .call::<IgnoredAny>(Action::TerminateInstances, &parameters)
                .await;
            let error = match ended {
                Ok(_) => return Ok(Asked::Ends),
                Err(error) => error,
            };
            match error.refusal() {
                Some(RefusalKind::NotFound) => {}
                // A policy permits it by tags, which an instance loses some time after its end.
                Some(RefusalKind::Denied) => {
                    let shown = self.shown(id, Instant::now()).await?;
                    return if has_ended(shown.as_ref()) {
                        Ok(Asked::Ends)
                    } else {
                        Err(during("terminate", id)(error))
                    };
                }
                _ => return Err(during("terminate", id)(error)),
            }
            if self.launches.was_visible(self.launches.launched(id), asked) {
                return Ok(Asked::Unknown);
            }
            sleep(self.timing.look).await;
        }
    }
}

/// Whether an instance that EC2 shows so, or not, has ended.
pub(super) fn has_ended(shown: Option<&InstanceView>) -> bool {
    shown.is_none_or(|view| view.existence() == Existence::Ended)
}
