//! PeerPods that nobody lets go.

use std::{sync::Arc, time::Duration};

use peerpods_operator::{
    Operator,
    health::Health,
    installation::{Images, Installation, NodeRuntime, Patience},
    metrics::Metrics,
};
use peerpods_provider::{
    Assignment, Provider, conformance,
    fake::{Call, FakeProvider, Fault},
};
use peerpods_testkit::wait_for;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::lab::{LIMIT, Lab, NAMESPACE};

/// An operator in this process, which ends VMs of the provider `fake` as soon as their pods are gone.
fn start(lab: &Lab, runtime: &Runtime, provider: &FakeProvider, cluster_id: &str) {
    let image = || "image:1".to_owned();
    let operator = Operator {
        client: runtime.block_on(lab.client()),
        installation: Installation {
            namespace: NAMESPACE.to_owned(),
            cluster_id: cluster_id.to_owned(),
            images: Images {
                adaptor: image(),
                webhook: image(),
                node_runtime: image(),
            },
            node_runtime: NodeRuntime::Preinstalled,
            issuer: None,
            patience: Patience {
                adaptor: Duration::ZERO,
                node: Duration::ZERO,
            },
        },
        providers: [("fake".to_owned(), Arc::new(provider.clone()) as Arc<dyn Provider>)].into(),
        identity: "operator-1".to_owned(),
    };
    runtime.spawn(async move { operator.run(&Health::default(), &Metrics::default()).await });
}

fn create_deleted(lab: &Lab, name: &str, spec: Value) {
    let object = json!({
        "apiVersion": "confidentialcontainers.org/v1alpha1", "kind": "PeerPod",
        "metadata": {"name": name, "namespace": "default", "finalizers": ["peer.pod/finalizer"]}, "spec": spec,
    });
    lab.create(&object).unwrap();
    lab.kubectl(&[
        "delete",
        "peerpod",
        name,
        "--namespace",
        "default",
        "--wait=false",
    ]);
}

#[test]
fn the_vm_of_a_pod_that_is_gone_is_ended_before_its_peer_pod_goes() {
    let Some(lab) = Lab::new() else { return };
    let runtime = Runtime::new().unwrap();
    let provider = FakeProvider::new();
    let request = conformance::request("web", "gone");
    let Assignment::Pod(pod) = &request.owner.assignment else {
        panic!("it is a pod's")
    };
    let instance = runtime.block_on(provider.launch(&request)).unwrap();
    start(&lab, &runtime, &provider, &request.owner.cluster);

    // The adaptor died before it could say which VM it is; its tags say so.
    provider.fail_next(Call::Terminate, Fault::StillAlive);
    create_deleted(
        &lab,
        "web",
        json!({"cloudProvider": "fake", "nodeName": "gone", "sandboxID": pod.sandbox}),
    );
    lab.wait_gone(&["peerpod", "web", "--namespace", "default"]);
    assert!(provider.instances().is_empty());
    let attempts = provider
        .calls()
        .into_iter()
        .filter(|call| *call == Call::Terminate)
        .count();
    assert_eq!(attempts, 2, "the first did not end it");

    // Today's adaptors name the VM, and nothing else.
    create_deleted(
        &lab,
        "known",
        json!({"cloudProvider": "fake", "instanceID": instance.id.as_str()}),
    );
    lab.wait_gone(&["peerpod", "known", "--namespace", "default"]);
}

#[test]
fn without_its_provider_a_peer_pod_stays_and_says_what_it_waits_for() {
    let Some(lab) = Lab::new() else { return };
    let runtime = Runtime::new().unwrap();
    start(&lab, &runtime, &FakeProvider::new(), "cluster");
    create_deleted(&lab, "away", json!({"cloudProvider": "aws", "instanceID": "i-1"}));
    let said = wait_for("it says so", LIMIT, || {
        let object = lab.get(&["peerpod", "away", "--namespace", "default"]);
        object["status"]["message"]
            .as_str()
            .map(str::to_owned)
            .ok_or(object.to_string())
    });
    assert!(
        said.contains("it is of aws, which this operator cannot reach"),
        "{said}"
    );
    let object = lab.get(&["peerpod", "away", "--namespace", "default"]);
    assert_eq!(object["metadata"]["finalizers"], json!(["peer.pod/finalizer"]));
    let released = r#"{"metadata": {"finalizers": []}}"#;
    lab.kubectl(&[
        "patch",
        "peerpod",
        "away",
        "--namespace",
        "default",
        "--type=merge",
        "--patch",
        released,
    ]);
    lab.wait_gone(&["peerpod", "away", "--namespace", "default"]);
}
