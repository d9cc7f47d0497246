//! What the cluster sees of a VM: its PeerPod.

use std::time::Duration;

use peerpods_testkit::{Bed, PodBuilder, Runtime, container, wait_for};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);

/// The PeerPod that a pod owns, where there is one.
fn peer_pod_of(bed: &Bed, pod: &str) -> Option<Value> {
    let text = bed.kubectl(&["get", "peerpods", "--output", "json"]).text();
    let mut list: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
    let all = list["items"].as_array_mut().expect("a list has items");
    let found = all
        .iter_mut()
        .find(|one| one["metadata"]["ownerReferences"][0]["name"] == pod);
    found.map(Value::take)
}

fn wait_gone(bed: &Bed, pod: &str) {
    wait_for("the PeerPod is gone", LIMIT, || match peer_pod_of(bed, pod) {
        None => Ok(()),
        Some(object) => Err(format!("{object:#}")),
    });
}

#[test]
fn a_vm_is_seen_as_a_peer_pod_that_its_pod_owns() {
    let bed = Bed::connect();
    let pod = PodBuilder::new("seen", Runtime::PeerPod, vec![container("main", "sleep 1000")]).start(&bed);
    let object = wait_for("the PeerPod says Ready", LIMIT, || {
        let object = peer_pod_of(&bed, &pod.name).ok_or("there is none")?;
        match object["status"]["phase"] == "Ready" {
            true => Ok(object),
            false => Err(format!("{object:#}")),
        }
    });
    let owner = bed.get("pod", &pod.name).unwrap()["metadata"]["uid"].take();
    let metadata = &object["metadata"];
    assert_eq!(metadata["ownerReferences"][0]["uid"], owner);
    assert_eq!(metadata["finalizers"][0], "peer.pod/finalizer");
    assert!(
        metadata["name"]
            .as_str()
            .unwrap()
            .starts_with(&format!("{}-resource-", pod.name))
    );
    assert_eq!(object["spec"]["nodeName"], "lab-node");
    let status = &object["status"];
    assert!(
        status["addresses"][0].as_str().unwrap().starts_with("10.250.0."),
        "{status}"
    );
    // The times are texts that sort as they follow one another; the object is there before its VM was asked for.
    let time = |value: &Value| value.as_str().unwrap()[..19].to_owned();
    let times = [
        time(&metadata["creationTimestamp"]),
        time(&status["launchTime"]),
        time(&status["bootTime"]),
        time(&status["readyTime"]),
    ];
    assert!(times.is_sorted(), "{times:?}");
    let table = bed.kubectl(&["get", "peerpods"]).text();
    assert!(
        table.contains("PHASE") && table.contains(status["instanceID"].as_str().unwrap()),
        "{table}"
    );

    let name = pod.name.clone();
    pod.delete();
    wait_gone(&bed, &name);
}

#[test]
fn a_vm_that_cannot_be_made_leaves_no_peer_pod() {
    let bed = Bed::connect();
    let pod = PodBuilder::new("unmade", Runtime::PeerPod, vec![container("main", "sleep 1000")])
        .annotation("io.katacontainers.config.hypervisor.image", "no-such-vm-image")
        .create(&bed);
    wait_for("the pod says why", LIMIT, || match pod.events() {
        told if told.contains("no-such-vm-image") => Ok(()),
        told => Err(told),
    });
    let name = pod.name.clone();
    pod.delete();
    wait_gone(&bed, &name);
}

#[test]
fn an_administrator_sees_by_metrics_what_vms_there_are_and_how_long_they_took() {
    let bed = Bed::connect();
    let before = vm_starts(&bed);
    let pod = PodBuilder::new(
        "measured",
        Runtime::PeerPod,
        vec![container("main", "sleep 1000")],
    )
    .start(&bed);
    let figures = figures(&bed);
    assert!(vm_starts(&bed) > before, "{figures}");
    assert!(
        figure(&figures, r#"peerpods_adaptor_sandboxes{state="ready"}"#) >= 1.0,
        "{figures}"
    );
    let launches = r#"peerpods_adaptor_provider_calls_total{call="launch",outcome="done"}"#;
    assert!(figure(&figures, launches) >= 1.0, "{figures}");
    drop(pod);
}

/// What Prometheus would read of the node's adaptor.
fn figures(bed: &Bed) -> String {
    let url = "http://127.0.0.1:8000/metrics";
    bed.enter(&["busybox", "wget", "-q", "-O", "-", url]).text()
}

fn figure(figures: &str, name: &str) -> f64 {
    let line = figures
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().expect("a figure is a number"))
}

fn vm_starts(bed: &Bed) -> f64 {
    figure(&figures(bed), "peerpods_adaptor_vm_start_duration_seconds_count")
}
