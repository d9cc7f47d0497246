//! What an administrator sees of peer pods: `kubectl peerpods`, and logs.

use std::{process::Command, time::Duration};

use peerpods_testkit::{Bed, NAMESPACE, PodBuilder, Runtime, container, wait_for};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);

fn json(bed: &Bed, arguments: &[&str]) -> Value {
    let text = bed
        .kubectl(&[&["peerpods", "--output", "json"], arguments].concat())
        .text();
    serde_json::from_str(&text).unwrap()
}

fn find<'a>(list: &'a Value, pod: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|one| one["pod"] == pod)
}

#[test]
fn kubectl_peerpods_shows_a_pods_vm_how_it_started_and_what_it_uses() {
    let bed = Bed::connect();
    let pod = PodBuilder::new("shown", Runtime::PeerPod, vec![container("main", "sleep 1000")]).start(&bed);
    wait_for("its VM is listed as ready", LIMIT, || {
        let list = json(&bed, &["list"]);
        match find(&list, &pod.name) {
            Some(one) if one["phase"] == "Ready" && one["node"] == "lab-node" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let text = bed.kubectl(&["peerpods", "describe", &pod.name]).text();
    for expected in [
        "(Running)",
        "VM asked for",
        "VM answers",
        "container main started",
        "lab-node (VMs: ",
    ] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
    wait_for("the kubelet says what it uses", LIMIT, || {
        let top = json(&bed, &["top"]);
        let used = find(&top["machines"], &pod.name).ok_or("it is not there")?["memoryBytes"].as_u64();
        match used {
            Some(1..) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    pod.delete();
}

#[test]
fn kubectl_peerpods_collects_logs_and_no_key() {
    let bed = Bed::connect();
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("support.tar.gz");
    let said = bed.kubectl(&["peerpods", "collect", "--file", archive.to_str().unwrap()]);
    said.text();
    let tar = |arguments: &[&str]| {
        let output = Command::new("tar")
            .args(arguments)
            .arg("-f")
            .arg(&archive)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let files = tar(&["-zt"]);
    for expected in [
        "/cloud-api-adaptor.log",
        "/cluster/kataconfigs.json",
        "/cluster/mutatingwebhookconfigurations.json",
        "/namespace/daemonsets.json",
        "/namespace/configmaps.json",
        "/events/node.json",
    ] {
        assert!(files.contains(expected), "no {expected} in:\n{files}");
    }
    // The webhook's key is in a Secret of the namespace.
    let key = [
        "get",
        "secret",
        "peer-pods-webhook-svc-secret",
        "--namespace",
        NAMESPACE,
        "--output",
        "jsonpath={.data.tls\\.key}",
    ];
    let key = bed.kubectl(&key).text();
    let everything = tar(&["-zxO"]);
    assert!(key.len() > 100 && !everything.contains(&key));
    assert!(!everything.contains("PRIVATE KEY"));
    assert!(everything.contains("\"tls.key\""));
}

#[test]
fn every_program_tells_in_its_log_which_pod_it_is_about() {
    let bed = Bed::connect();
    let pod = PodBuilder::new("logged", Runtime::PeerPod, vec![container("main", "sleep 1000")]).start(&bed);
    let name = format!("pod=default/{}", pod.name);
    let consoles = "cat /run/peerpod/instances/*/console.log";
    let logs = [
        ("adaptor", bed.adaptor_log()),
        ("guest", bed.enter(&["sh", "-c", consoles]).stdout),
    ];
    for (program, log) in logs {
        assert!(log.contains(&name), "the {program} does not tell {name}:\n{log}");
    }
    pod.delete();
}
