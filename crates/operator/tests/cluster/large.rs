//! 500 nodes and 5,000 PeerPods: memory, and calls for each change. `make soak` has as many, `make test` fewer.

use std::{env, time::Duration};

use futures::{StreamExt, stream};
use kube::{Api, api::PostParams};
use peerpods_api::PeerPod;
use peerpods_testkit::wait_for;
use serde_json::{Value, json};

use crate::{
    lab::{LIMIT, Lab, NAMESPACE},
    process::OperatorProcess,
};

const CALLS_AT_ONCE: usize = 16;
/// The label of the nodes that are made here.
const MARK: &str = "large";

/// How many nodes and PeerPods there are in the end: `PEERPODS_SOAK=full` is what the specification promises.
fn extent() -> (usize, usize) {
    if env::var("PEERPODS_SOAK").is_ok_and(|extent| extent == "full") {
        (500, 5000)
    } else {
        (20, 200)
    }
}

#[test]
fn memory_and_calls_stay_small_as_nodes_and_pods_grow() {
    let Some(mut lab) = Lab::new() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    lab.play();
    let operator = lab.start_operator("operator-1").lead();
    lab.create_kata_config("kata");
    let mut calls = Vec::new();
    for (nodes, peer_pods) in [(5, 50), extent()] {
        runtime.block_on(fill(&lab, nodes, peer_pods));
        wait_for("all nodes have their capacity", LIMIT * 5, || {
            let config = lab.get(&[
                "peerpodconfig",
                "peerpodconfig-openshift",
                "--namespace",
                NAMESPACE,
            ]);
            let ready = &config["status"]["conditions"][0];
            if config["status"]["nodeCount"] == json!(nodes) {
                Ok(())
            } else {
                Err(ready.to_string())
            }
        });
        lab.wait_condition("kata", "Ready", "True", "Ready");
        let lost = calls_of(&operator, || {
            let reset = r#"{"status": {"capacity": {"kata.peerpods.io/vm": "0"}}}"#;
            lab.kubectl(&[
                "patch",
                "node",
                "node-1",
                "--subresource=status",
                "--type=merge",
                "--patch",
                reset,
            ]);
            lab.wait_capacity("node-1", Some("10"));
        });
        let relabelled = calls_of(&operator, || {
            _ = lab.kubectl(&[
                "label",
                "--overwrite",
                "node",
                "node-2",
                &format!("other={nodes}"),
            ])
        });
        let (own, resident) = operator.resident();
        eprintln!(
            "{nodes} nodes, {peer_pods} PeerPods: {own} KiB anonymous, {resident} KiB resident; calls for a node that lost its capacity: {lost}, for another label of a node: {relabelled}"
        );
        calls.push((lost, relabelled));
    }
    assert_eq!(calls[0], calls[1]);
    let (own, _) = operator.resident();
    assert!(own < 30 * 1024, "{own} KiB");
    runtime.block_on(empty(&lab));
    lab.kubectl(&["delete", "nodes", "--selector", MARK]);
    lab.kubectl(&["delete", "kataconfig", "kata", "--wait=false"]);
    lab.wait_gone(&["kataconfig", "kata"]);
    drop(operator);
    lab.stop_playing();
}

/// How many calls the operator makes until it is at rest again.
fn calls_of(operator: &OperatorProcess, change: impl FnOnce()) -> u64 {
    let rest = || {
        wait_for("it comes to rest", LIMIT, || {
            let before = operator.actions();
            std::thread::sleep(Duration::from_secs(3));
            let after = operator.actions();
            if before == after {
                Ok(after)
            } else {
                Err(format!("{before} actions, then {after}"))
            }
        })
    };
    let before = rest();
    change();
    rest() - before
}

async fn fill(lab: &Lab, nodes: usize, peer_pods: usize) {
    let client = lab.client().await;
    let api: Api<k8s_openapi::api::core::v1::Node> = Api::all(client.clone());
    let images: Vec<Value> = (0..50).map(|number| json!({"names": [format!("registry.example.com/image-{number}@sha256:{:064}", number)], "sizeBytes": 1})).collect();
    let new = |number: usize| {
        let (api, images) = (api.clone(), images.clone());
        async move {
            let node = json!({
                "metadata": {"name": format!("node-{number}"), "labels": {"node-role.kubernetes.io/worker": "", MARK: ""}},
                "status": {"images": images},
            });
            ignore_existing(
                api.create(&PostParams::default(), &serde_json::from_value(node).unwrap())
                    .await,
            );
        }
    };
    stream::iter(0..nodes)
        .map(new)
        .buffer_unordered(CALLS_AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    let api: Api<PeerPod> = Api::namespaced(client, "default");
    let new = |number: usize| {
        let api = api.clone();
        async move {
            let object = json!({
                "apiVersion": "confidentialcontainers.org/v1alpha1", "kind": "PeerPod",
                "metadata": {"name": format!("pod-{number}"), "finalizers": ["peer.pod/finalizer"]},
                "spec": {"cloudProvider": "aws", "nodeName": format!("node-{}", number % nodes), "sandboxID": format!("{number:064}")},
            });
            ignore_existing(
                api.create(&PostParams::default(), &serde_json::from_value(object).unwrap())
                    .await,
            );
        }
    };
    stream::iter(0..peer_pods)
        .map(new)
        .buffer_unordered(CALLS_AT_ONCE)
        .collect::<Vec<_>>()
        .await;
}

fn ignore_existing<T>(outcome: Result<T, kube::Error>) {
    match outcome {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => panic!("{error}"),
    }
}

async fn empty(lab: &Lab) {
    let api: Api<PeerPod> = Api::namespaced(lab.client().await, "default");
    let patch = kube::api::Patch::Merge(json!({"metadata": {"finalizers": []}}));
    let all = api
        .list_metadata(&kube::api::ListParams::default())
        .await
        .unwrap();
    let release = |name: String| {
        let (api, patch) = (api.clone(), &patch);
        async move {
            api.patch(&name, &kube::api::PatchParams::default(), patch)
                .await
                .map(drop)
                .unwrap()
        }
    };
    let names = all.items.into_iter().filter_map(|one| one.metadata.name);
    stream::iter(names)
        .map(release)
        .buffer_unordered(CALLS_AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    lab.kubectl(&["delete", "peerpods", "--all", "--wait=false"]);
}
