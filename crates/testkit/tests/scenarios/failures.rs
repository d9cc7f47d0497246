//! What cannot work says why, where a user looks: in the pod's status and events.

use peerpods_testkit::{Bed, Pod, PodBuilder, Runtime, container, wait_for};
use serde_json::{Value, json};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);

#[track_caller]
fn wait_told(pod: &Pod<'_>, parts: &[&str]) {
    wait_for(&format!("status or events name {parts:?}"), LIMIT, || {
        let told = format!("{}\n{}", pod.status(), pod.events());
        if parts.iter().all(|part| told.contains(part)) {
            Ok(())
        } else {
            Err(told)
        }
    });
}

fn pod_of_image(name: &str, image: &str) -> PodBuilder {
    let mut main = container("main", "sleep 1000");
    main["image"] = json!(image);
    PodBuilder::new(name, Runtime::PeerPod, vec![main])
}

#[test]
fn an_image_that_does_not_exist_is_named() {
    let bed = Bed::connect();
    let pod = pod_of_image("no-image", "10.250.0.1:5000/no-such-image:1").create(&bed);
    wait_told(&pod, &["no-such-image:1", "not found"]);
}

#[test]
fn a_registry_that_does_not_answer_is_named() {
    let bed = Bed::connect();
    let pod = pod_of_image("no-registry", "10.250.0.1:5999/busybox:1.35").create(&bed);
    wait_told(&pod, &["10.250.0.1:5999", "refused"]);
}

#[test]
fn a_vm_that_cannot_be_made_is_named() {
    let bed = Bed::connect();
    let pod = PodBuilder::new("no-vm", Runtime::PeerPod, vec![container("main", "sleep 1000")])
        .annotation("io.katacontainers.config.hypervisor.image", "no-such-vm-image")
        .create(&bed);
    wait_told(&pod, &["FailedCreatePodSandBox", "no-such-vm-image"]);
}

#[test]
fn a_vm_that_does_not_boot_shows_its_last_words() {
    let bed = Bed::connect();
    // An image directory whose kernel is no kernel.
    let made =
        "d=/run/peerpod/images/broken; mkdir -p $d; echo broken > $d/vmlinuz; echo broken > $d/initrd.img";
    bed.enter(&["sh", "-c", made]).text();
    let pod = PodBuilder::new("no-boot", Runtime::PeerPod, vec![container("main", "sleep 1000")])
        .annotation("io.katacontainers.config.hypervisor.image", "broken")
        .create(&bed);
    wait_told(&pod, &["FailedCreatePodSandBox", "VM"]);
    let status = pod.status();
    assert_ne!(status["phase"], Value::from("Running"));
}
