//! The table of admission cases against the function.

#[allow(dead_code)]
mod support;

use peerpods_api::admission::PodAdmission;
use peerpods_webhook::{Patch, Pod, mutate};
use serde_json::{Value, json};
use support::{Outcome, cases};

fn patch(namespace: &str, pod: &Value) -> Result<Patch, String> {
    let read: Pod = serde_json::from_value(pod.clone()).map_err(|error| error.to_string())?;
    mutate(namespace, &read, &PodAdmission::default()).map_err(|refusal| refusal.to_string())
}

fn apply(pod: &Value, patch: &Patch) -> Value {
    let mut after = pod.clone();
    let patch: json_patch::Patch = serde_json::from_value(json!(patch)).expect("it is a JSON Patch");
    json_patch::patch(&mut after, &patch).expect("it fits the pod");
    after
}

#[test]
fn every_case_of_the_table() {
    for case in cases() {
        let before = case.pod();
        match patch(&case.namespace, &before) {
            Err(refusal) => case.check_refusal(&refusal),
            Ok(patch) => {
                if matches!(case.outcome, Outcome::Unchanged(_)) {
                    assert_eq!(patch, [], "{}", case.name());
                }
                case.check_pod(&before, &apply(&before, &patch));
            }
        }
    }
}

#[test]
fn what_was_changed_once_is_not_changed_again() {
    for case in cases() {
        let Ok(first) = patch(&case.namespace, &case.pod()) else {
            continue;
        };
        let after = apply(&case.pod(), &first);
        assert_eq!(patch(&case.namespace, &after).unwrap(), [], "{}", case.name());
    }
}

#[test]
fn null_is_as_good_as_absent() {
    let pod = json!({
        "metadata": {"annotations": null},
        "spec": {"runtimeClassName": "kata-remote", "initContainers": null, "resources": null,
                 "containers": [{"name": "a", "resources": null}, {"name": "b", "resources": {"limits": null}}]},
    });
    let patch = patch("default", &pod).unwrap();
    assert_eq!(
        json!(patch),
        json!([{
            "op": "add", "path": "/spec/containers/0/resources",
            "value": {"limits": {"kata.peerpods.io/vm": "1"}, "requests": {"kata.peerpods.io/vm": "1"}},
        }])
    );
}

#[test]
fn a_pod_without_containers_is_left_to_the_api_server() {
    for pod in [json!({}), json!({"spec": {"runtimeClassName": "kata-remote"}})] {
        assert_eq!(patch("default", &pod).unwrap(), []);
    }
}

#[test]
fn claims_on_devices_of_the_node_are_emptied_too() {
    let claims = json!({"claims": [{"name": "card"}]});
    let pod = json!({"spec": {"runtimeClassName": "kata-remote", "containers": [
        {"name": "a", "resources": claims}, {"name": "b", "resources": claims},
    ]}});
    let after = apply(&pod, &patch("default", &pod).unwrap());
    assert_eq!(after["spec"]["containers"][1]["resources"], json!({}));
    assert_eq!(after["spec"]["containers"][0]["resources"]["claims"], Value::Null);
}
