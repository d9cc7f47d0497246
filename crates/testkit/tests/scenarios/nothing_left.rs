//! A pod that is gone leaves nothing behind.

use std::{collections::BTreeSet, time::Duration};

use peerpods_testkit::{Bed, PodBuilder, Runtime, container, wait_for};
use serde_json::json;

/// The kubelet removes what the container runtime remembers of an ended sandbox once a minute.
const LIMIT: Duration = Duration::from_secs(120);

/// Everything on the node that names this sandbox: processes, devices, mounts, cgroups, files.
fn traces(bed: &Bed, sandbox: &str) -> BTreeSet<String> {
    // A pattern that does not match its own text: this script is a process of the node, too.
    let (first, rest) = sandbox.split_at(1);
    let script = format!(
        "grep -l -a '[{first}]{rest}' /proc/[0-9]*/cmdline 2>/dev/null; \
         grep '[{first}]{rest}' /proc/mounts; \
         find /sys/fs/cgroup /run /var/lib/cloud-api-adaptor -name '*[{first}]{rest}*' 2>/dev/null"
    );
    let output = bed.enter(&["sh", "-c", &script]);
    output
        .stdout
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// All VMs and tunnel devices of the node.
fn machines_and_devices(bed: &Bed) -> BTreeSet<String> {
    let script = "ls /run/peerpod/instances 2>/dev/null; ls /sys/class/net | grep -E '^(ppvxlan|ppt)'; \
                  for n in /run/netns/*; do nsenter --net=$n ls /sys/class/net 2>/dev/null | grep vxlan; done";
    let output = bed.enter(&["sh", "-c", script]);
    output
        .stdout
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

fn sandbox_of(bed: &Bed, pod: &str) -> String {
    let output = bed.enter(&["sh", "-c", &format!("ls -d /run/peerpod/pods/* | while read d; do grep -l -a '\"{pod}\"' /run/containerd/io.containerd.runtime.v2.task/k8s.io/$(basename $d)/config.json; done")]);
    let path = output.stdout.lines().next().unwrap_or_default().to_owned();
    path.split('/').rev().nth(1).unwrap_or_default().to_owned()
}

#[test]
fn a_deleted_pod_leaves_nothing() {
    let bed = Bed::connect();
    let pod = PodBuilder::new("leave", Runtime::PeerPod, vec![container("main", "sleep 1000")])
        .spec("volumes", json!([{"name": "scratch", "emptyDir": {}}]))
        .start(&bed);
    let sandbox = sandbox_of(&bed, &pod.name);
    assert_eq!(sandbox.len(), 64, "the sandbox of the pod is found");
    let before = machines_and_devices(&bed);
    assert!(
        !traces(&bed, &sandbox).is_empty() && !before.is_empty(),
        "a running pod is seen"
    );
    pod.delete();
    wait_for("nothing of the sandbox is left", LIMIT, || {
        let left = traces(&bed, &sandbox);
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:#?}"))
        }
    });
}
