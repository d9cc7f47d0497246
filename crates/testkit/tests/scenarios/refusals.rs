//! What a VM beside the node cannot give: refused, with the reason.

use std::time::Duration;

use peerpods_testkit::{Bed, PodBuilder, Runtime, container, wait_for};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);

fn refused(field: &str, words: &str) {
    let bed = Bed::connect();
    let name = format!("no-{}", field.to_lowercase());
    let pod = PodBuilder::new(&name, Runtime::PeerPod, vec![container("main", "sleep 1000")])
        .spec(field, json!(true))
        .create(&bed);
    wait_for("the pod's events tell the reason", LIMIT, || {
        let events = pod.events();
        if events.contains("FailedCreatePodSandBox") && events.contains(words) {
            Ok(())
        } else {
            Err(events)
        }
    });
}

#[test]
fn the_nodes_network_is_refused() {
    refused("hostNetwork", "hostNetwork: true");
}

#[test]
fn the_nodes_processes_are_refused() {
    refused("hostPID", "hostPID: true");
}

#[test]
fn the_nodes_semaphores_are_refused() {
    refused("hostIPC", "hostIPC: true");
}

#[test]
fn devices_of_the_node_are_refused() {
    let bed = Bed::connect();
    let mut main = container("main", "sleep 1000");
    main["volumeMounts"] = json!([{"name": "device", "mountPath": "/dev/fuse"}]);
    let pod = PodBuilder::new("no-device", Runtime::PeerPod, vec![main])
        .spec(
            "volumes",
            json!([{"name": "device", "hostPath": {"path": "/dev/net/tun", "type": "CharDevice"}}]),
        )
        .create(&bed);
    wait_for("status or events tell the reason", LIMIT, || {
        let told = format!("{}\n{}", pod.status(), pod.events());
        if told.contains("/dev/net/tun") && told.contains("device") {
            Ok(())
        } else {
            Err(told)
        }
    });
}

#[test]
fn files_of_the_node_are_there_to_be_read() {
    let bed = Bed::connect();
    let made = "mkdir -p /run/host-path/folder; echo of the node > /run/host-path/folder/file";
    bed.enter(&["sh", "-c", made]).text();
    let mut main = container("main", "sleep 1000");
    main["volumeMounts"] = json!([{"name": "node", "mountPath": "/node"}]);
    let pod = PodBuilder::new("host-path", Runtime::PeerPod, vec![main])
        .spec(
            "volumes",
            json!([{"name": "node", "hostPath": {"path": "/run/host-path"}}]),
        )
        .start(&bed);
    assert_eq!(pod.shell("cat /node/folder/file"), "of the node");
    let refused = pod.exec(&["touch", "/node/new"]);
    assert!(refused.stderr.contains("Read-only"), "{}", refused.stderr);
}
