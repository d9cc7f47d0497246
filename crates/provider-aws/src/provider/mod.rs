//! The provider's calls.

mod account;
mod addresses;
mod interruption;
mod launch;
mod lookup;
mod reaper;

pub use reaper::AwsReaper;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use peerpods_aws::{Action, Aws, Parameters};
use peerpods_provider::{
    Instance, InstanceId, InstanceKind, InstanceStatus, LaunchRequest, LaunchToken, OwnedInstance,
    OwnerScope, PodIdentity, Provider, ProviderError, Shape,
};
use serde::de::IgnoredAny;
use tokio::time::Instant;

use self::account::Account;
use crate::{
    AwsProviderSettings, Timing,
    answers::{Addressing, Console},
    claims::Turn,
    error::during,
    image::{Image, ImageCache},
    request,
    tags::{self, NAME},
    types::{Catalog, Prices},
    worker::Attachment,
};

/// The most instances of one call: EC2 advises several smaller ones, since what one asks for has to be found in one zone.
const BATCH_LIMIT: usize = 50;

/// The same where each needs four calls for its elastic addresses, of which EC2 takes five a second: each waits for all.
const ELASTIC_BATCH_LIMIT: usize = 5;

/// This long ago, or now where the clock does not reach back that far.
fn ago(age: Duration) -> Instant {
    let now = Instant::now();
    now.checked_sub(age).unwrap_or(now)
}

/// Launches peer pod VMs as EC2 instances.
#[derive(Clone, Debug)]
pub struct AwsProvider {
    place: Arc<Place>,
}

/// Everything that the provider's calls share.
#[derive(Debug)]
struct Place {
    account: Account,
    settings: AwsProviderSettings,
    attachment: Attachment,
    catalog: Catalog,
    image: Arc<Image>,
    images: ImageCache,
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
        let catalog = Catalog::load(
            &ec2,
            &settings.default_type,
            &settings.allowed_types,
            settings.interfaces,
            &prices,
        );
        let catalog = catalog.await.map_err(during("find", "the instance types"))?;
        let place = Place {
            account: Account::new(ec2, settings.reached, Some(settings.addressing()), timing),
            settings,
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
        let instances = self.launch_together(request, 1).await?;
        let first = instances.into_iter().next();
        first.ok_or_else(|| launch::failed(request, "EC2 names no instance"))
    }

    fn batch_limit(&self) -> usize {
        match self.place.settings.addressing() {
            Addressing::Automatic => BATCH_LIMIT,
            Addressing::Elastic => ELASTIC_BATCH_LIMIT,
        }
    }

    async fn launch_together(
        &self,
        request: &LaunchRequest,
        count: usize,
    ) -> Result<Vec<Instance>, ProviderError> {
        request::check_payload(&request.payload)?;
        let (place, request) = (self.place.clone(), request.clone());
        let token = request.token.clone();
        // Whoever looks for the token from now on waits for what comes of it.
        let progress = place.account.launches.of(&token).await;
        // It goes on when nobody waits for it any more: an answer that is read is worth more than a doubt.
        let launch = tokio::spawn(async move { place.launch(&request, count, progress).await });
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
        let account = &self.place.account;
        let view = account
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
        let addresses = account.addresses_of(&view).await?;
        let allocations = addresses.0.iter().map(|address| address.allocation_id.as_str());
        let mut parameters = Parameters::new();
        parameters
            .set_list("ResourceId", view.tagged().chain(allocations))
            .set_tags("Tag", pairs.chain([(NAME, name)]));
        let tagged = account
            .ec2
            .call::<IgnoredAny>(Action::CreateTags, &parameters)
            .await;
        tagged.map(drop).map_err(during("claim", id))
    }

    async fn find(&self, token: &LaunchToken) -> Result<Option<Instance>, ProviderError> {
        let progress = self.place.account.launches.of(token).await;
        self.place.account.find(token, &progress).await
    }

    async fn find_all(&self, token: &LaunchToken) -> Result<Vec<Instance>, ProviderError> {
        let progress = self.place.account.launches.of(token).await;
        self.place.account.find_all(token, &progress).await
    }

    async fn describe(&self, id: &InstanceId) -> Result<InstanceStatus, ProviderError> {
        let account = &self.place.account;
        let shown = account.shown(id, ago(account.timing.freshness)).await?;
        Ok(shown.map_or_else(
            || InstanceStatus::Gone("EC2 does not know the instance".to_owned()),
            |view| view.status(),
        ))
    }

    async fn interruption(&self, id: &InstanceId) -> String {
        self.place.account.interruption(id).await
    }

    async fn terminate(&self, id: &InstanceId) -> Result<(), ProviderError> {
        self.place.account.terminate(id).await
    }

    async fn list(&self, scope: &OwnerScope) -> Result<Vec<OwnedInstance>, ProviderError> {
        self.place.account.list(scope).await
    }

    async fn console_tail(&self, id: &InstanceId) -> Option<String> {
        if !lookup::is_instance(id) {
            return None;
        }
        let mut parameters = Parameters::new();
        parameters.set("InstanceId", id);
        let console: Console = self
            .place
            .account
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
