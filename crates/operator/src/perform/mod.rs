//! Does what a plan says, and says what could not be done.

mod account;
mod image;
mod objects;
mod reap;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use peerpods_error::chain;
use peerpods_provider::Reaper;
use tokio::time::timeout;

pub(crate) use self::account::Account;
use crate::{
    installation::Installation,
    metrics::{Metrics, Outcome},
    names::MANAGER,
    observe::Cluster,
    plan::{Action, Announcement, Regarding, Severity},
};

/// How many calls are under way at once: 500 nodes change within a minute, and an API server feels nothing of it.
const CALLS_AT_ONCE: usize = 8;
/// How long one action may take. The API server answers in milliseconds; a provider ends a VM within a minute or two.
const ACTION_LIMIT: Duration = Duration::from_secs(150);

/// With what this operator can end VMs, by the name that PeerPods call the provider; `aws` is reached with the settings and
/// credentials of the cluster where it is not among these.
pub type Providers = BTreeMap<String, Arc<dyn Reaper>>;

/// Why an action could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActionError {
    #[error("cannot {action} {subject}")]
    Call {
        action: &'static str,
        subject: String,
        #[source]
        source: kube::Error,
    },
    #[error("cannot issue the webhook's certificate")]
    Certificate(#[source] rcgen::Error),
    #[error("cannot end the VM of PeerPod {peer_pod}")]
    Reap {
        peer_pod: String,
        #[source]
        source: peerpods_provider::ProviderError,
    },
    #[error("cannot reach the account of PeerPod {peer_pod}: {problem}")]
    Account { peer_pod: String, problem: String },
    #[error("{action} took longer than {} seconds", ACTION_LIMIT.as_secs())]
    Late { action: &'static str },
}

impl ActionError {
    fn call(action: &'static str, subject: impl ToString) -> impl FnOnce(kube::Error) -> Self {
        let subject = subject.to_string();
        move |source| Self::Call {
            action,
            subject,
            source,
        }
    }
}

/// Does actions, with the rights of one client.
pub(crate) struct Performer<'a> {
    pub(crate) client: Client,
    pub(crate) cluster: &'a Cluster,
    pub(crate) installation: &'a Installation,
    pub(crate) providers: &'a Providers,
    pub(crate) account: Account,
    pub(crate) metrics: &'a Metrics,
    pub(crate) recorder: Recorder,
}

/// What events are said to come from.
pub(crate) fn recorder(client: &Client, identity: &str) -> Recorder {
    let reporter = Reporter {
        controller: MANAGER.to_owned(),
        instance: Some(identity.to_owned()),
    };
    Recorder::new(client.clone(), reporter)
}

impl Performer<'_> {
    /// Does all actions, some at once; gives what failed, in words.
    pub(crate) async fn perform(&self, actions: &[Action]) -> Vec<String> {
        let (mut waiting, mut under_way) = (actions.iter(), FuturesUnordered::new());
        let mut failures = Vec::new();
        loop {
            let room = CALLS_AT_ONCE - under_way.len();
            under_way.extend(waiting.by_ref().take(room).map(|action| self.one(action)));
            match under_way.next().await {
                Some(failure) => failures.extend(failure),
                None => break,
            }
        }
        failures.sort();
        failures.dedup();
        failures
    }

    async fn one(&self, action: &Action) -> Option<String> {
        let name = name(action);
        let outcome = timeout(ACTION_LIMIT, self.attempt(action)).await;
        let outcome = outcome.unwrap_or(Err(ActionError::Late { action: name }));
        self.metrics.acted(
            name,
            if outcome.is_ok() {
                Outcome::Done
            } else {
                Outcome::Failed
            },
        );
        match outcome {
            Ok(()) => {
                tracing::debug!(action = name, "done");
                None
            }
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(action = name, error, "an action failed; trying again");
                Some(error)
            }
        }
    }

    async fn attempt(&self, action: &Action) -> Result<(), ActionError> {
        match action {
            Action::SetFinalizers {
                kata_config,
                finalizers,
                resource_version,
            } => {
                self.set_finalizers(kata_config, finalizers, resource_version.as_deref())
                    .await
            }
            Action::Apply(object) => self.apply(object).await,
            Action::Remove(key) => self.remove(key).await,
            Action::IssueCertificate { previous_authority } => {
                self.issue_certificate(previous_authority.as_deref()).await
            }
            Action::CreateConfig(config) => self.create_config(config).await,
            Action::RemoveConfig(name) => self.remove_config(name).await,
            Action::PatchNode(patch) => self.patch_node(patch).await,
            Action::SetCapacity { node, capacity } => self.set_capacity(node, *capacity).await,
            Action::SetKataStatus { kata_config, status } => self.set_kata_status(kata_config, status).await,
            Action::SetConfigStatus {
                namespace,
                name,
                status,
            } => self.set_config_status(namespace, name, status).await,
            Action::SetImage(image) => self.set_image(image).await,
            Action::Reap(peer_pod) => self.reap(peer_pod).await,
            Action::Announce(announcement) => self.announce(announcement).await,
        }
    }

    async fn announce(&self, announcement: &Announcement) -> Result<(), ActionError> {
        let event = Event {
            type_: match announcement.severity {
                Severity::Normal => EventType::Normal,
                Severity::Warning => EventType::Warning,
            },
            reason: announcement.reason.clone(),
            note: Some(announcement.message.chars().take(NOTE_CHARACTERS).collect()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let regarding = match &announcement.regarding {
            Regarding::KataConfig { name, uid } => ObjectReference {
                api_version: Some("kataconfiguration.openshift.io/v1".to_owned()),
                kind: Some("KataConfig".to_owned()),
                name: Some(name.clone()),
                uid: Some(uid.clone()),
                ..ObjectReference::default()
            },
            // The kubelet's own events name nodes so, and `kubectl describe node` looks for them.
            Regarding::Node(node) => ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(node.0.clone()),
                uid: Some(node.0.clone()),
                ..ObjectReference::default()
            },
        };
        let published = self.recorder.publish(&event, &regarding).await;
        published.map_err(ActionError::call("publish an event of", &announcement.reason))
    }
}

/// The API server takes no longer notes.
const NOTE_CHARACTERS: usize = 1000;

/// What [`name`] gives.
pub(crate) const ACTION_NAMES: [&str; 13] = [
    "set-finalizers",
    "apply",
    "remove",
    "issue-certificate",
    "create-peerpodconfig",
    "remove-peerpodconfig",
    "patch-node",
    "set-capacity",
    "set-kataconfig-status",
    "set-peerpodconfig-status",
    "set-image",
    "reap",
    "announce",
];

/// For metrics and logs.
fn name(action: &Action) -> &'static str {
    match action {
        Action::SetFinalizers { .. } => "set-finalizers",
        Action::Apply(_) => "apply",
        Action::Remove(_) => "remove",
        Action::IssueCertificate { .. } => "issue-certificate",
        Action::CreateConfig(_) => "create-peerpodconfig",
        Action::RemoveConfig(_) => "remove-peerpodconfig",
        Action::PatchNode(_) => "patch-node",
        Action::SetCapacity { .. } => "set-capacity",
        Action::SetKataStatus { .. } => "set-kataconfig-status",
        Action::SetConfigStatus { .. } => "set-peerpodconfig-status",
        Action::SetImage(_) => "set-image",
        Action::Reap(_) => "reap",
        Action::Announce(_) => "announce",
    }
}
