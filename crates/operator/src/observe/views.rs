//! Of every object, what a plan depends on.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        ConfigMap, ContainerState, ContainerStateTerminated, ContainerStatus, Node as FullNode, Pod, Secret,
    },
    apimachinery::pkg::api::resource::Quantity,
    jiff::Timestamp,
};
use kube::{Resource, api::DynamicObject, core::ObjectMeta};
use peerpods_api::names;
use serde::{Deserialize, Serialize};

use super::machine_configs;
use crate::{
    names::{COMPONENT, RUNTIME_SINCE, SETTINGS_REFUSED},
    observed::{Component, ComponentPod, Credentials, Node, NodeName, PodState},
};

/// More of what a failed program printed helps nobody.
const MESSAGE_CHARACTERS: usize = 1000;
/// Reasons for which a container waits without anything being wrong.
const ORDINARY: [&str; 2] = ["ContainerCreating", "PodInitializing"];
/// What the kubelet says of a container that it lets wait because it fails again and again.
const FAILS_AGAIN: &str = "CrashLoopBackOff";

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
            machine_config: machine_configs::of_node(&annotations),
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

/// The settings.
pub(crate) fn settings(map: ConfigMap) -> BTreeMap<String, String> {
    map.data.unwrap_or_default()
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
        owner: pod
            .metadata
            .owner_references
            .iter()
            .flatten()
            .find(|owner| owner.controller == Some(true))
            .map(|owner| owner.uid.clone()),
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
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    if status.phase.as_deref() == Some("Succeeded") {
        let ends = containers
            .iter()
            .find_map(|container| container.state.as_ref()?.terminated.as_ref());
        let message = ends.and_then(|end| end.message.as_deref());
        return PodState::Finished {
            message: message.map(last_words).unwrap_or_default(),
        };
    }
    let conditions = status.conditions.as_deref().unwrap_or_default();
    if conditions
        .iter()
        .any(|one| one.type_ == "Ready" && one.status == "True")
    {
        return PodState::Ready;
    }
    let failing = |reason: &str, message: Option<&String>| PodState::Failing {
        reason: reason.to_owned(),
        message: message.map(|text| last_words(text)).unwrap_or_default(),
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
    let trouble = containers
        .iter()
        .find_map(|container| trouble(container, &failing));
    trouble.unwrap_or(PodState::Starting)
}

fn trouble(
    container: &ContainerStatus,
    failing: &dyn Fn(&str, Option<&String>) -> PodState,
) -> Option<PodState> {
    let failed = |state: Option<&ContainerState>| {
        let end = state?.terminated.clone()?;
        (end.exit_code != 0).then_some(end)
    };
    let reason_of = |end: &ContainerStateTerminated, usual: &str| {
        let refused = end.exit_code == i32::from(names::SETTINGS_EXIT_CODE);
        if refused { SETTINGS_REFUSED } else { usual }.to_owned()
    };
    let last = failed(container.last_state.as_ref());
    let state = container.state.as_ref()?;
    if let Some(end) = failed(Some(state)) {
        let reason = reason_of(&end, end.reason.as_deref().unwrap_or("Error"));
        return Some(failing(&reason, end.message.as_ref()));
    }
    if state.running.is_some() {
        // It failed, and is not ready: between two failures nothing is different.
        let end = last?;
        return Some(failing(&reason_of(&end, FAILS_AGAIN), end.message.as_ref()));
    }
    let waiting = state.waiting.as_ref()?;
    let reason = waiting
        .reason
        .as_deref()
        .filter(|reason| !ORDINARY.contains(reason))?;
    Some(match &last {
        Some(end) => failing(
            &reason_of(end, reason),
            end.message.as_ref().or(waiting.message.as_ref()),
        ),
        None => failing(reason, waiting.message.as_ref()),
    })
}

/// Of what a program printed, that by which it ended: its last line, and of a structured one the message.
fn last_words(text: &str) -> String {
    let line = text.trim().lines().last().unwrap_or_default();
    let parsed = serde_json::from_str::<serde_json::Value>(line).ok();
    let message = parsed.and_then(|line| Some(line["message"].as_str()?.to_owned()));
    let message = message.unwrap_or_else(|| line.trim().to_owned());
    message.chars().take(MESSAGE_CHARACTERS).collect()
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
    fn a_program_that_refuses_its_settings_is_told_from_one_that_fails() {
        let state = |state: serde_json::Value, exit_code: i32, said: &str| {
            let status = json!({"containerStatuses": [{
                "name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 3, "state": state,
                "lastState": {"terminated": {"exitCode": exit_code, "message": said}},
            }]});
            component(pod(status)).unwrap().state
        };
        let (waiting, running) = (
            json!({"waiting": {"reason": "CrashLoopBackOff"}}),
            json!({"running": {}}),
        );
        let failing = |reason: &str, message: &str| PodState::Failing {
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        let log = "{\"level\": \"INFO\", \"message\": \"starting\"}\n{\"level\": \"ERROR\", \"message\": \"cannot bind\"}\n";
        for now in [waiting, running] {
            assert_eq!(
                state(now.clone(), 2, "PODVM_AMI_ID is missing"),
                failing("SettingsRefused", "PODVM_AMI_ID is missing")
            );
            assert_eq!(state(now, 1, log), failing("CrashLoopBackOff", "cannot bind"));
        }
    }

    #[test]
    fn a_pod_whose_work_is_done_says_what_came_of_it_and_whose_it_is() {
        let mut done = pod(json!({"phase": "Succeeded", "containerStatuses": [{
            "name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 1,
            "state": {"terminated": {"exitCode": 0, "message": "ami-1"}},
            "lastState": {"terminated": {"exitCode": 1, "message": "no"}},
        }]}));
        let owner =
            json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "a", "uid": "7", "controller": true}]);
        done.metadata.owner_references = serde_json::from_value(owner).unwrap();
        let seen = component(done).unwrap();
        let message = "ami-1".to_owned();
        assert_eq!(
            (seen.state, seen.owner.as_deref()),
            (PodState::Finished { message }, Some("7"))
        );
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
