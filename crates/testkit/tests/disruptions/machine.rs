//! A pod's VM dies, or falls silent.

use std::time::{Duration, Instant};

use peerpods_testkit::{Bed, Pod, PodBuilder, Runtime, container, wait_for};
use serde_json::json;

use crate::{instances_of, machine_of, wait_no_machine};

/// What the API server shows of an end comes after the kubelet's own look, once a second.
const KUBELET: Duration = Duration::from_secs(4);

fn mortal<'bed>(bed: &'bed Bed, name: &str) -> Pod<'bed> {
    PodBuilder::new(name, Runtime::PeerPod, vec![container("main", "sleep 1000")])
        .spec("restartPolicy", json!("Never"))
        .start(bed)
}

/// Waits for the pod's end and checks that its container is said to have been killed.
fn wait_killed(pod: &Pod<'_>, since: Instant, within: Duration) {
    pod.wait_phase("Failed");
    let took = since.elapsed();
    let ended = pod.container_status("main")["state"]["terminated"].clone();
    assert_eq!(ended["exitCode"], 137, "{ended}");
    let message = ended["message"].as_str().unwrap_or_default();
    assert!(message.contains("virtual machine is gone"), "{ended}");
    assert!(took < within + KUBELET, "seen only after {took:?}");
}

#[test]
fn a_vm_that_is_killed_is_missed_at_once() {
    let bed = Bed::connect();
    let pod = mortal(&bed, "killed");
    let machine = machine_of(&bed, &pod);
    let start = Instant::now();
    bed.enter(&["kill", "-KILL", &machine]).text();
    wait_killed(&pod, start, Duration::from_secs(2));
    wait_no_machine(&bed, &pod);
    pod.delete();
}

#[test]
fn a_vm_that_falls_silent_is_given_up_within_ten_seconds() {
    let bed = Bed::connect();
    let pod = mortal(&bed, "silent");
    let machine = machine_of(&bed, &pod);
    let start = Instant::now();
    bed.enter(&["kill", "-STOP", &machine]).text();
    wait_killed(&pod, start, Duration::from_secs(10));
    wait_no_machine(&bed, &pod);
    pod.delete();
}

#[test]
fn a_deployment_replaces_what_its_vm_took_along() {
    let bed = Bed::connect();
    let pod = PodBuilder::new(
        "replaced",
        Runtime::PeerPod,
        vec![container("main", "sleep 1000")],
    )
    .start(&bed);
    let before = instances_of(&bed, &pod);
    bed.enter(&["kill", "-KILL", &machine_of(&bed, &pod)]).text();
    wait_for("the pod runs in another VM", crate::RESTART_LIMIT, || {
        let now = instances_of(&bed, &pod);
        let restarts = pod.container_status("main")["restartCount"].clone();
        if now.len() == 1 && now != before && restarts != 0 {
            Ok(())
        } else {
            Err(format!("{now:?} {restarts}"))
        }
    });
    pod.wait_ready();
    assert_eq!(pod.shell("echo works"), "works");
    pod.delete();
}
