//! Peer pods come to the cluster, are replaced by another version, and leave it.

use std::collections::BTreeSet;

use peerpods_testkit::{Bed, NAMESPACE, Output, PodBuilder, Runtime, container, wait_for};
use serde_json::Value;

use crate::{RESTART_LIMIT, instances_of};

/// What every start of the operator and its DaemonSets together takes, on a busy machine.
const INSTALL: &str = "--timeout=240s";

/// Kinds whose objects come and go by themselves.
const TRANSIENT: [&str; 6] = [
    "events",
    "events.events.k8s.io",
    "leases.coordination.k8s.io",
    "endpointslices.discovery.k8s.io",
    "endpoints",
    "pods",
];

fn helm(bed: &Bed, arguments: &[&str]) -> Output {
    let folder = bed.program("state/helm");
    let script = format!(
        "export HELM_CACHE_HOME={folder} HELM_CONFIG_HOME={folder} HELM_DATA_HOME={folder}; exec helm -n {NAMESPACE} \"$@\""
    );
    bed.enter(&[&["sh", "-c", &script, "helm"], arguments].concat())
}

/// The names of all objects of the cluster, but for those that come and go.
fn objects(bed: &Bed) -> BTreeSet<String> {
    let kinds = bed
        .kubectl(&["api-resources", "--verbs=list", "--output=name"])
        .text();
    let kinds: Vec<_> = kinds.lines().filter(|kind| !TRANSIENT.contains(kind)).collect();
    let columns = "-o=custom-columns=KIND:.kind,NAMESPACE:.metadata.namespace,NAME:.metadata.name";
    let listed = bed.kubectl(&[
        "get",
        &kinds.join(","),
        "--all-namespaces",
        "--no-headers",
        columns,
    ]);
    listed
        .text()
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// What is said of the node, and what is on it.
fn node(bed: &Bed) -> (BTreeSet<String>, String) {
    let node = bed.get("node", "lab-node").expect("the bed has a node");
    let keys = |value: &Value| -> Vec<String> {
        value
            .as_object()
            .into_iter()
            .flat_map(|map| map.keys().cloned())
            .collect()
    };
    let said = [
        keys(&node["metadata"]["labels"]),
        keys(&node["metadata"]["annotations"]),
        keys(&node["status"]["capacity"]),
        keys(&node["status"]["allocatable"]),
    ];
    let files = bed.enter(&[
        "sh",
        "-c",
        "find /opt/peerpods /etc/containerd /var/lib/peerpods /var/lib/cloud-api-adaptor 2>/dev/null; cat /etc/containerd/config.toml",
    ]);
    (said.into_iter().flatten().collect(), files.stdout)
}

/// Has the bed install everything, as `up` does.
fn install(bed: &Bed) -> Output {
    let xtask = bed.program("state/bin/xtask");
    bed.enter(&[&xtask, "testbed-refresh", &bed.program("state")])
}

/// Removes everything, in the order that the chart's notes say, and the definitions with it.
fn remove(bed: &Bed) {
    bed.kubectl(&["delete", "kataconfig", "cluster", INSTALL]).text();
    helm(bed, &["uninstall", "peerpods", "--wait"]).text();
    let definitions = bed.kubectl(&["get", "crd", "--output=name"]).text();
    let definitions: Vec<_> = definitions.lines().collect();
    assert_eq!(definitions.len(), 3, "definitions stay: {definitions:?}");
    bed.kubectl(&[&["delete"], &definitions[..]].concat()).text();
}

/// Whatever a test finds, the bed has everything again for the next one.
struct Installed<'bed>(&'bed Bed);

impl Drop for Installed<'_> {
    fn drop(&mut self) {
        let done = install(self.0);
        assert!(
            done.code == 0 || std::thread::panicking(),
            "{}{}",
            done.stdout,
            done.stderr
        );
    }
}

#[test]
fn another_version_of_everything_costs_a_running_pod_nothing() {
    let bed = Bed::connect();
    let _installed = Installed(&bed);
    let pod = PodBuilder::new("goes-on", Runtime::PeerPod, vec![container("main", "sleep 1000")]).start(&bed);
    pod.shell("echo kept > /tmp/file");
    let machine = instances_of(&bed, &pod);
    // The same programs under other names: to the cluster all of them are new.
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/helm/peerpods");
    let names = ["operator", "webhook", "adaptor", "nodeRuntime", "vmImage"];
    let no_digests = names.map(|name| format!("images.{name}.digest="));
    let mut upgrade = vec!["upgrade", "peerpods", chart, "--reuse-values"];
    upgrade.extend(no_digests.iter().flat_map(|change| ["--set", change.as_str()]));
    helm(&bed, &upgrade).text();
    for object in [
        "deployment/peerpods-operator",
        "daemonset/peerpods-node-install",
        "daemonset/peerpodconfig-ctrl-caa-daemon",
        "deployment/peer-pods-webhook",
    ] {
        wait_for(&format!("{object} is of the new version"), RESTART_LIMIT, || {
            let image = "jsonpath={.spec.template.spec.containers[0].image}";
            let image = bed.kubectl(&["-n", NAMESPACE, "get", object, "-o", image]).text();
            if image.contains("@sha256:") {
                Err(image)
            } else {
                Ok(())
            }
        });
        bed.kubectl(&["-n", NAMESPACE, "rollout", "status", object, INSTALL])
            .text();
    }
    assert_eq!(pod.shell("cat /tmp/file"), "kept");
    assert_eq!(instances_of(&bed, &pod), machine);
    assert_eq!(pod.container_status("main")["restartCount"], 0);
    // What is made after it has the new version of everything.
    let next = PodBuilder::new(
        "comes-next",
        Runtime::PeerPod,
        vec![container("main", "sleep 1000")],
    )
    .start(&bed);
    assert_eq!(next.shell("echo works"), "works");
    next.delete();
    pod.delete();
}

#[test]
fn removed_it_leaves_the_cluster_and_the_node_as_they_were() {
    let bed = Bed::connect();
    let _installed = Installed(&bed);
    remove(&bed);
    let (bare, bare_node) = (objects(&bed), node(&bed));

    install(&bed).text();
    assert_ne!(objects(&bed), bare);
    assert_ne!(node(&bed), bare_node);
    PodBuilder::new(
        "installed",
        Runtime::PeerPod,
        vec![container("main", "sleep 1000")],
    )
    .start(&bed)
    .delete();

    remove(&bed);
    wait_for("all objects are gone", RESTART_LIMIT, || {
        let left = objects(&bed);
        if left == bare {
            Ok(())
        } else {
            Err(format!("{:#?}", left.symmetric_difference(&bare)))
        }
    });
    assert_eq!(node(&bed), bare_node);
    // The bed's second adaptor, which nobody removed, has a folder of its own below.
    let left = bed.enter(&["ls", "/var/lib/cloud-api-adaptor"]).stdout;
    assert!(
        !left.contains("sandboxes.redb") && !left.contains("templates"),
        "{left}"
    );
}
