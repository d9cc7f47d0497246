//! What there is of everything that must not grow.

use std::{collections::BTreeMap, time::Duration};

use peerpods_testkit::{Bed, wait_for};

/// The kubelet removes what the container runtime remembers of ended sandboxes once a minute.
const SETTLE_LIMIT: Duration = Duration::from_secs(180);
/// What may be more than it was, since it comes and goes by itself: memory that an allocator keeps for the next time, and
/// threads that wait a while for more work.
const SLACK: [(&str, u64); 2] = [("memory in KiB", 1024), ("threads", 4)];

/// Counts by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Census(BTreeMap<&'static str, u64>);

/// What is counted on the node, with the shell command that counts it.
const OF_THE_NODE: [(&str, &str); 8] = [
    ("VMs", "ls /run/peerpod/instances | grep -c ^qemu-"),
    ("pod directories", "ls /run/peerpod/pods | wc -l"),
    ("QEMU processes", "pgrep -c qemu-system"),
    ("shims", "pgrep -fc '[c]ontainerd-shim-kata-v2.*-address'"),
    ("network devices", "ls /sys/class/net | wc -l"),
    ("network namespaces", "ls /run/netns | wc -l"),
    ("mounts", "wc -l < /proc/mounts"),
    (
        "cgroups",
        "find /sys/fs/cgroup -type d -path '*peerpods-*' 2>/dev/null | wc -l",
    ),
];

/// What is counted of one process.
const OF_A_PROCESS: [(&str, &str); 3] = [
    ("threads", "ls /proc/@PID@/task | wc -l"),
    ("descriptors", "ls /proc/@PID@/fd | wc -l"),
    (
        "memory in KiB",
        "awk '/^Rss/ { print $2 }' /proc/@PID@/smaps_rollup",
    ),
];

impl Census {
    pub(crate) fn of_process(bed: &Bed, process: &str) -> Self {
        let counts = OF_A_PROCESS
            .iter()
            .map(|(name, command)| (*name, count(bed, &command.replace("@PID@", process))));
        Self(counts.collect())
    }

    fn of_node(bed: &Bed) -> Self {
        let adaptor = bed.daemons("cloud-api-adapt").concat();
        let mut counts: BTreeMap<_, _> = OF_THE_NODE
            .iter()
            .map(|(name, command)| (*name, count(bed, command)))
            .collect();
        counts.insert("scratch disks", bed.scratch_disks() as u64);
        counts.extend(Self::of_process(bed, &adaptor).0);
        Self(counts)
    }

    /// What has grown since `before`.
    fn growth_since(&self, before: &Self) -> Vec<String> {
        let slack = |name| {
            SLACK
                .iter()
                .find(|(of, _)| *of == name)
                .map_or(0, |(_, slack)| *slack)
        };
        let then = |name| before.0.get(name).copied().unwrap_or(0);
        self.0
            .iter()
            .filter(|(name, now)| **now > then(**name) + slack(**name))
            .map(|(name, now)| format!("{name}: {} became {now}", then(*name)))
            .collect()
    }

    #[track_caller]
    pub(crate) fn assert_no_more_than(&self, before: &Self) {
        let growth = self.growth_since(before);
        assert!(growth.is_empty(), "{growth:#?}\n{before:?}\n{self:?}");
    }
}

fn count(bed: &Bed, command: &str) -> u64 {
    // A count of nothing ends with 1.
    let output = bed.enter(&["sh", "-c", command]);
    output.stdout.trim().parse().expect(command)
}

/// Waits until nothing is more than it was.
pub(crate) fn wait_no_more_than(bed: &Bed, before: &Census) {
    wait_for("the node is as it was", SETTLE_LIMIT, || {
        let growth = Census::of_node(bed).growth_since(before);
        if growth.is_empty() {
            Ok(())
        } else {
            Err(format!("{growth:#?}"))
        }
    });
}

/// Counts once no pod is left in the cluster, nothing of one on the node, and nothing changes any more.
pub(crate) fn wait_settled(bed: &Bed) -> Census {
    let mut last: Option<Census> = None;
    wait_for("all pods are gone from the node", SETTLE_LIMIT, || {
        let pods = bed.kubectl(&["get", "pods", "-o", "name"]).text();
        let census = Census::of_node(bed);
        let before = last.replace(census.clone());
        let is_still = before.is_some_and(|before| before.0["cgroups"] == census.0["cgroups"]);
        let left = ["VMs", "pod directories", "QEMU processes", "shims"]
            .iter()
            .any(|name| census.0[name] > 0);
        if pods.is_empty() && !left && is_still {
            Ok(census)
        } else {
            Err(format!("{pods} {census:?}"))
        }
    })
}
