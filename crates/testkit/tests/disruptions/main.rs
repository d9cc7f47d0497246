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

use peerpods_testkit::{Bed, Pod, wait_for};

/// A daemon is started again within a second, and serves soon after; a busy machine takes longer.
const RESTART_LIMIT: Duration = Duration::from_secs(60);

/// The process of a daemon of the node; its name as the kernel keeps it, cut to 15 characters.
#[track_caller]
fn process_of(bed: &Bed, name: &str) -> String {
    wait_for(&format!("{name} runs"), RESTART_LIMIT, || {
        match bed.daemons(name).as_slice() {
            [only] => Ok(only.clone()),
            found => Err(format!("{found:?}")),
        }
    })
}

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

/// Waits until another process of a daemon runs, after what was done to the one before.
#[track_caller]
fn replaced(bed: &Bed, name: &str, act: impl FnOnce(&str)) {
    let before = process_of(bed, name);
    act(&before);
    wait_for(&format!("{name} is started again"), RESTART_LIMIT, || {
        let now = process_of(bed, name);
        if now == before { Err(now) } else { Ok(()) }
    });
}

/// Waits until the adaptor listens for shims.
#[track_caller]
fn wait_adaptor_serves(bed: &Bed) {
    wait_for("cloud-api-adaptor serves its socket", RESTART_LIMIT, || {
        let sockets = bed.enter(&["cat", "/proc/net/unix"]).text();
        if sockets.contains("/run/peerpod/hypervisor.sock") {
            Ok(())
        } else {
            Err(sockets)
        }
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
