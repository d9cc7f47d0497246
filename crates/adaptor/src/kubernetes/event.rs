//! Events: what a pod's user reads in `kubectl describe pod`.

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, api::PostParams};
use peerpods_error::shorten;
use peerpods_provider::PodIdentity;

use super::{Cluster, KubernetesError};

/// What the events are said to come from.
const CONTROLLER: &str = "peerpods.io/cloud-api-adaptor";
/// The API server takes no longer name of who reports.
const REPORTER_LIMIT: usize = 128;

/// Something that the user of a pod should know before it happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Warning<'a> {
    /// The event's own name. Whoever warns of the same thing again gives the same.
    pub(crate) name: &'a str,
    pub(crate) pod: &'a PodIdentity,
    /// The node's name.
    pub(crate) node: &'a str,
    /// A word for programs.
    pub(crate) reason: &'a str,
    /// At most 1024 bytes, for a person.
    pub(crate) note: &'a str,
}

impl Warning<'_> {
    fn event(&self, pod_uid: String) -> Event {
        let pod = self.pod;
        Event {
            metadata: ObjectMeta {
                name: Some(self.name.to_owned()),
                namespace: Some(pod.pod_namespace.clone()),
                ..ObjectMeta::default()
            },
            type_: Some("Warning".to_owned()),
            reason: Some(self.reason.to_owned()),
            action: Some("Watching".to_owned()),
            note: Some(self.note.to_owned()),
            event_time: Some(MicroTime(Timestamp::now())),
            regarding: Some(ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(pod.pod_name.clone()),
                namespace: Some(pod.pod_namespace.clone()),
                uid: Some(pod_uid),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(shorten(self.node, REPORTER_LIMIT)),
            ..Event::default()
        }
    }
}

impl Cluster {
    /// Writes the event, unless it is there. The account needs `create` on events of `events.k8s.io`, and `get` on pods.
    pub(crate) async fn warn(&self, warning: &Warning<'_>) -> Result<(), KubernetesError> {
        let pod = warning.pod;
        let pod_uid = match &pod.pod_uid {
            Some(uid) => uid.clone(),
            None => self.pod_uid(&pod.pod_namespace, &pod.pod_name).await?,
        };
        let event = &warning.event(pod_uid);
        self.call(|client| async move {
            let api: Api<Event> = Api::namespaced(client, &pod.pod_namespace);
            match api.create(&PostParams::default(), event).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
                made => made.map(drop),
            }
        })
        .await
    }
}
