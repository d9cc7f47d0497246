//! containerd, the kubelet, or a pod's shim dies.

use peerpods_testkit::{Bed, PodBuilder, Runtime, container};
use serde_json::json;

use crate::{kill_daemon, process_of, wait_no_machine};

/// A pod goes on as it was: its processes and files are what they were, and it can be used and deleted.
fn goes_on_without(daemon: &str, name: &str) {
    let bed = Bed::connect();
    let pod = PodBuilder::new(
        name,
        Runtime::PeerPod,
        vec![container("main", "echo $$ > /tmp/mark; exec sleep 4711")],
    )
    .start(&bed);
    pod.shell("echo kept > /tmp/file");
    kill_daemon(&bed, daemon);
    process_of(&bed, daemon);
    peerpods_testkit::wait_for("exec works again", crate::RESTART_LIMIT, || {
        let output = pod.exec(&["cat", "/tmp/file"]);
        if output.code == 0 && output.text() == "kept" {
            Ok(())
        } else {
            Err(output.stderr)
        }
    });
    assert_eq!(pod.container_status("main")["restartCount"], 0);
    assert!(pod.shell("ps").contains("sleep 4711"));
    pod.delete();
}

#[test]
fn pods_go_on_without_containerd() {
    goes_on_without("containerd", "no-containerd");
}

#[test]
fn pods_go_on_without_the_kubelet() {
    goes_on_without("kubelet", "no-kubelet");
}

#[test]
fn a_pod_without_its_shim_fails_and_its_vm_goes() {
    let bed = Bed::connect();
    let pod = PodBuilder::new("no-shim", Runtime::PeerPod, vec![container("main", "sleep 1000")])
        .spec("restartPolicy", json!("Never"))
        .start(&bed);
    let shim = pod.shim();
    bed.enter(&["kill", "-KILL", &shim]).text();
    pod.wait_phase("Failed");
    wait_no_machine(&bed, &pod);
    pod.delete();
}
