//! What an object is named, and what it says: pure functions of what the journal holds.

use std::fmt;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
    jiff::Timestamp,
};
use peerpods_api::{
    PeerPod, PeerPodPhase, PeerPodSpec, PeerPodStatus,
    names::{finalizers, labels},
};
use peerpods_provider::Instance;
use ring::digest;
use serde::{Deserialize, Serialize};

use super::Shown;
use crate::sandbox::Plan;

/// The API server takes no longer names.
const NAME_LIMIT: usize = 253;
/// 40 bits: two sandboxes of pods of one name will not share them.
const SUFFIX_BYTES: usize = 5;
/// The API server takes no longer values of labels.
const LABEL_LIMIT: usize = 63;

/// Which object, of which sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ObjectKey {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// An object of this name that is of another sandbox is none of ours.
    pub(crate) sandbox: String,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

impl ObjectKey {
    /// `POD-resource-SUFFIX`, as today's are named; the suffix follows from the sandbox, so that whoever asks again means
    /// the same.
    pub(crate) fn of(plan: &Plan) -> Self {
        let text = format!("{}\n{}", plan.node, plan.sandbox);
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        let suffix = format!("-resource-{}", hex::encode(&hash.as_ref()[..SUFFIX_BYTES]));
        let pod: String = plan
            .pod
            .pod_name
            .chars()
            .take(NAME_LIMIT - suffix.len())
            .collect();
        Self {
            namespace: plan.pod.pod_namespace.clone(),
            name: format!("{}{suffix}", pod.trim_end_matches(['-', '.'])),
            sandbox: plan.sandbox.to_string(),
        }
    }
}

/// The value of the label by which a node's objects are found; of two long names it may be the same.
pub(super) fn node_label(node: &str) -> String {
    let short: String = node.chars().take(LABEL_LIMIT).collect();
    short.trim_end_matches(['-', '.', '_']).to_owned()
}

/// All that stays the same of an object.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pub(super) key: ObjectKey,
    pub(super) pod_name: String,
    /// Stock shims do not tell it; then the pod is asked.
    pub(super) pod_uid: Option<String>,
    node: String,
    cloud_provider: &'static str,
}

impl Template {
    pub(super) fn new(plan: &Plan, cloud_provider: &'static str) -> Self {
        Self {
            key: ObjectKey::of(plan),
            pod_name: plan.pod.pod_name.clone(),
            pod_uid: plan.pod.pod_uid.clone(),
            node: plan.node.clone(),
            cloud_provider,
        }
    }

    /// The object as it is made, owned by the pod of this UID.
    pub(super) fn object(&self, pod_uid: &str) -> PeerPod {
        let spec = PeerPodSpec {
            cloud_provider: Some(self.cloud_provider.to_owned()),
            instance_id: None,
            node_name: Some(self.node.clone()),
            sandbox_id: Some(self.key.sandbox.clone()),
        };
        let mut object = PeerPod::new(&self.key.name, spec);
        object.metadata = ObjectMeta {
            name: Some(self.key.name.clone()),
            namespace: Some(self.key.namespace.clone()),
            finalizers: Some(vec![finalizers::PEER_POD.to_owned()]),
            labels: Some([(labels::PEER_POD_NODE.to_owned(), node_label(&self.node))].into()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: self.pod_name.clone(),
                uid: pod_uid.to_owned(),
                controller: Some(true),
                // To block the pod's own deletion takes a right on its finalizers, on OpenShift; the finalizer of the object
                // keeps the object without that.
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        };
        object
    }
}

/// The next status: what was known stays, times are set once.
pub(super) fn status(
    known: &PeerPodStatus,
    shown: &Shown,
    generation: Option<i64>,
    now: Timestamp,
) -> PeerPodStatus {
    let time = |known: &Option<Time>, reached: bool| known.clone().or_else(|| reached.then_some(Time(now)));
    let (phase, instance) = match shown {
        Shown::Launching => (PeerPodPhase::Launching, None),
        Shown::Booting(instance) => (PeerPodPhase::Booting, Some(instance)),
        Shown::Ready(instance) => (PeerPodPhase::Ready, Some(instance)),
        Shown::Draining(instance) => (PeerPodPhase::Draining, instance.as_ref()),
    };
    let (booting, ready) = (
        matches!(shown, Shown::Booting(_) | Shown::Ready(_)),
        matches!(shown, Shown::Ready(_)),
    );
    let addresses = |instance: &Instance| instance.addresses.iter().map(ToString::to_string).collect();
    PeerPodStatus {
        observed_generation: generation,
        phase: Some(phase),
        instance_id: instance
            .map(|one| one.id.to_string())
            .or_else(|| known.instance_id.clone()),
        instance_type: instance
            .and_then(|one| one.machine_type.clone())
            .or_else(|| known.instance_type.clone()),
        addresses: instance.map_or_else(|| known.addresses.clone(), addresses),
        launch_time: time(&known.launch_time, true),
        boot_time: time(&known.boot_time, booting),
        ready_time: time(&known.ready_time, ready),
        ..known.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::example;

    fn instance() -> Instance {
        let value = serde_json::json!({"id": "i-1", "addresses": ["10.0.0.7"], "machine_type": "m6a.large"});
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_name_follows_from_the_sandbox_and_fits() {
        let key = ObjectKey::of(&example("pod-1", 555_000));
        assert_eq!(key, ObjectKey::of(&example("pod-1", 555_001)));
        assert_ne!(key, ObjectKey::of(&example("pod-2", 555_000)));
        assert!(key.name.starts_with("web-resource-"), "{}", key.name);
        let mut plan = example("pod-1", 555_000);
        plan.pod.pod_name = format!("{}.{}", "a".repeat(232), "b".repeat(20));
        let long = ObjectKey::of(&plan).name;
        assert!(long.len() <= NAME_LIMIT && !long.contains(".-"), "{long}");
        assert_eq!(
            node_label(&format!("{}.{}", "n".repeat(62), "example")),
            "n".repeat(62)
        );
    }

    #[test]
    fn a_new_object_is_owned_by_its_pod_and_kept_by_the_finalizer() {
        let object = Template::new(&example("pod-1", 555_000), "qemu").object("u-1");
        let owner = &object.metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!(
            (owner.kind.as_str(), owner.uid.as_str(), owner.name.as_str()),
            ("Pod", "u-1", "web")
        );
        assert_eq!(object.metadata.finalizers.unwrap(), ["peer.pod/finalizer"]);
        assert_eq!(object.spec.cloud_provider.as_deref(), Some("qemu"));
    }

    #[test]
    fn a_status_keeps_what_was_known() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let launching = status(&PeerPodStatus::default(), &Shown::Launching, Some(1), at(1));
        let ready = status(&launching, &Shown::Ready(instance()), Some(1), at(5));
        // A restart of the adaptor shows the same state again.
        let again = status(&ready, &Shown::Ready(instance()), Some(1), at(9));
        assert_eq!(again, ready);
        assert_eq!(again.launch_time, Some(Time(at(1))));
        assert_eq!(again.ready_time, Some(Time(at(5))));
        assert_eq!(again.addresses, ["10.0.0.7"]);
        assert_eq!(again.instance_type.as_deref(), Some("m6a.large"));
        let draining = status(&again, &Shown::Draining(None), Some(1), at(10));
        assert_eq!(draining.instance_id.as_deref(), Some("i-1"));
        assert_eq!(draining.instance_type.as_deref(), Some("m6a.large"));
        assert_eq!(draining.phase, Some(PeerPodPhase::Draining));
    }
}
