//! The definitions in a real API server: objects as they are written today, what was missing, and what is refused.
//!
//! `PEERPODS_TEST_KUBERNETES` names the folder with the server; without it these tests say so and pass.

use peerpods_api::{KataConfig, PeerPod, PeerPodConfig, crd};
use peerpods_testkit::{ApiServer, wait_for};
use serde_json::{Value, json};
use std::{sync::Once, time::Duration};

/// The server makes a definition's resources known within a second or so.
const ESTABLISHED_LIMIT: Duration = Duration::from_secs(30);

fn server() -> Option<&'static ApiServer> {
    static INSTALLED: Once = Once::new();
    let server = ApiServer::shared()?;
    INSTALLED.call_once(|| {
        for definition in crd::all() {
            let manifest = crd::yaml(&definition).expect("the definitions can be printed");
            server.kubectl_with_input(&["apply", "-f", "-"], &manifest).text();
        }
        wait_for("all kinds are served", ESTABLISHED_LIMIT, || {
            let get = server.kubectl(&["get", "kataconfigs,peerpodconfigs,peerpods"]);
            if get.code == 0 { Ok(()) } else { Err(get.stderr) }
        });
    });
    Some(server)
}

fn kata_config(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "kataconfiguration.openshift.io/v1", "kind": "KataConfig", "metadata": {"name": name}, "spec": spec})
}

fn peer_pod_config(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "confidentialcontainers.org/v1alpha1", "kind": "PeerPodConfig", "metadata": {"name": name}, "spec": spec})
}

#[test]
fn a_kata_config_of_today_applies_unchanged() {
    let Some(server) = server() else { return };
    let spec = json!({
        "kataConfigPoolSelector": {"matchLabels": {"custom-kata": "test"}},
        "checkNodeEligibility": true, "enablePeerPods": true, "logLevel": "debug",
    });
    let made = server.create(&kata_config("today", spec.clone())).unwrap();
    for (field, value) in spec.as_object().unwrap() {
        assert_eq!(&made["spec"][field], value);
    }
    let read: KataConfig = serde_json::from_value(made).unwrap();
    assert!(read.spec.enable_peer_pods && read.spec.check_node_eligibility);
}

#[test]
fn a_kata_config_without_a_spec_has_the_defaults_of_today() {
    let Some(server) = server() else { return };
    for (name, spec) in [("empty", json!({})), ("null", Value::Null)] {
        let made = server.create(&kata_config(name, spec)).unwrap();
        assert_eq!(made["spec"]["logLevel"], "info");
        assert_eq!(made["spec"]["checkNodeEligibility"], false);
        assert_eq!(made["spec"]["enablePeerPods"], false);
    }
    let mut without = kata_config("without", json!({}));
    without.as_object_mut().unwrap().remove("spec");
    assert_eq!(server.create(&without).unwrap()["spec"]["logLevel"], "info");
}

#[test]
fn columns_are_those_of_today() {
    let Some(server) = server() else { return };
    server.create(&kata_config("columns", json!({}))).unwrap();
    let status = json!({"status": {
        "kataNodes": {"nodeCount": 3, "readyNodeCount": 2, "installed": ["a", "b"], "installing": ["c"]},
        "conditions": [{"type": "InProgress", "status": "True", "reason": "Installing", "message": "",
                        "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        "waitingForMcoToStart": true, "runtimeClasses": ["kata-remote"], "ofAnotherVersion": 1,
    }});
    let patch = [
        "patch",
        "kataconfig",
        "columns",
        "--subresource=status",
        "--type=merge",
    ];
    server
        .kubectl(&[&patch[..], &["--patch", &status.to_string()]].concat())
        .text();
    let table = server.kubectl(&["get", "kataconfig", "columns"]).text();
    let mut lines = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(
        lines.next().unwrap(),
        ["NAME", "INPROGRESS", "COMPLETED", "TOTAL", "AGE"]
    );
    assert_eq!(lines.next().unwrap()[..4], ["columns", "True", "2", "3"]);
}

#[test]
fn objects_with_fields_of_other_versions_are_not_refused() {
    let Some(server) = server() else { return };
    let deprecated = kata_config("deprecated", json!({"kataMonitorImage": "example.com/monitor:1"}));
    server.create(&deprecated).unwrap();
    let config = json!({"cloudSecretName": "peer-pods-secret", "configMapName": "peer-pods-cm", "limit": "10",
                        "instanceType": "t3.small", "nodeSelector": {"node-role.kubernetes.io/kata-oc": ""}});
    let made = server
        .create(&peer_pod_config("deprecated", config.clone()))
        .unwrap();
    assert_eq!(made["spec"], config);
    let unknown = kata_config("unknown", json!({"enablePeerPods": true, "ofAnotherVersion": 1}));
    let output = server.kubectl_with_input(
        &["create", "--validate=warn", "--filename", "-"],
        &unknown.to_string(),
    );
    assert!(
        output.stderr.contains("unknown field \"spec.ofAnotherVersion\""),
        "{}",
        output.stderr
    );
    output.text();
}

#[test]
fn a_peer_pod_config_names_its_settings_by_default() {
    let Some(server) = server() else { return };
    let made = server.create(&peer_pod_config("default", json!({}))).unwrap();
    assert_eq!(made["spec"]["cloudSecretName"], "peer-pods-secret");
    assert_eq!(made["spec"]["configMapName"], "peer-pods-cm");
    let read: PeerPodConfig = serde_json::from_value(made).unwrap();
    assert_eq!(read.spec.vm_limit().unwrap().to_string(), "1");
}

#[test]
fn a_limit_that_is_no_number_is_refused_with_what_to_write() {
    let Some(server) = server() else { return };
    for limit in ["-1", "ten", "1.5", "", "10k"] {
        let refused = server
            .create(&peer_pod_config("limit", json!({"limit": limit})))
            .unwrap_err();
        let wanted = "limit must be a non-negative integer of at most 6 digits written as a string, for example \"10\"";
        assert!(refused.contains(wanted), "{limit}: {refused}");
    }
    let refused = server
        .create(&peer_pod_config("limit", json!({"limit": 10})))
        .unwrap_err();
    assert!(
        refused.contains("spec.limit: Invalid value: \"integer\""),
        "{refused}"
    );
    server
        .create(&peer_pod_config("limit", json!({"limit": "0"})))
        .unwrap();
}

#[test]
fn selectors_and_namespaces_that_mean_nothing_are_refused() {
    let Some(server) = server() else { return };
    let selector =
        json!({"kataConfigPoolSelector": {"matchExpressions": [{"key": "a", "operator": "Equals"}]}});
    let refused = server.create(&kata_config("selector", selector)).unwrap_err();
    assert!(
        refused.contains("must be In, NotIn, Exists or DoesNotExist"),
        "{refused}"
    );
    let refused = server
        .create(&kata_config("selector", json!({"peerPodNamespaces": {}})))
        .unwrap_err();
    assert!(
        refused.contains("peerPodNamespaces needs names, a selector, or both"),
        "{refused}"
    );
    let refused = server
        .create(&kata_config("selector", json!({"peerPodAdmission": "Guess"})))
        .unwrap_err();
    assert!(
        refused.contains("supported values: \"Webhook\", \"Policy\""),
        "{refused}"
    );
    let allowed =
        json!({"peerPodNamespaces": {"names": ["team"], "selector": {"matchLabels": {"peer-pods": "yes"}}}});
    server.create(&kata_config("selector", allowed)).unwrap();
}

#[test]
fn a_peer_pod_shows_its_machine() {
    let Some(server) = server() else { return };
    let pod = json!({
        "apiVersion": "confidentialcontainers.org/v1alpha1", "kind": "PeerPod",
        "metadata": {"name": "web", "finalizers": ["peer.pod/finalizer"]},
        "spec": {"cloudProvider": "aws", "instanceID": "", "nodeName": "worker-1", "sandboxID": "abc"},
    });
    server.create(&pod).unwrap();
    let status = json!({"status": {
        "phase": "Ready", "instanceID": "i-0123", "addresses": ["10.0.0.7"], "cleand": false,
        "launchTime": "2026-01-01T00:00:00Z", "readyTime": "2026-01-01T00:00:30Z", "observedGeneration": 1,
    }});
    let patch = [
        "patch",
        "peerpod",
        "web",
        "--subresource=status",
        "--type=merge",
        "--output=json",
    ];
    let patched = server
        .kubectl(&[&patch[..], &["--patch", &status.to_string()]].concat())
        .text();
    let read: PeerPod = serde_json::from_str(&patched).unwrap();
    assert_eq!(read.status.unwrap().instance_id.unwrap(), "i-0123");
    let table = server.kubectl(&["get", "peerpod", "web"]).text();
    let line: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(line[..4], ["web", "Ready", "i-0123", "worker-1"]);
    let wrong = r#"{"status": {"phase": "Lost"}}"#;
    let refused = server.kubectl(&[&patch[..], &["--patch", wrong]].concat());
    assert!(
        refused
            .stderr
            .contains("status.phase: Unsupported value: \"Lost\""),
        "{}",
        refused.stderr
    );
}
