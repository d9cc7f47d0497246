//! One launch, through all types and subnets that may have room.

use peerpods_aws::{Action, AwsError, Parameters, RefusalKind};
use peerpods_provider::{Assignment, Instance, LaunchRequest, ProviderError, Shape};
use tokio::{
    sync::OwnedMutexGuard,
    time::{Instant, sleep},
};

use super::Place;
use crate::{
    Market,
    answers::{Addressing, Existence, InstanceView, Launched},
    error::during,
    image::Image,
    launches::Progress,
    request::{self, Bought, Candidate},
    types,
};

/// The most combinations of type and subnet that one launch tries: each is a call of the scarcest kind, and whoever waits
/// for the pod should be told rather than wait for all of a long list.
const CANDIDATE_LIMIT: usize = 12;

/// How often to look for a public address, which an instance gets in the seconds after its launch: a minute in all.
const ADDRESS_LOOKS: u32 = 30;

impl Place {
    /// What to try for a shape, in order: the cheapest type in every subnet, then the next; where spot instances are wanted,
    /// all of that with them, and then on demand.
    pub(super) fn candidates(&self, shape: &Shape, image: &Image) -> Result<Vec<Candidate>, ProviderError> {
        if self.settings.launch_template.is_some() && *shape == Shape::default() {
            let of_template = |bought| Candidate {
                instance_type: None,
                subnet: None,
                bought,
            };
            return Ok(self.bought().into_iter().map(of_template).collect());
        }
        let types = types::choose(&self.catalog, shape, image.architecture)?;
        let subnets: Vec<Option<&String>> = match self.attachment.subnets.as_slice() {
            [] => vec![None],
            subnets => subnets.iter().map(Some).collect(),
        };
        let bought = self.bought();
        let of_each = CANDIDATE_LIMIT / bought.len();
        let all = bought.iter().flat_map(|bought| {
            let places = types.iter().flat_map(|instance_type| {
                subnets.iter().map(|subnet| Candidate {
                    instance_type: Some(instance_type.name.clone()),
                    subnet: subnet.cloned(),
                    bought: *bought,
                })
            });
            // A long list of one kind leaves room for the other.
            places.take(of_each)
        });
        Ok(all.collect())
    }

    /// What a launch buys, in order.
    fn bought(&self) -> Vec<Bought> {
        match self.settings.market {
            Market::OnDemand => vec![Bought::OnDemand],
            Market::SpotFirst => vec![Bought::Spot, Bought::OnDemand],
        }
    }

    pub(super) async fn launch(
        &self,
        request: &LaunchRequest,
        count: usize,
        mut progress: OwnedMutexGuard<Progress>,
    ) -> Result<Vec<Instance>, ProviderError> {
        let image = match &request.shape.image {
            None => self.image.clone(),
            Some(id) => self.images.get(&self.account.ec2, id).await?,
        };
        let candidates = self.candidates(&request.shape, &image)?;
        let first = match &*progress {
            Progress::Launched { instances, .. } => return Ok(instances.clone()),
            Progress::Doubtful { candidate, .. } => (*candidate).min(candidates.len() - 1),
            Progress::Absent => 0,
            // A client token counts in one zone. What a process before this one launched in another must be seen.
            Progress::Unseen if self.attachment.subnets.len() > 1 => {
                let found = self.account.find_all(&request.token, &progress).await?;
                if !found.is_empty() {
                    return Ok(found);
                }
                0
            }
            Progress::Unseen => 0,
        };
        let mut full = Vec::new();
        for (number, candidate) in candidates.iter().enumerate().skip(first) {
            let parameters = request::run_instances(
                &self.settings,
                &self.attachment,
                &image,
                request,
                candidate,
                count,
            )?;
            let tried = Tried {
                request,
                candidate,
                number,
            };
            match self.try_candidate(tried, &parameters, &mut progress).await? {
                Outcome::Launched(instances) => return Ok(instances),
                Outcome::NoRoom(message) => full.push(message),
            }
        }
        Err(ProviderError::Capacity(full.join("; ")))
    }

    /// Makes the call for one candidate. `progress` says afterwards what is known, whatever the outcome.
    async fn try_candidate(
        &self,
        tried: Tried<'_>,
        parameters: &Parameters,
        progress: &mut Progress,
    ) -> Result<Outcome, ProviderError> {
        let Tried {
            request,
            candidate,
            number,
        } = tried;
        let was_doubtful = matches!(progress, Progress::Doubtful { .. });
        let asked = Instant::now();
        *progress = Progress::Doubtful {
            candidate: number,
            asked,
        };
        let answer = self
            .account
            .ec2
            .call::<Launched>(Action::RunInstances, parameters)
            .await;
        let error = match answer {
            Ok(answer) => {
                let views = answer.instances_set.items;
                let launched = self.launched(request, views, progress).await;
                return launched.map(Outcome::Launched);
            }
            Err(error) => error,
        };
        match error.refusal() {
            Some(RefusalKind::Capacity) => {
                // An attempt before may have found room, and EC2 does not promise to tell of it before it looks for more.
                if was_doubtful || error.is_doubtful() {
                    *progress = Progress::Doubtful {
                        candidate: number,
                        asked: Instant::now(),
                    };
                    let found = self.account.find_all(&request.token, progress).await?;
                    if !found.is_empty() {
                        return Ok(Outcome::Launched(found));
                    }
                }
                *progress = Progress::Absent;
                let message = peerpods_error::chain(&error);
                tracing::info!(token = %request.token, ?candidate, message, "no room for a VM");
                return Ok(Outcome::NoRoom(describe(candidate, &error)));
            }
            Some(RefusalKind::IdempotencyMismatch | RefusalKind::TokenSpent) => {
                return self
                    .of_used_token(request, error, progress)
                    .await
                    .map(Outcome::Launched);
            }
            Some(_) if !error.is_doubtful() && !was_doubtful => *progress = Progress::Absent,
            _ => {
                *progress = Progress::Doubtful {
                    candidate: number,
                    asked: Instant::now(),
                }
            }
        }
        Err(during("launch", &request.token)(error))
    }

    /// Takes note of instances that EC2 launched now, or before for the same token.
    async fn launched(
        &self,
        request: &LaunchRequest,
        mut views: Vec<InstanceView>,
        progress: &mut Progress,
    ) -> Result<Vec<Instance>, ProviderError> {
        let named = views.first().map(InstanceView::id);
        let named = named.ok_or_else(|| failed(request, "EC2 names no instance"))?;
        views.retain(|view| view.existence() == Existence::Lives);
        if views.is_empty() {
            return Err(ProviderError::Ended(named));
        }
        views.iter().try_for_each(|view| self.check_interfaces(view))?;
        let instances = if views
            .iter()
            .all(|view| view.addressing() == Some(Addressing::Elastic))
        {
            self.with_elastic_addresses(request, views).await?
        } else {
            self.with_own_addresses(request, views).await?
        };
        *progress = Progress::Launched {
            instances: instances.clone(),
            owner: request.owner.clone(),
            launched: Instant::now(),
        };
        Ok(instances)
    }

    /// What a launch template says of interfaces is known when there is an instance.
    fn check_interfaces(&self, view: &InstanceView) -> Result<(), ProviderError> {
        let (has, needs) = (view.interfaces().len(), self.settings.interfaces.count());
        if usize::try_from(needs).is_ok_and(|needs| has >= needs) {
            return Ok(());
        }
        Err(ProviderError::InvalidRequest(format!(
            "instance {} has {has} network interface, and EXTERNAL_NETWORK_VIA_PODVM needs {needs}: a launch template has to \
             describe both",
            view.id()
        )))
    }

    /// The instances with the addresses that EC2 gives them by itself.
    async fn with_own_addresses(
        &self,
        request: &LaunchRequest,
        mut views: Vec<InstanceView>,
    ) -> Result<Vec<Instance>, ProviderError> {
        for _ in 0..ADDRESS_LOOKS {
            let with_addresses = views.iter().map(|view| view.instance(self.settings.reached));
            if let Some(instances) = with_addresses.collect::<Option<Vec<Instance>>>() {
                return Ok(instances);
            }
            sleep(self.account.timing.look).await;
            let asked = Instant::now();
            for view in &mut views {
                let shown = self.account.watch.look(&view.id(), asked).await;
                let shown = shown.map_err(during("launch", &request.token))?;
                *view = shown.unwrap_or_else(|| view.clone());
            }
        }
        let named: Vec<String> = views.iter().map(|view| view.id().to_string()).collect();
        Err(failed(
            request,
            &format!(
                "{} has no address that it could be reached at",
                named.join(" or ")
            ),
        ))
    }

    /// The instances of a token that EC2 knows with other parameters: those of a launch before a change of settings, or
    /// with another payload.
    async fn of_used_token(
        &self,
        request: &LaunchRequest,
        error: AwsError,
        progress: &mut Progress,
    ) -> Result<Vec<Instance>, ProviderError> {
        let asked = Instant::now();
        // Of a pod there is one; of a batch there may be more than EC2 shows now.
        let shown_at_once = matches!(request.owner.assignment, Assignment::Pod(_));
        loop {
            let looked = Instant::now();
            let views = self.account.of_token(&request.token).await;
            let views = views.map_err(during("launch", &request.token))?;
            let visible = self.account.launches.was_visible(asked, looked);
            if !views.is_empty() && (shown_at_once || visible) {
                return self.launched(request, views, progress).await;
            }
            if visible {
                return Err(during("launch", &request.token)(error));
            }
            sleep(self.account.timing.look).await;
        }
    }
}

/// What is tried for which launch.
#[derive(Clone, Copy)]
struct Tried<'a> {
    request: &'a LaunchRequest,
    candidate: &'a Candidate,
    /// The candidate's, among all.
    number: usize,
}

/// What became of one candidate.
enum Outcome {
    Launched(Vec<Instance>),
    /// EC2 has no room, in these words.
    NoRoom(String),
}

fn describe(candidate: &Candidate, error: &AwsError) -> String {
    let place = |value: &Option<String>| {
        value
            .clone()
            .unwrap_or_else(|| "the launch template's".to_owned())
    };
    let (instance_type, subnet) = (place(&candidate.instance_type), place(&candidate.subnet));
    let bought = match candidate.bought {
        Bought::OnDemand => "",
        Bought::Spot => "spot ",
    };
    format!("{bought}{instance_type} in {subnet}: {error}")
}

pub(super) fn failed(request: &LaunchRequest, message: &str) -> ProviderError {
    ProviderError::Failed {
        action: "launch",
        subject: request.token.to_string(),
        source: message.into(),
    }
}
