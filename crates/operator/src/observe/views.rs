//! Of every object, what a plan depends on.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{ContainerStatus, Node as FullNode, Pod, Secret},
    apimachinery::pkg::api::resource::Quantity,
    jiff::Timestamp,
};
use kube::{Resource, api::DynamicObject, core::ObjectMeta};
use peerpods_api::names;
use serde::{Deserialize, Serialize};

use crate::{
    names::{COMPONENT, RUNTIME_SINCE},
    observed::{Component, ComponentPod, Credentials, Node, NodeName, PodState},
};

/// More of what a failed program printed helps nobody.
const MESSAGE_CHARACTERS: usize = 300;
/// Reasons for which a container waits without anything being wrong.
const ORDINARY: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// A node without its images, addresses and the rest: that is most of it.
#[derive(Clone, Debug, Deserialize, Serialize, Resource)]
#[resource(inherit = "FullNode")]
pub(crate) struct NodeView {
    metadata: ObjectMeta,
    #[serde(default)]
    status: NodeStatusView,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct NodeStatusView {
    #[serde(default)]
    capacity: BTreeMap<String, Quantity>,
}

impl NodeView {
    pub(crate) fn node(mut self) -> Node {
        let annotations = self.metadata.annotations.unwrap_or_default();
        Node {
            labels: self.metadata.labels.unwrap_or_default(),
            runtime_since: annotations.get(RUNTIME_SINCE).and_then(|text| text.parse().ok()),
            capacity: self
                .status
                .capacity
                .remove(names::VM_RESOURCE)
                .map(|quantity| quantity.0),
        }
    }
}

/// The object itself, without what others keep in it for themselves.
pub(crate) fn whole<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}

/// An object as JSON. Keys of certificates are not kept.
pub(crate) fn object(object: DynamicObject) -> serde_json::Value {
    let mut object = serde_json::to_value(whole(object)).unwrap_or_default();
    if let Some(key) = object["data"]
        .as_object_mut()
        .and_then(|data| data.get_mut("tls.key"))
    {
        // Whether there is one is what counts; this is "kept" in base64.
        *key = "a2VwdA==".into();
    }
    object
}

pub(super) fn credentials(secret: Secret) -> Credentials {
    let filled = secret
        .data
        .unwrap_or_default()
        .into_iter()
        .filter(|(_, value)| !value.0.is_empty());
    let of = |text: Option<String>| text.unwrap_or_default();
    Credentials {
        keys: filled.map(|(key, _)| key).collect(),
        version: format!(
            "{}/{}",
            of(secret.metadata.uid),
            of(secret.metadata.resource_version)
        ),
    }
}

/// A pod of ours that is not being deleted.
pub(super) fn component(pod: Pod) -> Option<ComponentPod> {
    let label = pod.metadata.labels.as_ref()?.get(COMPONENT)?;
    let component = Component::ALL
        .into_iter()
        .find(|component| component.label() == label)?;
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    Some(ComponentPod {
        component,
        node: pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .map(NodeName),
        state: state(&pod),
        created: pod
            .metadata
            .creation_timestamp
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
    })
}

fn state(pod: &Pod) -> PodState {
    let Some(status) = &pod.status else {
        return PodState::Starting;
    };
    let conditions = status.conditions.as_deref().unwrap_or_default();
    if conditions
        .iter()
        .any(|one| one.type_ == "Ready" && one.status == "True")
    {
        return PodState::Ready;
    }
    let failing = |reason: &str, message: Option<&String>| PodState::Failing {
        reason: reason.to_owned(),
        message: message
            .map_or("", |text| text.trim())
            .chars()
            .take(MESSAGE_CHARACTERS)
            .collect(),
    };
    let unscheduled = conditions
        .iter()
        .find(|one| one.type_ == "PodScheduled" && one.status == "False");
    if let Some(condition) = unscheduled {
        return failing(
            condition.reason.as_deref().unwrap_or("Unschedulable"),
            condition.message.as_ref(),
        );
    }
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let trouble = containers
        .iter()
        .find_map(|container| trouble(container, &failing));
    trouble.unwrap_or(PodState::Starting)
}

fn trouble(
    container: &ContainerStatus,
    failing: &dyn Fn(&str, Option<&String>) -> PodState,
) -> Option<PodState> {
    let last = container
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    let last_words = last.and_then(|end| end.message.as_ref());
    let state = container.state.as_ref()?;
    if let Some(end) = state.terminated.as_ref().filter(|end| end.exit_code != 0) {
        return Some(failing(
            end.reason.as_deref().unwrap_or("Error"),
            end.message.as_ref(),
        ));
    }
    let waiting = state.waiting.as_ref()?;
    let reason = waiting
        .reason
        .as_deref()
        .filter(|reason| !ORDINARY.contains(reason))?;
    Some(failing(reason, last_words.or(waiting.message.as_ref())))
}

/// `NAMESPACE/NAME` of a pod of the runtime class that has not finished.
pub(super) fn user_of_the_class(pod: &Pod) -> Option<String> {
    let is_user = pod.spec.as_ref()?.runtime_class_name.as_deref() == Some(names::RUNTIME_CLASS);
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    is_user.then(|| format!("{}/{}", of(&pod.metadata.namespace), of(&pod.metadata.name)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: serde_json::Value) -> Pod {
        let labels = json!({(COMPONENT): "node-install"});
        serde_json::from_value(json!({"metadata": {"labels": labels}, "spec": {"nodeName": "one", "containers": []}, "status": status}))
            .unwrap()
    }

    #[test]
    fn a_pod_that_fails_says_what_it_printed_last() {
        let waiting = json!({"containerStatuses": [{
            "name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
            "lastState": {"terminated": {"exitCode": 1, "message": "cannot write /etc\n"}},
        }]});
        let failing = PodState::Failing {
            reason: "CrashLoopBackOff".into(),
            message: "cannot write /etc".into(),
        };
        assert_eq!(component(pod(waiting)).unwrap().state, failing);
        let creating = json!({"containerStatuses": [{
            "name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ContainerCreating"}},
        }]});
        assert_eq!(component(pod(creating)).unwrap().state, PodState::Starting);
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        assert_eq!(component(pod(ready)).unwrap().state, PodState::Ready);
    }

    #[test]
    fn no_key_and_no_credential_is_kept() {
        let secret: DynamicObject =
            serde_json::from_value(json!({"metadata": {"name": "a"}, "data": {"tls.key": "c2VjcmV0"}}))
                .unwrap();
        assert!(!object(secret).to_string().contains("c2VjcmV0"));
        let data = json!({"data": {"AWS_ACCESS_KEY_ID": "c2VjcmV0", "EMPTY": ""}});
        let kept = credentials(serde_json::from_value(data).unwrap());
        assert_eq!(kept.keys.into_iter().collect::<Vec<_>>(), ["AWS_ACCESS_KEY_ID"]);
    }
}
