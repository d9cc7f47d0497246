//! What a user of peer pods sees when a part of the node dies, or is set to work otherwise: nothing where it can be hidden,
//! and the reason where it cannot. These scenarios disturb all pods of the node, so they run one at a time.
#![allow(clippy::unwrap_used)]

mod adaptor;
mod capacity;
mod installation;
mod machine;
mod node;
mod peer_pods;
mod runtime;
mod warm;

use std::time::Duration;

use peerpods_testkit::{Bed, Pod, process_of, replaced, wait_adaptor_serves, wait_for};

/// A daemon is started again within a second, and serves soon after; a busy machine takes longer.
const RESTART_LIMIT: Duration = Duration::from_secs(60);

/// Kills a daemon without warning, and waits until another runs in its place.
#[track_caller]
fn kill_daemon(bed: &Bed, name: &str) {
    replace_daemon(bed, name, "-KILL");
}

/// Ends a daemon by a signal, and waits until another runs in its place.
#[track_caller]
fn replace_daemon(bed: &Bed, name: &str, signal: &str) {
    replaced(bed, name, |process| {
        bed.enter(&["kill", signal, process]).text();
    });
}

/// Names of the VMs on the node that run for a pod.
fn instances_of(bed: &Bed, pod: &Pod<'_>) -> Vec<String> {
    let script = format!(
        "for r in $(grep -l -a '\"{}\"' /run/peerpod/instances/*/record.json 2>/dev/null); do basename $(dirname $r); done",
        pod.name
    );
    let output = bed.enter(&["sh", "-c", &script]);
    output.stdout.lines().map(str::to_owned).collect()
}

/// The QEMU process of a pod's VM.
#[track_caller]
fn machine_of(bed: &Bed, pod: &Pod<'_>) -> String {
    let pattern = format!("[q]emu-system.*guest=podvm-{}-", pod.name);
    bed.enter(&["pgrep", "--full", &pattern]).text()
}

/// Waits until no VM is left of a pod.
#[track_caller]
fn wait_no_machine(bed: &Bed, pod: &Pod<'_>) {
    wait_for("no VM of the pod is left", RESTART_LIMIT, || {
        let left = instances_of(bed, pod);
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
}
