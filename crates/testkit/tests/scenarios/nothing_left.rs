//! A pod that is gone leaves nothing behind.

use std::{collections::BTreeSet, time::Duration};

use peerpods_testkit::{Bed, PodBuilder, Runtime, container, wait_for, wait_no_disk_without_machine};
use serde_json::json;

/// The kubelet removes what the container runtime remembers of an ended sandbox once a minute.
const LIMIT: Duration = Duration::from_secs(120);

/// Everything on the node that bears one of these names: processes, mounts, cgroups, files, devices, namespaces; and
/// the records of VMs that mention one.
fn traces(bed: &Bed, names: &[&str]) -> BTreeSet<String> {
    // Patterns that do not match their own text: this script is a process of the node, too.
    let bracketed = |name: &&str| {
        let (first, rest) = name.split_at(1);
        format!("[{first}]{rest}")
    };
    let patterns: Vec<_> = names.iter().map(bracketed).collect();
    let expression = patterns.join("|");
    let files: Vec<_> = patterns
        .iter()
        .map(|pattern| format!("-name '*{pattern}*'"))
        .collect();
    let script = format!(
        "grep -l -a -E '{expression}' /proc/[0-9]*/cmdline 2>/dev/null; grep -E '{expression}' /proc/mounts; \
         ip -oneline link | grep -E '{expression}'; \
         grep -l -r -a -E '{expression}' /run/peerpod/instances 2>/dev/null; \
         find /sys/fs/cgroup /run /var/lib/cloud-api-adaptor {} 2>/dev/null",
        files.join(" -o ")
    );
    lines(bed, &script)
}

fn lines(bed: &Bed, script: &str) -> BTreeSet<String> {
    let output = bed.enter(&["sh", "-c", script]);
    let lines = output.stdout.lines().filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

#[track_caller]
fn the_only_line(bed: &Bed, script: &str) -> String {
    let found = lines(bed, script);
    assert_eq!(found.len(), 1, "{script}\n{found:#?}");
    found.into_iter().next().unwrap()
}

#[track_caller]
fn wait_nothing_left(bed: &Bed, names: &[&str]) {
    wait_for("nothing of the pod is left", LIMIT, || {
        let left = traces(bed, names);
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:#?}"))
        }
    });
    wait_no_disk_without_machine(bed);
}

#[test]
fn a_deleted_pod_leaves_nothing() {
    let bed = Bed::connect();
    let pod = PodBuilder::new("leave", Runtime::PeerPod, vec![container("main", "sleep 1000")])
        .spec("volumes", json!([{"name": "scratch", "emptyDir": {}}]))
        .start(&bed);
    // What the pod has on the node, by the names that it bears there.
    let record = the_only_line(
        &bed,
        &format!(
            "grep -l -a '\"{}\"' /run/peerpod/instances/*/record.json",
            pod.name
        ),
    );
    let instance = record.split('/').rev().nth(1).unwrap().to_owned();
    let sandbox = the_only_line(
        &bed,
        &format!("sed 's/.*\"sandbox\": *\"\\([^\"]*\\)\".*/\\1/' {record} | grep -x '[0-9a-f]*'"),
    );
    let bundle = format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{sandbox}");
    let namespace = the_only_line(
        &bed,
        &format!("grep -o '/netns/cni-[0-9a-f-]*' {bundle}/config.json | sort -u"),
    );
    let namespace = namespace.rsplit('/').next().unwrap().to_owned();
    let tap = format!("pp{}", &instance["qemu-".len()..][..12]);
    the_only_line(&bed, &format!("ip -oneline link show dev {tap}"));
    assert!(bed.scratch_disks() > 0);
    let tunnel = lines(
        &bed,
        &format!("ip -netns {namespace} -oneline link show type vxlan"),
    );
    assert_eq!((sandbox.len(), tunnel.len()), (64, 1), "{tunnel:?}");

    pod.delete();
    // The tunnel is in the pod's namespace and goes with it.
    wait_nothing_left(&bed, &[&sandbox, &instance, &namespace, &tap]);
}

#[test]
fn a_start_that_failed_half_way_leaves_nothing() {
    let bed = Bed::connect();
    // A VM that starts and never boots: its kernel is none.
    let made = "d=/run/peerpod/images/half; mkdir -p $d; echo half > $d/vmlinuz; echo half > $d/initrd.img";
    bed.enter(&["sh", "-c", made]).text();
    let pod = PodBuilder::new(
        "half-way",
        Runtime::PeerPod,
        vec![container("main", "sleep 1000")],
    )
    .annotation("io.katacontainers.config.hypervisor.image", "half")
    .create(&bed);
    let name = pod.name.clone();
    wait_for("the start fails", LIMIT, || {
        let events = pod.events();
        if events.contains("FailedCreatePodSandBox") {
            Ok(())
        } else {
            Err(events)
        }
    });
    pod.delete();
    // By its pod's name: every attempt had a sandbox of its own.
    wait_nothing_left(&bed, &[&name]);
}
