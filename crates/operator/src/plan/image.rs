//! The VM image in EC2: where the settings name none, a Job publishes ours, and its id becomes a setting.
//!
//! A publication is known by the disk's digest: a second one finds the image of the first. The Job goes as soon as a setting
//! names an image, whoever wrote it; an image never does.

use peerpods_api::{KataConfig, names};
use serde_json::Value;

use super::{
    action::{Action, Plan},
    conditions::Said,
    removal::is_going,
    settings,
};
use crate::{
    installation::Installation,
    managed::{Kind, ObjectKey},
    manifests, names as ours,
    observed::{Component, ImageId, Observed, PodState},
};

/// How far a publication is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Publication {
    /// It goes on.
    UnderWay,
    /// It fails, and is tried again.
    Failing { why: String },
    /// The image is there; the setting follows.
    Done(ImageId),
}

/// What is to be published, if anything.
pub(super) fn plan(observed: &Observed, installation: &Installation, plan: &mut Plan) -> Option<Publication> {
    let key = ObjectKey::new(Kind::Job, ours::IMAGE_PUBLISHER);
    let there = observed.objects.get(&key);
    if !is_wanted(observed) {
        if there.is_some_and(|there| !is_going(there)) {
            plan.add(Action::Remove(key));
        }
        return None;
    }
    let wanted = manifests::image_publisher(installation, observed);
    let publication = match there {
        None => {
            plan.add(Action::Apply(wanted));
            Publication::UnderWay
        }
        Some(there) if is_going(there) => Publication::UnderWay,
        // The template of a Job cannot change: another one takes its place.
        Some(there) if !wanted.is_in(there) => {
            plan.add(Action::Remove(key));
            Publication::UnderWay
        }
        Some(there) => progress(there, observed),
    };
    if let Publication::Done(image) = &publication {
        plan.add(Action::SetImage(image.clone()));
    }
    Some(publication)
}

/// EC2 boots images of its own, and nobody says which.
fn is_wanted(observed: &Observed) -> bool {
    let Some(settings) = &observed.settings else {
        return false;
    };
    // Adaptors get the Secret and the ConfigMap alike.
    let credentials = observed.credentials.as_ref();
    settings::value(settings, "CLOUD_PROVIDER") == Some(ours::AWS)
        && settings::value(settings, names::IMAGE_SETTING).is_none()
        && !credentials.is_some_and(|credentials| credentials.keys.contains(names::IMAGE_SETTING))
}

/// What the Job's last pod says; a pod of a Job that was there before says nothing of this one.
fn progress(job: &Value, observed: &Observed) -> Publication {
    let uid = job["metadata"]["uid"].as_str();
    let pods = observed
        .components
        .iter()
        .filter(|pod| pod.component == Component::ImagePublisher && pod.owner.as_deref() == uid);
    let failing = |why: String| Publication::Failing { why };
    match pods.max_by_key(|pod| pod.created).map(|pod| &pod.state) {
        Some(PodState::Finished { message }) => message.parse::<ImageId>().map_or_else(
            |_| failing(format!("it tells {message:?}, which is no image's id")),
            Publication::Done,
        ),
        Some(PodState::Failing { reason, message }) => failing(format!("{reason}: {message}")),
        Some(PodState::Starting | PodState::Ready) | None => Publication::UnderWay,
    }
}

impl Publication {
    /// The condition.
    pub(super) fn said(&self) -> Said {
        let kind = names::conditions::IMAGE_PUBLISHED;
        match self {
            Self::UnderWay => Said::no(kind, PUBLISHING, self.to_string()),
            Self::Failing { .. } => Said::no(kind, "PublishingFailed", self.to_string()),
            Self::Done(_) => Said::yes(kind, "Published", self.to_string()),
        }
    }

    /// Why no pod can run yet.
    pub(super) fn cause(&self) -> (&'static str, String) {
        match self {
            Self::UnderWay | Self::Done(_) => (PUBLISHING, self.to_string()),
            Self::Failing { .. } => ("ImageNotPublished", self.to_string()),
        }
    }
}

/// Why an image is not published that will be.
pub(super) const PUBLISHING: &str = "Publishing";

impl std::fmt::Display for Publication {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let setting = names::IMAGE_SETTING;
        match self {
            Self::UnderWay => write!(
                formatter,
                "{setting} is empty: Job {} publishes the VM image, which takes some minutes",
                ours::IMAGE_PUBLISHER
            ),
            Self::Failing { why } => write!(
                formatter,
                "the VM image cannot be published, which is tried again: {why}; give the account of Job {} what \
                 `peerpodctl image publish --help` names, or set {setting} in {}",
                ours::IMAGE_PUBLISHER,
                names::SETTINGS_CONFIG_MAP
            ),
            Self::Done(image) => write!(formatter, "the VM image is published: {setting} is {image}"),
        }
    }
}

/// What was said of an image stays as long as that image is the one in force.
pub(super) fn is_still_said(config: &KataConfig, observed: &Observed) -> bool {
    let image = observed
        .settings
        .as_ref()
        .and_then(|settings| settings::value(settings, names::IMAGE_SETTING));
    let conditions = config.status.iter().flat_map(|status| &status.conditions);
    let mut said = conditions.filter(|one| one.type_ == names::conditions::IMAGE_PUBLISHED);
    said.any(|one| {
        one.status == "True" && image.is_some_and(|image| one.message.split(' ').any(|word| word == image))
    })
}
