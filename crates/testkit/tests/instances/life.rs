//! A pod's life on an instance.

use peerpods_testkit::{Bed, PodBuilder, Runtime, container};
use serde_json::json;

use crate::{
    BOOT_LIMIT,
    account::{Account, describe},
    instance_of, wait_as_before,
};

const SERVE: &str = "mkdir /www; echo \"hello from $(hostname)\" > /www/index.html; echo serving; exec httpd -f -p 8080 -h /www";

#[test]
fn a_pod_runs_on_an_instance_of_the_published_image_and_leaves_nothing() {
    let bed = Bed::connect();
    let before = Account::of(&bed);
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

    // It is the pod's own kernel, and the pod's network leads there.
    assert_ne!(pod.shell("uname -r"), bed.enter(&["uname", "-r"]).text());
    assert_eq!(pod.logs(&[]).text(), "serving");
    let page = format!("http://{}:8080/", pod.address());
    let fetched = bed.enter(&["busybox", "wget", "-q", "-O", "-", &page]).text();
    assert_eq!(fetched, format!("hello from {}", pod.name));
    // What the instance is told of itself, its pod is not.
    let ask = "timeout 5 wget -q -O - http://169.254.169.254/latest/user-data || echo refused";
    assert_eq!(pod.shell(ask), "refused");

    pod.delete();
    wait_as_before(&bed, &before);
}
