//! A pod's life on an instance, of an EC2 that throttles, has no room in one subnet, and whose answers are lost on the way.

use peerpods_testkit::{Bed, PodBuilder, Runtime, container, wait_for};
use serde_json::json;

use crate::{
    BOOT_LIMIT, END_LIMIT,
    account::{Account, Faults, console, describe, launched},
    instance_of, wait_as_before,
};

const SERVE: &str = "mkdir /www; echo \"hello from $(hostname)\" > /www/index.html; echo serving; exec httpd -f -p 8080 -h /www";

/// EC2 has no room in the subnet `full`, throttles a launch, and loses an answer to a launch and one to an end.
fn failing<'bed>(bed: &'bed Bed, full: &str) -> Faults<'bed> {
    let rules = json!([
        {"action": "RunInstances", "fault": "throttle"},
        {"action": "RunInstances", "subnet": full, "fault": "no-capacity", "times": 100},
        {"action": "RunInstances", "fault": "lose-reply"},
        {"action": "TerminateInstances", "fault": "lose-reply"},
    ]);
    Faults::of(bed, &rules)
}

#[test]
fn a_pod_runs_on_one_instance_of_the_published_image_and_leaves_nothing_though_ec2_fails() {
    let bed = Bed::connect();
    let (before, launched_before) = (Account::of(&bed), launched(&bed));
    let full = before.subnets[0].as_str();
    let faults = failing(&bed, full);
    let mut web = container("web", SERVE);
    web["readinessProbe"] = json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1});
    let pod = PodBuilder::new("instance", Runtime::PeerPod, vec![web]).create(&bed);
    pod.wait_ready_within(BOOT_LIMIT);

    // One instance more, which is the one that the PeerPod names and a machine, with its volume and its interface.
    let now = Account::of(&bed);
    assert_eq!(now.instances, [instance_of(&bed, &pod)]);
    assert_eq!(now.machines, before.machines + 1);
    assert_eq!(now.volumes.len(), before.volumes.len() + 1);
    assert_eq!(now.interfaces.len(), before.interfaces.len() + 1);
    assert_eq!(now.snapshots, before.snapshots);
    let shown = describe(&bed, &now.instances[0]);
    assert!(
        shown.contains("<value>lab-node</value>"),
        "its tags do not say whose it is: {shown}"
    );
    let listed = bed.kubectl(&["peerpods", "list"]).text();
    let line = listed.lines().find(|line| line.contains(&now.instances[0]));
    assert!(line.is_some_and(|line| line.contains("t3.small")), "{listed}");
    assert!(!shown.contains(full), "there is no room in {full}: {shown}");
    let new: Vec<String> = launched(&bed).difference(&launched_before).cloned().collect();
    assert_eq!(new, now.instances, "no other was launched");

    // It is the pod's own kernel, and the pod's network leads there.
    assert_ne!(pod.shell("uname -r"), bed.enter(&["uname", "-r"]).text());
    assert_eq!(pod.logs(&[]).text(), "serving");
    let page = format!("http://{}:8080/", pod.address());
    let fetched = bed.enter(&["busybox", "wget", "-q", "-O", "-", &page]).text();
    assert_eq!(fetched, format!("hello from {}", pod.name));
    // What the instance is told of itself, its pod is not.
    let ask = "timeout 5 wget -q -O - http://169.254.169.254/latest/user-data || echo refused";
    assert_eq!(pod.shell(ask), "refused");
    // Its clock goes by EC2's.
    wait_for("the clock is compared", END_LIMIT, || {
        let console = console(&bed, &now.instances[0]);
        let is_told = |line: &str| line.contains("the clock is ") && line.contains("Amazon's time server");
        if console.lines().any(is_told) {
            Ok(())
        } else {
            Err(console)
        }
    });

    pod.delete();
    wait_as_before(&bed, &before);
    let struck = faults.struck();
    assert!(struck.iter().all(|times| *times > 0), "{struck:?}");
}
