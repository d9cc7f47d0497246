//! The provider's calls.

mod launch;
mod lookup;

use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use peerpods_aws::{Action, Aws, Ec2, Parameters, RefusalKind};
use peerpods_provider::{
    Instance, InstanceId, InstanceKind, InstanceStatus, LaunchRequest, LaunchToken, OwnedInstance,
    OwnerScope, PodIdentity, Provider, ProviderError, Shape,
};
use serde::de::IgnoredAny;
use tokio::time::{Instant, sleep};

use crate::{
    AwsProviderSettings, Timing,
    answers::{Console, Existence},
    claims::Turn,
    error::during,
    image::{Image, ImageCache},
    launches::Launches,
    request,
    tags::{self, NAME},
    types::{Catalog, Prices},
    watch::Watch,
    worker::Attachment,
};

/// Launches peer pod VMs as EC2 instances.
#[derive(Clone, Debug)]
pub struct AwsProvider {
    place: Arc<Place>,
}

/// Everything that the provider's calls share.
#[derive(Debug)]
struct Place {
    ec2: Ec2,
    settings: AwsProviderSettings,
    timing: Timing,
    attachment: Attachment,
    catalog: Catalog,
    image: Arc<Image>,
    images: ImageCache,
    launches: Launches,
    watch: Watch,
}

impl AwsProvider {
    /// Finds region and credentials, the VM image, the instance types and, on the worker, what settings leave out.
    ///
    /// # Errors
    /// [`ProviderError::InvalidRequest`] names the setting that cannot be used; others say what could not be asked.
    pub async fn connect(settings: AwsProviderSettings, timing: Timing) -> Result<Self, ProviderError> {
        let prices = match &settings.prices {
            None => Prices::bundled(),
            Some(path) => Prices::read(path).map_err(|error| {
                ProviderError::InvalidRequest(format!(
                    "PODVM_INSTANCE_PRICES: {} {}",
                    path.display(),
                    peerpods_error::chain(&error)
                ))
            })?,
        };
        let aws = Aws::connect(&settings.aws).await;
        let ec2 = aws.map_err(during("connect to", "AWS"))?.ec2();
        let attachment = Attachment::find(&settings).await?;
        let images = ImageCache::default();
        let image = images.get(&ec2, &settings.image).await?;
        let catalog = Catalog::load(&ec2, &settings.default_type, &settings.allowed_types, &prices);
        let catalog = catalog.await.map_err(during("find", "the instance types"))?;
        let place = Place {
            launches: Launches::new(timing),
            watch: Watch::new(ec2.clone()),
            ec2,
            settings,
            timing,
            attachment,
            catalog,
            image,
            images,
        };
        // What cannot be launched without a wish is found out now, not by the first pod.
        place.candidates(&Shape::default(), &place.image)?;
        Ok(Self {
            place: Arc::new(place),
        })
    }
}

#[async_trait]
impl Provider for AwsProvider {
    async fn launch(&self, request: &LaunchRequest) -> Result<Instance, ProviderError> {
        request::check_payload(&request.payload)?;
        let (place, request) = (self.place.clone(), request.clone());
        let token = request.token.clone();
        // It goes on when nobody waits for it any more: an answer that is read is worth more than a doubt.
        let launch = tokio::spawn(async move { place.launch(&request).await });
        launch.await.map_err(ProviderError::during("launch", token))?
    }

    fn kind(&self, shape: &Shape) -> Result<InstanceKind, ProviderError> {
        let place = &self.place;
        let candidates = place.candidates(shape, &place.image)?;
        let description = request::description(&place.settings, &place.attachment, shape);
        Ok(InstanceKind::new(format!("{candidates:?}: {description}")))
    }

    async fn claim(&self, id: &InstanceId, pod: &PodIdentity, name: &str) -> Result<(), ProviderError> {
        let _turn = Turn::of(id).await;
        let place = &self.place;
        let view = place
            .shown(id, Instant::now())
            .await?
            .filter(|view| view.status() == InstanceStatus::Alive)
            .ok_or_else(|| ProviderError::Ended(id.clone()))?;
        let (_, owner) = tags::owner(&view.tag_set.items).ok_or_else(|| {
            ProviderError::InvalidRequest(format!("the tags of {id} do not say whose it is"))
        })?;
        owner.claimed_by(id, pod)?;
        let pairs = tags::of_pod(pod)?;
        let pairs = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let mut parameters = Parameters::new();
        parameters
            .set_list("ResourceId", view.tagged())
            .set_tags("Tag", pairs.chain([(NAME, name)]));
        let tagged = place
            .ec2
            .call::<IgnoredAny>(Action::CreateTags, &parameters)
            .await;
        tagged.map(drop).map_err(during("claim", id))
    }

    async fn find(&self, token: &LaunchToken) -> Result<Option<Instance>, ProviderError> {
        let progress = self.place.launches.of(token).await;
        self.place.find(token, &progress).await
    }

    async fn describe(&self, id: &InstanceId) -> Result<InstanceStatus, ProviderError> {
        let fresh = Instant::now()
            .checked_sub(self.place.timing.freshness)
            .unwrap_or_else(Instant::now);
        let shown = self.place.shown(id, fresh).await?;
        Ok(shown.map_or_else(
            || InstanceStatus::Gone("EC2 does not know the instance".to_owned()),
            |view| view.status(),
        ))
    }

    async fn terminate(&self, id: &InstanceId) -> Result<(), ProviderError> {
        let place = &self.place;
        if !lookup::is_instance(id) {
            return Ok(());
        }
        if place.ask_for_end(id).await? {
            let deadline = Instant::now() + place.timing.end;
            while let Some(view) = place.shown(id, Instant::now()).await? {
                if view.existence() == Existence::Ended {
                    break;
                }
                if Instant::now() >= deadline {
                    return Err(ProviderError::StillAlive(id.clone()));
                }
                sleep(place.timing.look).await;
            }
        }
        place.watch.forget(id).await;
        place.launches.forget(id);
        Ok(())
    }

    async fn list(&self, scope: &OwnerScope) -> Result<Vec<OwnedInstance>, ProviderError> {
        self.place.list(scope).await
    }

    async fn console_tail(&self, id: &InstanceId) -> Option<String> {
        if !lookup::is_instance(id) {
            return None;
        }
        let mut parameters = Parameters::new();
        parameters.set("InstanceId", id);
        let console: Console = self
            .place
            .ec2
            .call(Action::GetConsoleOutput, &parameters)
            .await
            .inspect_err(|error| tracing::debug!(instance = %id, %error, "no console"))
            .ok()?;
        // Right after a launch there is none yet, which is an empty one.
        let encoded = console.output.unwrap_or_default();
        let bytes = BASE64_STANDARD.decode(encoded.trim()).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Place {
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
