//! PeerPods that nobody lets go.

use std::{sync::Arc, time::Duration};

use peerpods_operator::{
    Operator,
    health::Health,
    installation::{Images, Installation, NodeRuntime, Patience},
    metrics::Metrics,
};
use peerpods_provider::{
    Assignment, Provider, Reaper, conformance,
    fake::{Call, FakeProvider, Fault},
};
use peerpods_provider_aws::{AwsArguments, AwsProvider, Timing};
use peerpods_testkit::{
    ec2::{Emulator, REGION},
    wait_for,
};
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
                vm_image: image(),
            },
            node_runtime: NodeRuntime::Preinstalled,
            issuer: None,
            patience: Patience {
                adaptor: Duration::ZERO,
                node: Duration::ZERO,
            },
        },
        providers: [("fake".to_owned(), Arc::new(provider.clone()) as Arc<dyn Reaper>)].into(),
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
    create_deleted(
        &lab,
        "away",
        json!({"cloudProvider": "azure", "instanceID": "vm-1"}),
    );
    let said = wait_for("it says so", LIMIT, || {
        let object = lab.get(&["peerpod", "away", "--namespace", "default"]);
        object["status"]["message"]
            .as_str()
            .map(str::to_owned)
            .ok_or(object.to_string())
    });
    assert!(
        said.contains("it is of azure, which this operator cannot reach"),
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

#[test]
fn on_ec2_the_vm_of_a_node_that_is_gone_is_ended_with_the_clusters_credentials() {
    let (Some(lab), Some(emulator)) = (Lab::new(), Emulator::start()) else {
        return;
    };
    let runtime = Runtime::new().unwrap();
    // As an adaptor launched it; nobody knows how it is called, and its image will be gone.
    let request = conformance::request("web", "gone");
    let Assignment::Pod(pod) = &request.owner.assignment else {
        panic!("it is a pod's")
    };
    let value = |name: &str| {
        let value = match name {
            "AWS_REGION" => REGION.to_owned(),
            "AWS_ACCESS_KEY_ID" => "AKIDEXAMPLE".to_owned(),
            "AWS_SECRET_ACCESS_KEY" => "secret".to_owned(),
            "PODVM_AMI_ID" => emulator.register_image(),
            "AWS_SUBNET_ID" => emulator.subnets().remove(0),
            "AWS_SG_IDS" => emulator.security_group(),
            _ => return None,
        };
        Some(value)
    };
    let mut settings = AwsArguments::from_values(value).parse().unwrap();
    settings.aws.ec2_endpoint = Some(emulator.url());
    let adaptor = AwsProvider::connect(settings, Timing::default());
    let adaptor = runtime.block_on(adaptor).unwrap();
    runtime.block_on(adaptor.launch(&request)).unwrap();
    assert_eq!(emulator.living_instances().len(), 1);

    let credentials = |data: Value| {
        let metadata = json!({"name": "peer-pods-secret", "namespace": NAMESPACE});
        lab.apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}));
    };
    credentials(json!({"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE"}));
    lab.settings(json!({
        "CLOUD_PROVIDER": "aws", "AWS_REGION": REGION, "AWS_ENDPOINT_URL_EC2": emulator.url(),
    }));
    start(&lab, &runtime, &FakeProvider::new(), &request.owner.cluster);
    create_deleted(
        &lab,
        "on-ec2",
        json!({"cloudProvider": "aws", "nodeName": "gone", "sandboxID": pod.sandbox}),
    );
    let object = || lab.get(&["peerpod", "on-ec2", "--namespace", "default"]);
    let message = wait_for("it says what is missing", LIMIT, || {
        let message = object()["status"]["message"].as_str().map(str::to_owned);
        message.ok_or_else(|| object().to_string())
    });
    assert!(
        message.contains("AWS_SECRET_ACCESS_KEY is missing beside AWS_ACCESS_KEY_ID"),
        "{message}"
    );
    assert_eq!(emulator.living_instances().len(), 1);

    credentials(json!({"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}));
    lab.wait_gone(&["peerpod", "on-ec2", "--namespace", "default"]);
    lab.kubectl(&["delete", "secret", "peer-pods-secret", "--namespace", NAMESPACE]);
    assert_eq!(emulator.living_instances(), [""; 0]);
}
