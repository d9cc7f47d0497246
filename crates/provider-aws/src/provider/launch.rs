//! One launch, through all types and subnets that may have room.

use peerpods_aws::{Action, AwsError, RefusalKind};
use peerpods_provider::{Instance, LaunchRequest, ProviderError, Shape};
use tokio::time::{Instant, sleep};

use super::Place;
use crate::{
    Market,
    answers::{Existence, InstanceView, Launched},
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

    pub(super) async fn launch(&self, request: &LaunchRequest) -> Result<Instance, ProviderError> {
        let image = match &request.shape.image {
            None => self.image.clone(),
            Some(id) => self.images.get(&self.ec2, id).await?,
        };
        let candidates = self.candidates(&request.shape, &image)?;
        let mut progress = self.launches.of(&request.token).await;
        let first = match &*progress {
            Progress::Launched { instance, .. } => return Ok(instance.clone()),
            Progress::Doubtful { candidate, .. } => (*candidate).min(candidates.len() - 1),
            Progress::Absent => 0,
            // A client token counts in one zone. What a process before this one launched in another must be seen.
            Progress::Unseen if self.attachment.subnets.len() > 1 => {
                if let Some(found) = self.find(&request.token, &progress).await? {
                    return Ok(found);
                }
                0
            }
            Progress::Unseen => 0,
        };
        let mut full = Vec::new();
        for (number, candidate) in candidates.iter().enumerate().skip(first) {
            match self
                .try_candidate(request, &image, candidate, number, &mut progress)
                .await?
            {
                Outcome::Launched(instance) => return Ok(instance),
                Outcome::NoRoom(message) => full.push(message),
            }
        }
        Err(ProviderError::Capacity(full.join("; ")))
    }

    /// Makes the call for one candidate. `progress` says afterwards what is known, whatever the outcome.
    async fn try_candidate(
        &self,
        request: &LaunchRequest,
        image: &Image,
        candidate: &Candidate,
        number: usize,
        progress: &mut Progress,
    ) -> Result<Outcome, ProviderError> {
        let parameters = request::run_instances(&self.settings, &self.attachment, image, request, candidate)?;
        let was_doubtful = matches!(progress, Progress::Doubtful { .. });
        let asked = Instant::now();
        *progress = Progress::Doubtful {
            candidate: number,
            asked,
        };
        let answer = self.ec2.call::<Launched>(Action::RunInstances, &parameters).await;
        let error = match answer {
            Ok(answer) => {
                let view = answer.instances_set.items.into_iter().next();
                let view = view.ok_or_else(|| failed(request, "EC2 names no instance"))?;
                return self
                    .launched(request, view, progress)
                    .await
                    .map(Outcome::Launched);
            }
            Err(error) => error,
        };
        match error.refusal() {
            // Had an attempt before succeeded, EC2 would have answered with that: it knows the token before it looks for
            // room.
            Some(RefusalKind::Capacity) => {
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

    /// Takes note of an instance that EC2 launched now, or before for the same token.
    async fn launched(
        &self,
        request: &LaunchRequest,
        view: InstanceView,
        progress: &mut Progress,
    ) -> Result<Instance, ProviderError> {
        let id = view.id();
        if view.existence() != Existence::Lives {
            return Err(ProviderError::Ended(id));
        }
        let mut view = Some(view);
        for _ in 0..ADDRESS_LOOKS {
            if let Some(instance) = view.and_then(|view| view.instance(self.settings.reached)) {
                *progress = Progress::Launched {
                    instance: instance.clone(),
                    owner: request.owner.clone(),
                    launched: Instant::now(),
                };
                return Ok(instance);
            }
            sleep(self.timing.look).await;
            view = self
                .watch
                .look(&id, Instant::now())
                .await
                .map_err(during("launch", &request.token))?;
        }
        Err(failed(
            request,
            &format!("instance {id} has no address that it could be reached at"),
        ))
    }

    /// The instance of a token that EC2 knows with other parameters: those of a launch before a change of settings, or
    /// with another payload.
    async fn of_used_token(
        &self,
        request: &LaunchRequest,
        error: AwsError,
        progress: &mut Progress,
    ) -> Result<Instance, ProviderError> {
        let asked = Instant::now();
        loop {
            let views = self.of_token(&request.token).await;
            let views = views.map_err(during("launch", &request.token))?;
            let living = views.iter().find(|view| view.existence() == Existence::Lives);
            if let Some(view) = living.or_else(|| views.first()) {
                return self.launched(request, view.clone(), progress).await;
            }
            if self.launches.is_visible(asked) {
                return Err(during("launch", &request.token)(error));
            }
            sleep(self.timing.look).await;
        }
    }
}

/// What became of one candidate.
enum Outcome {
    Launched(Instance),
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

fn failed(request: &LaunchRequest, message: &str) -> ProviderError {
    ProviderError::Failed {
        action: "launch",
        subject: request.token.to_string(),
        source: message.into(),
    }
}
