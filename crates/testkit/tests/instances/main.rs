//! Peer pods whose VMs are instances of EC2, as far as an emulator has one: a bed that `make up PROVIDER=aws` started. Its
//! instances are machines that boot the published disk, so these scenarios have everything of AWS but AWS.
#![allow(clippy::unwrap_used)]

mod account;
mod ends;
mod external;
mod life;
mod settings;

use std::time::Duration;

use peerpods_testkit::{Bed, Pod, PodBuilder, Runtime, container, wait_for};
use serde_json::{Value, json};

/// Firmware, kernel and all are emulated, for several instances at once, beside whatever else the machine does.
const BOOT_LIMIT: Duration = Duration::from_secs(300);
/// What ends takes seconds.
const END_LIMIT: Duration = Duration::from_secs(60);

/// Some seconds; the container image with the disk is pulled, too.
const PUBLICATION_LIMIT: Duration = Duration::from_secs(180);
/// A node asks three times a minute whether instances are taken back, and its first answer may be as old.
const NOTICE_LIMIT: Duration = Duration::from_secs(90);

/// A pod that does nothing, and is not started again.
fn created<'bed>(bed: &'bed Bed, name: &str) -> Pod<'bed> {
    PodBuilder::new(name, Runtime::PeerPod, vec![container("main", "sleep 1000000")])
        .spec("restartPolicy", json!("Never"))
        .create(bed)
}

/// Waits for the pod's end and checks that its container is said to have gone with its VM; gives the words.
#[track_caller]
fn wait_killed(pod: &Pod<'_>) -> String {
    pod.wait_phase("Failed");
    let ended = pod.container_status("main")["state"]["terminated"].clone();
    let message = ended["message"].as_str().unwrap_or_default();
    assert!(message.contains("virtual machine is gone"), "{ended}");
    message.to_owned()
}

/// The PeerPods that there are.
fn peer_pods(bed: &Bed) -> Vec<Value> {
    let text = bed.kubectl(&["get", "peerpods", "--output", "json"]).text();
    let mut list: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
    list["items"]
        .as_array_mut()
        .expect("a list has items")
        .split_off(0)
}

/// The instance that a pod's PeerPod names.
#[track_caller]
fn instance_of(bed: &Bed, pod: &Pod<'_>) -> String {
    wait_for("the PeerPod names an instance", END_LIMIT, || {
        let all = peer_pods(bed);
        let own = all
            .iter()
            .find(|one| one["metadata"]["ownerReferences"][0]["name"] == pod.name.as_str());
        let id = own.and_then(|own| own["status"]["instanceID"].as_str());
        id.map(str::to_owned).ok_or_else(|| format!("{all:#?}"))
    })
}

/// Waits until EC2 has what it had before, no PeerPod is left, and no device of an instance.
#[track_caller]
fn wait_as_before(bed: &Bed, before: &account::Account) {
    wait_for("nothing is left in EC2 and in the cluster", END_LIMIT, || {
        let (now, peer_pods) = (account::Account::of(bed), peer_pods(bed));
        let devices = bed.enter(&["sh", "-c", "ip -brief link | grep ^ec2-"]).stdout;
        if now == *before && peer_pods.is_empty() && devices.is_empty() {
            Ok(())
        } else {
            Err(format!("{now:#?}, before {before:#?}\n{peer_pods:#?}\n{devices}"))
        }
    });
}
