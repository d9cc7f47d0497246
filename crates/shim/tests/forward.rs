//! What is dialled on the loopback of the pod's namespace reaches the machine as long as there is one.
#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, io, path::Path};

use containerd_shim_protos::{
    api::{DeleteRequest, KillRequest, StartRequest, WaitRequest},
    shim_async::TaskClient,
};
use peerpods_tunnel::channel::ForwardListener;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use support::{Node, PATIENCE, machine::PodNamespace};
use tokio::{io::AsyncReadExt, time::timeout};
use ttrpc::context::with_duration;

const SERVER: &str = "127.0.0.1:8080";

fn spec(namespace: &Path) -> serde_json::Value {
    json!({
        "ociVersion": "1.1.0",
        "annotations": {
            "io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": "sandbox",
            "io.kubernetes.cri.sandbox-name": "web", "io.kubernetes.cri.sandbox-namespace": "shop"
        },
        "linux": {"namespaces": [{"type": "network", "path": namespace}, {"type": "pid"}, {"type": "ipc"}]}
    })
}

/// A sandbox that runs in `namespace`.
async fn run(node: &Node, namespace: &Path) -> TaskClient {
    let bundle = node.bundle("sandbox", &spec(namespace));
    let task = node.start_shim("sandbox", &bundle).await;
    let create = node.create_request("sandbox", &bundle);
    task.create(with_duration(PATIENCE), &create).await.unwrap();
    let start = StartRequest {
        id: "sandbox".into(),
        ..Default::default()
    };
    task.start(with_duration(PATIENCE), &start).await.unwrap();
    task
}

/// Dials, and sees the connection arrive at the machine with the port.
async fn assert_carried(namespace: &PodNamespace, forwards: &mut ForwardListener) {
    let _client = namespace.dial(SERVER).unwrap();
    let mut guest = timeout(PATIENCE, forwards.accept()).await.unwrap().unwrap();
    let mut header = [0; 3];
    guest.read_exact(&mut header).await.unwrap();
    assert_eq!(header, [0x1f, 0x90, 4]);
}

#[track_caller]
fn assert_refused(namespace: &PodNamespace) {
    let refused = namespace.dial(SERVER).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_forwarded_port_is_the_machine_s_until_the_sandbox_is_deleted() {
    let mut node = Node::new().await;
    let mut forwards = node.let_dial().await;
    let Some(namespace) = PodNamespace::new(&node) else {
        return;
    };
    let task = run(&node, &namespace.path).await;
    assert_carried(&namespace, &mut forwards).await;
    let kill = KillRequest {
        id: "sandbox".into(),
        signal: 9,
        ..Default::default()
    };
    task.kill(with_duration(PATIENCE), &kill).await.unwrap();
    let wait = WaitRequest {
        id: "sandbox".into(),
        ..Default::default()
    };
    task.wait(with_duration(PATIENCE), &wait).await.unwrap();
    let delete = DeleteRequest {
        id: "sandbox".into(),
        ..Default::default()
    };
    task.delete(with_duration(PATIENCE), &delete).await.unwrap();
    assert_refused(&namespace);
}

#[tokio::test]
async fn a_shim_that_is_killed_leaves_nothing_in_the_namespace() {
    let mut node = Node::new().await;
    let mut forwards = node.let_dial().await;
    let Some(namespace) = PodNamespace::new(&node) else {
        return;
    };
    let _task = run(&node, &namespace.path).await;
    assert_carried(&namespace, &mut forwards).await;
    let pid = fs::read_to_string(node.path("bundles/sandbox/shim.pid")).unwrap();
    let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    while namespace.dial(SERVER).is_ok() {
        tokio::task::yield_now().await;
    }
    assert_refused(&namespace);
}

#[tokio::test]
async fn a_pod_whose_loopback_cannot_be_caught_runs_without_it() {
    let mut node = Node::new().await;
    let _forwards = node.let_dial().await;
    run(&node, &node.path("no-such-namespace")).await;
    assert!(node.journal.only(&["StopVM"]).is_empty());
}

#[tokio::test]
async fn a_machine_that_only_the_adaptor_reaches_has_no_forwarded_ports() {
    let node = Node::new().await;
    let Some(namespace) = PodNamespace::new(&node) else {
        return;
    };
    run(&node, &namespace.path).await;
    assert_refused(&namespace);
}
