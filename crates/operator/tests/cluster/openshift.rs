//! OpenShift, as far as its nodes are configured: its own definitions of MachineConfig and MachineConfigPool.
//!
//! `PEERPODS_TEST_OPENSHIFT` names the folder with them; without it these tests say so and pass.

use std::{env, path::PathBuf};

use peerpods_testkit::wait_for;
use serde_json::{Value, json};

use crate::lab::{LIMIT, Lab};

const GROUP: &str = "machineconfiguration.openshift.io";
const CURRENT: &str = "machineconfiguration.openshift.io/currentConfig";

/// A cluster with pools for these nodes; none where something is missing.
fn openshift(nodes: &[&str], roles: &[&str]) -> Option<Lab> {
    let Some(definitions) = env::var_os("PEERPODS_TEST_OPENSHIFT").map(PathBuf::from) else {
        eprintln!("skipped: PEERPODS_TEST_OPENSHIFT names no folder with OpenShift's definitions");
        return None;
    };
    let mut lab = Lab::new()?;
    for kind in ["machineconfigs", "machineconfigpools"] {
        let file = definitions.join(format!("0000_80_machine-config_01_{kind}.crd.yaml"));
        lab.kubectl(&[
            "apply",
            "--server-side",
            "--filename",
            &file.display().to_string(),
        ]);
        lab.kubectl(&[
            "wait",
            "--for=condition=Established",
            &format!("crd/{kind}.{GROUP}"),
        ]);
    }
    for role in ["worker", "master"] {
        lab.apply(&json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "MachineConfig",
            "metadata": {"name": format!("00-{role}"), "labels": {"machineconfiguration.openshift.io/role": role}},
            "spec": {"config": {"ignition": {"version": "3.2.0"}}},
        }));
        lab.apply(&json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "MachineConfigPool", "metadata": {"name": role},
            "spec": {
                "machineConfigSelector": {"matchLabels": {"machineconfiguration.openshift.io/role": role}},
                "nodeSelector": {"matchLabels": {format!("node-role.kubernetes.io/{role}"): ""}},
            },
        }));
    }
    lab.create_workers(nodes);
    for (node, role) in nodes
        .iter()
        .flat_map(|node| roles.iter().map(move |role| (node, role)))
    {
        lab.kubectl(&[
            "label",
            "node",
            node,
            "--overwrite",
            &format!("node-role.kubernetes.io/{role}="),
        ]);
    }
    lab.play();
    for node in nodes {
        wait_configuration(&lab, node, &format!("rendered-{}-", roles[0]));
    }
    Some(lab)
}

/// Waits until a node has a configuration of this pool; gives its name.
#[track_caller]
fn wait_configuration(lab: &Lab, node: &str, prefix: &str) -> String {
    wait_for(&format!("{node} has {prefix}…"), LIMIT, || {
        let node = lab.get(&["node", node]);
        let current = node["metadata"]["annotations"][CURRENT].as_str();
        current
            .filter(|current| current.starts_with(prefix))
            .map(str::to_owned)
            .ok_or(node["metadata"].to_string())
    })
}

fn all_of_openshift(lab: &Lab) -> String {
    lab.kubectl(&["get", "machineconfigs,machineconfigpools", "--output=name"])
}

/// The file that nodes of a pool have, as Ignition writes it.
fn file(config: &Value) -> (String, String) {
    let file = &config["spec"]["config"]["storage"]["files"][0];
    let content = file["contents"]["source"].as_str().unwrap();
    let content = content
        .strip_prefix("data:text/plain;charset=utf-8;base64,")
        .unwrap();
    let content: k8s_openapi::ByteString = serde_json::from_value(json!(content)).unwrap();
    (
        file["path"].as_str().unwrap().to_owned(),
        String::from_utf8(content.0).unwrap(),
    )
}

#[test]
fn nodes_get_their_configuration_by_a_pool_and_lose_it_again() {
    let Some(lab) = openshift(&["one", "two"], &["worker"]) else {
        return;
    };
    let (before, objects) = (lab.census(), all_of_openshift(&lab));
    let _operator = lab.start_operator("operator-1");
    lab.create_kata_config("kata");
    lab.wait_condition("kata", "Ready", "True", "Ready");
    for node in ["one", "two"] {
        wait_configuration(&lab, node, "rendered-kata-oc-");
        lab.wait_capacity(node, Some("10"));
    }
    let pool = lab.get(&["machineconfigpool", "kata-oc"]);
    assert_eq!(
        (
            &pool["status"]["machineCount"],
            &pool["status"]["updatedMachineCount"]
        ),
        (&json!(2), &json!(2))
    );
    let (path, content) = file(&lab.get(&["machineconfig", "50-kata-remote"]));
    assert_eq!(path, "/etc/crio/crio.conf.d/50-kata-remote");
    assert!(
        content.contains("[crio.runtime.runtimes.kata-remote]"),
        "{content}"
    );

    lab.kubectl(&["label", "node", "two", "node-role.kubernetes.io/worker-"]);
    wait_configuration(&lab, "two", "rendered-worker-");
    lab.wait_capacity("two", None);
    lab.kubectl(&["label", "node", "two", "node-role.kubernetes.io/worker="]);
    lab.wait_capacity("two", Some("10"));

    lab.kubectl(&["delete", "kataconfig", "kata", "--wait=false"]);
    lab.wait_gone(&["kataconfig", "kata"]);
    assert_eq!(all_of_openshift(&lab), objects);
    assert_eq!(lab.census(), before);
}

#[test]
fn a_cluster_of_one_node_has_no_pool_of_ours() {
    let Some(lab) = openshift(&["only"], &["master"]) else {
        return;
    };
    let (before, objects) = (lab.census(), all_of_openshift(&lab));
    let bare = wait_configuration(&lab, "only", "rendered-master-");
    let _operator = lab.start_operator("operator-1");
    lab.create_kata_config("kata");
    lab.wait_condition("kata", "Ready", "True", "Ready");
    assert_ne!(wait_configuration(&lab, "only", "rendered-master-"), bare);
    assert!(!all_of_openshift(&lab).contains("kata-oc"));
    lab.kubectl(&["delete", "kataconfig", "kata", "--wait=false"]);
    lab.wait_gone(&["kataconfig", "kata"]);
    assert_eq!(all_of_openshift(&lab), objects);
    assert_eq!(lab.census(), before);
}
