//! cloud-api-adaptor dies, at every point of a pod's life.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use peerpods_testkit::{
    Bed, NAMESPACE, PodBuilder, Runtime, container, wait_for, wait_no_disk_without_machine,
};

use crate::{RESTART_LIMIT, instances_of, kill_daemon, replaced, wait_adaptor_serves};

const ADAPTOR: &str = "cloud-api-adapt";
const DAEMON_SET: &str = "daemonset/peerpodconfig-ctrl-caa-daemon";

#[test]
fn killed_it_costs_open_streams_no_byte_and_the_pod_is_deleted_as_ever() {
    streams_go_on("streams", |bed| kill_daemon(bed, ADAPTOR));
}

#[test]
fn replaced_by_a_new_version_it_costs_open_streams_no_byte() {
    // Another pod with another container: nothing of the old one is left, and its VMs were none of it.
    streams_go_on("upgrade", |bed| {
        replaced(bed, ADAPTOR, |_| {
            bed.kubectl(&["-n", NAMESPACE, "rollout", "restart", DAEMON_SET])
                .text();
        });
    });
}

fn streams_go_on(name: &str, replace: impl FnOnce(&Bed)) {
    let bed = Bed::connect();
    let script = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done";
    let pod = PodBuilder::new(name, Runtime::PeerPod, vec![container("main", script)]).start(&bed);
    let machine = instances_of(&bed, &pod);
    let mut follow = bed.kubectl_in_background(&["logs", "--follow", &pod.name]);
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut echo = Command::new(bed.program("kubectl"))
        .args(["exec", "-i", &pod.name, "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = echo.stdin.take().unwrap();
    let mut output = BufReader::new(echo.stdout.take().unwrap()).lines();
    let mut say = |text: &str| {
        writeln!(input, "{text}").unwrap();
        output.next().unwrap().unwrap()
    };
    assert_eq!(say("before"), "before");

    replace(&bed);
    assert_eq!(
        say("while it is away, or just back"),
        "while it is away, or just back"
    );
    wait_adaptor_serves(&bed);
    assert_eq!(say("after"), "after");
    for expected in 0..500 {
        assert_eq!(lines.next().unwrap().unwrap(), expected.to_string());
    }
    assert_eq!(
        instances_of(&bed, &pod),
        machine,
        "the pod has the VM that it had"
    );
    assert_eq!(pod.container_status("main")["restartCount"], 0);
    drop(input);
    assert!(echo.wait().unwrap().success());
    follow.kill().unwrap();
    follow.wait().unwrap();
    let name = pod.name.clone();
    pod.delete();
    let left = bed.enter(&["grep", "-r", "-l", "-a", &name, "/run/peerpod"]);
    assert_eq!(left.stdout, "", "something of the pod is left");
}

/// Kills the adaptor as soon as the node shows that a pod's start has come to a point, and expects the pod to run, in
/// one VM.
fn killed_at(name: &str, point: &str) {
    let bed = Bed::connect();
    let pod = PodBuilder::new(name, Runtime::PeerPod, vec![container("main", "sleep 1000")]).create(&bed);
    let script = point.replace("@POD@", &pod.name);
    wait_for(&format!("the start comes to: {script}"), RESTART_LIMIT, || {
        let reached = bed.enter(&["sh", "-c", &script]);
        if reached.code == 0 {
            Ok(())
        } else {
            Err(reached.stderr)
        }
    });
    kill_daemon(&bed, ADAPTOR);
    pod.wait_ready();
    assert_eq!(instances_of(&bed, &pod).len(), 1, "the pod has one VM");
    assert_eq!(pod.shell("echo works"), "works");
    let copy = pod.name.clone();
    pod.delete();
    let left = bed.enter(&["grep", "-r", "-l", "-a", &copy, "/run/peerpod"]);
    assert_eq!(left.stdout, "", "something of the pod is left");
    wait_no_disk_without_machine(&bed);
}

#[test]
fn killed_while_a_vm_is_launched_it_launches_no_second_one() {
    killed_at(
        "launching",
        "grep -l -a '\"@POD@\"' /run/peerpod/instances/*/record.json",
    );
}

#[test]
fn killed_while_a_vm_boots_it_meets_the_same_one() {
    killed_at(
        "booting",
        "grep -l -a 'podvm-@POD@-' /proc/[0-9]*/cmdline && grep -q instance-launched /run/peerpod/pods/*/timeline",
    );
}

#[test]
fn killed_while_containers_are_made_it_is_not_missed() {
    killed_at(
        "creating",
        "grep -l -a '\"@POD@\"' /run/peerpod/instances/*/record.json && grep -q sandbox-created /run/peerpod/pods/*/timeline",
    );
}

#[test]
fn killed_while_a_vm_ends_it_ends_it_all_the_same() {
    let bed = Bed::connect();
    let pod = PodBuilder::new("ending", Runtime::PeerPod, vec![container("main", "sleep 1000")]).start(&bed);
    bed.kubectl(&["delete", "pod", &pod.name, "--now", "--wait=false"])
        .text();
    kill_daemon(&bed, ADAPTOR);
    crate::wait_no_machine(&bed, &pod);
    wait_for("the pod is gone", RESTART_LIMIT, || {
        match bed.get("pod", &pod.name) {
            None => Ok(()),
            Some(pod) => Err(pod.to_string()),
        }
    });
}

#[test]
fn an_adaptor_that_lost_its_journal_leaves_no_vm_behind() {
    let bed = Bed::connect();
    let pod = PodBuilder::new(
        "forgotten",
        Runtime::PeerPod,
        vec![container("main", "sleep 1000")],
    )
    .start(&bed);
    let before = instances_of(&bed, &pod);
    bed.enter(&["sh", "-c", "rm -rf /var/lib/cloud-api-adaptor/*"])
        .text();
    kill_daemon(&bed, ADAPTOR);
    // Its VM has no owner any more and ends; the pod gets another.
    wait_for("the pod runs in another VM", RESTART_LIMIT, || {
        let now = instances_of(&bed, &pod);
        if now.len() == 1 && now != before {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        }
    });
    pod.wait_ready();
}
