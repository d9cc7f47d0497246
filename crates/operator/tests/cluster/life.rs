//! From one KataConfig to nodes that count peer pods, and back.

use std::time::Duration;

use peerpods_testkit::wait_for;
use serde_json::{Value, json};

use crate::lab::{LIMIT, Lab, NAMESPACE};

const PEER_POD: &str = "peerpodconfig-openshift";

fn pod(name: &str, class: Option<&str>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"runtimeClassName": class, "containers": [{"name": "a", "image": "a"}]},
    })
}

#[test]
fn a_kata_config_lives_and_goes() {
    let Some(mut lab) = Lab::new() else { return };
    lab.create_workers(&["one", "two"]);
    let before = lab.census();
    let operator = lab.start_operator("operator-1").lead();
    lab.create_kata_config("kata");
    until_the_webhook_answers(&lab);
    lab.play();
    it_is_ready(&lab);
    at_rest_nothing_is_written(&operator);
    the_limit_is_followed(&lab);
    a_node_leaves(&lab);
    a_second_one_is_told(&lab);
    only_named_namespaces_may_have_peer_pods(&lab);
    what_is_missing_is_named(&lab);
    deletion_waits_for_pods(&lab);
    lab.kubectl(&["label", "node", "two", "node-role.kubernetes.io/worker="]);
    assert_eq!(lab.census(), before);
    assert!(operator.terminate(), "it ends well");
    let lease = lab.get(&[
        "lease",
        "290f4947.kataconfiguration.openshift.io",
        "--namespace",
        NAMESPACE,
    ]);
    assert_eq!(lease["spec"]["holderIdentity"], Value::Null);
}

/// Nothing plays Kubernetes yet: no replica answers, and peer pods are not kept from being created.
fn until_the_webhook_answers(lab: &Lab) {
    let said = lab.wait_condition("kata", "InProgress", "True", "Installing");
    assert!(
        said.contains("2 of 2 nodes do not have the runtime yet"),
        "{said}"
    );
    let class = wait_for("the runtime class is there", LIMIT, || {
        match lab.get(&["runtimeclass", "kata-remote"]) {
            Value::Null => Err("no".to_owned()),
            class => Ok(class),
        }
    });
    assert_eq!(class["overhead"]["podFixed"]["memory"], "16Mi");
    assert_eq!(
        lab.get(&["mutatingwebhookconfiguration", "mutating-webhook-configuration"]),
        Value::Null
    );
    lab.wait_capacity("one", None);
    lab.create(&pod("web", Some("kata-remote"))).unwrap();
}

fn it_is_ready(lab: &Lab) {
    lab.wait_condition("kata", "Ready", "True", "Ready");
    lab.wait_condition("kata", "InProgress", "False", "");
    let table = lab.kubectl(&["get", "kataconfig", "kata"]);
    let line: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(line[..4], ["kata", "False", "2", "2"]);
    for node in ["one", "two"] {
        lab.wait_capacity(node, Some("10"));
        let labels = &lab.get(&["node", node])["metadata"]["labels"];
        assert_eq!(labels["node-role.kubernetes.io/kata-oc"], "");
    }
    let events = lab.kubectl(&["get", "events.events.k8s.io", "--namespace", "default"]);
    assert!(
        events.contains("RuntimeInstalled") && events.contains("kataconfig/kata"),
        "{events}"
    );
    // From now on the webhook is asked for peer pods, and for no others.
    let refused = lab.create(&pod("other", Some("kata-remote"))).unwrap_err();
    assert!(refused.contains("failed calling webhook"), "{refused}");
    lab.create(&pod("ordinary", None)).unwrap();
}

fn at_rest_nothing_is_written(operator: &crate::process::OperatorProcess) {
    /// Several rounds of what is played.
    const REST: Duration = Duration::from_secs(3);
    wait_for("it comes to rest", LIMIT, || {
        let before = operator.actions();
        std::thread::sleep(REST);
        let after = operator.actions();
        if before == after {
            Ok(())
        } else {
            Err(format!("{before} actions, then {after}"))
        }
    });
    assert!(operator.get("/readyz").unwrap().starts_with("HTTP/1.1 200"));
}

fn the_limit_is_followed(lab: &Lab) {
    let patch = |limit: &str| {
        let patch = json!({"spec": {"limit": limit}}).to_string();
        lab.kubectl(&[
            "patch",
            "peerpodconfig",
            PEER_POD,
            "--namespace",
            NAMESPACE,
            "--type=merge",
            "--patch",
            &patch,
        ]);
    };
    patch("2");
    lab.wait_capacity("one", Some("2"));
    lab.wait_capacity("two", Some("2"));
    // As a kubelet does when it starts without knowing of it.
    let reset = r#"{"status": {"capacity": {"kata.peerpods.io/vm": "0"}}}"#;
    lab.kubectl(&[
        "patch",
        "node",
        "two",
        "--subresource=status",
        "--type=merge",
        "--patch",
        reset,
    ]);
    lab.wait_capacity("two", Some("2"));
    lab.settings(json!({"CLOUD_PROVIDER": "qemu", "PEERPODS_LIMIT_PER_NODE": "4"}));
    lab.wait_capacity("one", Some("4"));
    lab.settings(json!({"CLOUD_PROVIDER": "qemu", "PEERPODS_LIMIT_PER_NODE": "four"}));
    let said = lab.wait_condition("kata", "SettingsValid", "False", "KeyInvalid");
    assert!(
        said.contains("PEERPODS_LIMIT_PER_NODE in peer-pods-cm is \"four\""),
        "{said}"
    );
    lab.wait_capacity("one", Some("4"));
    lab.settings(json!({"CLOUD_PROVIDER": "qemu"}));
    lab.wait_capacity("one", Some("2"));
    wait_for("it says on how many nodes", LIMIT, || {
        let status = lab.get(&["peerpodconfig", PEER_POD, "--namespace", NAMESPACE])["status"].clone();
        match (&status["nodeCount"], &status["observedGeneration"]) {
            (nodes, generation) if *nodes == 2 && *generation == 2 => Ok(()),
            _ => Err(status.to_string()),
        }
    });
}

fn a_node_leaves(lab: &Lab) {
    lab.kubectl(&["label", "node", "two", "node-role.kubernetes.io/worker-"]);
    lab.wait_capacity("two", None);
    wait_for("no label of ours is on two", LIMIT, || {
        let labels = lab.get(&["node", "two"])["metadata"]["labels"].to_string();
        if labels.contains("kata") || labels.contains("peerpods") {
            Err(labels)
        } else {
            Ok(())
        }
    });
    lab.wait_condition("kata", "InProgress", "False", "");
}

/// With the policy instead of the webhook, so that peer pods can be created without one.
fn only_named_namespaces_may_have_peer_pods(lab: &Lab) {
    let patch = |spec: Value| {
        let patch = json!({ "spec": spec }).to_string();
        lab.kubectl(&["patch", "kataconfig", "kata", "--type=merge", "--patch", &patch]);
    };
    patch(json!({
        "peerPodAdmission": "Policy",
        "peerPodNamespaces": {"names": ["team"], "selector": {"matchLabels": {"peer-pods": "yes"}}},
    }));
    lab.wait_gone(&["deployment", "peer-pods-webhook", "--namespace", NAMESPACE]);
    lab.wait_condition("kata", "Ready", "True", "Ready");
    let attempt = || lab.server_side_dry_run(&pod("policed", Some("kata-remote")));
    let refused = wait_for("it is enforced", LIMIT, || match attempt() {
        Err(refused) if refused.contains("peer pods are not allowed") => Ok(refused),
        other => Err(format!("{other:?}")),
    });
    assert!(
        refused.contains("allows team, those with labels peer-pods=yes"),
        "{refused}"
    );
    lab.kubectl(&["label", "namespace", "default", "peer-pods=yes"]);
    // API servers took up the policy that changes pods before the webhook went; that of namespaces follows the label.
    let made = wait_for("the label allows it", LIMIT, attempt);
    assert_eq!(
        made["spec"]["containers"][0]["resources"]["limits"]["kata.peerpods.io/vm"],
        "1"
    );
    lab.kubectl(&["label", "namespace", "default", "peer-pods-"]);
    patch(json!({"peerPodAdmission": "Webhook", "peerPodNamespaces": null}));
    lab.wait_condition("kata", "Ready", "True", "Ready");
    lab.wait_gone(&["mutatingadmissionpolicy", "peerpods"]);
}

fn a_second_one_is_told(lab: &Lab) {
    lab.create_kata_config("other");
    let said = lab.wait_condition("other", "Ready", "False", "AnotherExists");
    assert!(said.contains("it is kata"), "{said}");
    lab.kubectl(&["delete", "kataconfig", "other"]);
}

fn what_is_missing_is_named(lab: &Lab) {
    let secret = |keys: Value| {
        lab.apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "peer-pods-secret", "namespace": NAMESPACE},
            "stringData": keys,
        }));
    };
    lab.settings(json!({"CLOUD_PROVIDER": "aws", "PODVM_AMI_ID": "ami-1"}));
    secret(json!({"AWS_ACCESS_KEY_ID": "a"}));
    let said = lab.wait_condition("kata", "Ready", "False", "KeyMissing");
    assert!(
        said.contains("peer-pods-secret has no value for AWS_SECRET_ACCESS_KEY"),
        "{said}"
    );
    secret(json!({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}));
    lab.wait_condition("kata", "Ready", "True", "Ready");
    lab.kubectl(&["delete", "secret", "peer-pods-secret", "--namespace", NAMESPACE]);
    lab.settings(json!({"CLOUD_PROVIDER": "qemu"}));
    lab.wait_condition("kata", "Ready", "True", "Ready");
}

fn deletion_waits_for_pods(lab: &Lab) {
    lab.kubectl(&["delete", "kataconfig", "kata", "--wait=false"]);
    let said = lab.wait_condition("kata", "InProgress", "False", "BlockedByExistingKataPods");
    assert!(said.contains("default/web"), "{said}");
    assert_ne!(lab.get(&["runtimeclass", "kata-remote"]), Value::Null);
    // A pod that has finished keeps nothing.
    let finished = r#"{"status": {"phase": "Succeeded"}}"#;
    lab.kubectl(&[
        "patch",
        "pod",
        "web",
        "--subresource=status",
        "--type=merge",
        "--patch",
        finished,
    ]);
    lab.wait_gone(&["kataconfig", "kata"]);
    lab.wait_gone(&["peerpodconfig", PEER_POD, "--namespace", NAMESPACE]);
    lab.wait_capacity("one", None);
    lab.kubectl(&["delete", "pod", "web", "ordinary", "--grace-period=0", "--force"]);
}

#[test]
fn another_process_stands_by_and_takes_over() {
    let Some(lab) = Lab::new() else { return };
    let first = lab.start_operator("operator-1").lead();
    let second = lab.start_operator("operator-2");
    wait_for("it stands by", LIMIT, || {
        let text = second.get("/metrics").ok_or("it does not answer")?;
        if text.contains("peerpods_operator_leader 0") {
            Ok(())
        } else {
            Err(text)
        }
    });
    assert!(first.terminate(), "it ends well");
    let second = second.lead();
    // This one dies, and its lease has to end by itself.
    let third = lab.start_operator("operator-3");
    second.kill();
    third.lead();
}
