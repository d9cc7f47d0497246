//! What OpenShift's Machine Config Operator says of nodes and pools.

use std::collections::BTreeMap;

use kube::api::DynamicObject;
use serde_json::Value;

use crate::{
    names::MACHINE_CONFIG,
    observed::{MachineConfigOfNode, Pool},
};

const CURRENT: &str = "machineconfiguration.openshift.io/currentConfig";
const DESIRED: &str = "machineconfiguration.openshift.io/desiredConfig";
const STATE: &str = "machineconfiguration.openshift.io/state";
const REASON: &str = "machineconfiguration.openshift.io/reason";
/// Nothing is being done.
const DONE: &str = "Done";
/// It cannot go on by itself.
const STUCK: [&str; 2] = ["Degraded", "Unreconcilable"];

/// By the annotations of a node.
pub(super) fn of_node(annotations: &BTreeMap<String, String>) -> Option<MachineConfigOfNode> {
    let of = |key: &str| annotations.get(key).cloned();
    let state = of(STATE).unwrap_or_default();
    let is_stuck = STUCK.contains(&state.as_str());
    Some(MachineConfigOfNode {
        current: of(CURRENT)?,
        desired: of(DESIRED)?,
        done: state == DONE,
        stuck: is_stuck.then(|| of(REASON).unwrap_or(state)),
    })
}

pub(super) fn pool(object: DynamicObject) -> Pool {
    let (spec, status) = (&object.data["spec"], &object.data["status"]);
    let all = [&spec["configuration"], &status["configuration"]];
    let with_ours = all.iter().filter(|configuration| has_ours(configuration));
    let conditions = status["conditions"].as_array();
    let degraded = conditions.into_iter().flatten().find(|condition| {
        let kind = condition["type"].as_str().unwrap_or_default();
        kind.ends_with("Degraded") && condition["status"] == "True"
    });
    Pool {
        with_ours: with_ours
            .filter_map(|configuration| configuration["name"].as_str().map(str::to_owned))
            .collect(),
        degraded: degraded.map(|condition| condition["message"].as_str().unwrap_or_default().to_owned()),
    }
}

fn has_ours(configuration: &Value) -> bool {
    let sources = configuration["source"].as_array();
    sources.is_some_and(|all| all.iter().any(|source| source["name"] == MACHINE_CONFIG))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pool_knows_which_configurations_are_made_of_ours() {
        let of = |name: &str, sources: &[&str]| {
            let sources: Vec<_> = sources.iter().map(|source| json!({"name": source})).collect();
            json!({"name": name, "source": sources})
        };
        let object = json!({
            "apiVersion": "machineconfiguration.openshift.io/v1", "kind": "MachineConfigPool", "metadata": {"name": "kata-oc"},
            "spec": {"configuration": of("rendered-2", &["00-worker", "50-kata-remote"])},
            "status": {
                "configuration": of("rendered-1", &["00-worker"]),
                "conditions": [
                    {"type": "Updated", "status": "False", "message": ""},
                    {"type": "RenderDegraded", "status": "True", "message": "two files of one path"},
                ],
            },
        });
        let seen = pool(serde_json::from_value(object).unwrap());
        assert_eq!(seen.with_ours, ["rendered-2".to_owned()].into());
        assert_eq!(seen.degraded.as_deref(), Some("two files of one path"));
    }

    #[test]
    fn a_node_that_is_stuck_says_why() {
        let annotations = [
            (CURRENT, "rendered-1"),
            (DESIRED, "rendered-2"),
            (STATE, "Degraded"),
            (REASON, "disk is full"),
        ];
        let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let seen = of_node(&annotations.into()).unwrap();
        assert_eq!(seen.stuck.as_deref(), Some("disk is full"));
        assert_eq!(of_node(&BTreeMap::new()), None);
    }
}
