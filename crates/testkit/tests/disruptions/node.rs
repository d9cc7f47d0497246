//! Everything of ours on the node dies at once, as when it is rebooted.

use peerpods_testkit::{Bed, PodBuilder, Runtime, container, wait_no_disk_without_machine};

use crate::{instances_of, machine_of};

#[test]
fn after_everything_died_at_once_no_vm_is_left_and_pods_run_again() {
    let bed = Bed::connect();
    let pod = PodBuilder::new("reboot", Runtime::PeerPod, vec![container("main", "sleep 1000")]).start(&bed);
    let before = instances_of(&bed, &pod);
    let victims = [
        pod.shim(),
        crate::process_of(&bed, "cloud-api-adapt"),
        crate::process_of(&bed, "containerd"),
        crate::process_of(&bed, "kubelet"),
    ];
    let machine = machine_of(&bed, &pod);
    bed.enter(&["sh", "-c", &format!("kill -KILL {}", victims.join(" "))])
        .text();
    peerpods_testkit::wait_for(
        "the old VM is gone and a new one runs",
        crate::RESTART_LIMIT * 2,
        || {
            let now = instances_of(&bed, &pod);
            let old = bed.enter(&["kill", "-0", &machine]).code == 0;
            if now.len() == 1 && now != before && !old {
                Ok(())
            } else {
                Err(format!("{now:?}, the old one lives: {old}"))
            }
        },
    );
    pod.wait_ready();
    pod.delete();
    wait_no_disk_without_machine(&bed);
}
