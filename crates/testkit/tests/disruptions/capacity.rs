//! The node's limit of VMs: the scheduler counts, and nobody else has to.

use peerpods_testkit::{Bed, NAMESPACE, Pod, PodBuilder, Runtime, container, wait_for};
use serde_json::json;

use crate::RESTART_LIMIT;

/// The limit of the bed's node is what it was once this goes.
struct Limit<'bed> {
    bed: &'bed Bed,
    before: String,
}

const CONFIG: &str = "peerpodconfig-openshift";

impl<'bed> Limit<'bed> {
    fn of(bed: &'bed Bed, limit: &str) -> Self {
        let config = ["-n", NAMESPACE, "get", "peerpodconfig", CONFIG];
        let before = bed.kubectl(&[&config[..], &["-o", "jsonpath={.spec.limit}"]].concat());
        let changed = Self {
            bed,
            before: before.text(),
        };
        changed.edit(limit);
        changed
    }

    /// As an administrator does.
    fn edit(&self, limit: &str) {
        let patch = json!({"spec": {"limit": limit}}).to_string();
        let change = [
            "patch",
            "peerpodconfig",
            CONFIG,
            "--type=merge",
            "--patch",
            &patch,
        ];
        self.bed
            .kubectl(&[&["-n", NAMESPACE], &change[..]].concat())
            .text();
        wait_for(&format!("the node has {limit}"), RESTART_LIMIT, || {
            let node = self.bed.kubectl(&["describe", "node", "lab-node"]).text();
            let shown = |line: &str| {
                let mut words = line.split_whitespace();
                words.next() == Some("kata.peerpods.io/vm:") && words.next() == Some(limit)
            };
            // Capacity, and what is allocatable of it.
            if node.lines().filter(|line| shown(line)).count() == 2 {
                Ok(())
            } else {
                Err(node)
            }
        });
    }
}

impl Drop for Limit<'_> {
    fn drop(&mut self) {
        self.edit(&self.before);
    }
}

fn pod<'bed>(bed: &'bed Bed, name: &str) -> Pod<'bed> {
    PodBuilder::new(name, Runtime::PeerPod, vec![container("main", "sleep 1000")]).create(bed)
}

#[track_caller]
fn wait_no_room(pod: &Pod<'_>) {
    wait_for("the scheduler says why it waits", RESTART_LIMIT, || {
        let events = pod.events();
        if events.contains("Insufficient kata.peerpods.io/vm") {
            Ok(())
        } else {
            Err(events)
        }
    });
    assert_eq!(pod.status()["phase"], "Pending");
}

#[test]
fn beyond_the_limit_a_pod_waits_until_one_goes_or_the_limit_grows() {
    let bed = Bed::connect();
    let limit = Limit::of(&bed, "2");
    let (first, second) = (pod(&bed, "counted-first"), pod(&bed, "counted-second"));
    first.wait_ready();
    second.wait_ready();
    let third = pod(&bed, "counted-third");
    wait_no_room(&third);
    first.delete();
    third.wait_ready();

    let fourth = pod(&bed, "counted-fourth");
    wait_no_room(&fourth);
    limit.edit("3");
    fourth.wait_ready();

    // Below what is in use: no pod is killed.
    limit.edit("1");
    assert_eq!(second.shell("echo lives"), "lives");
}
