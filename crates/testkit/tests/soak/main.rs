//! Many pods, many execs, a pod with much in it: nothing grows.
//!
//! `make soak` runs the whole, some hours of emulated VMs; `make test` a short form of the same.
#![allow(clippy::unwrap_used)]

mod census;

use std::{env, process::Command};

use census::{Census, wait_no_more_than, wait_settled};
use peerpods_testkit::{Bed, Pod, PodBuilder, Runtime, container};
use serde_json::{Value, json};

/// How much of everything: `PEERPODS_SOAK=full` is what the specification promises.
struct Extent {
    pods: usize,
    pods_at_once: usize,
    execs: usize,
    execs_at_once: usize,
    containers: usize,
    volumes: usize,
}

fn extent() -> Extent {
    if env::var("PEERPODS_SOAK").is_ok_and(|extent| extent == "full") {
        Extent {
            pods: 500,
            pods_at_once: 5,
            execs: 1000,
            execs_at_once: 50,
            containers: 20,
            volumes: 100,
        }
    } else {
        Extent {
            pods: 6,
            pods_at_once: 3,
            execs: 40,
            execs_at_once: 10,
            containers: 5,
            volumes: 20,
        }
    }
}

#[test]
fn pods_that_come_and_go_leave_the_node_as_it_was() {
    let (bed, extent) = (Bed::connect(), extent());
    let round = || {
        let pods: Vec<Pod<'_>> = (0..extent.pods_at_once)
            .map(|number| {
                let name = format!("soak-{number}");
                PodBuilder::new(&name, Runtime::PeerPod, vec![container("main", "sleep 1000")]).create(&bed)
            })
            .collect();
        pods.iter().for_each(Pod::wait_ready);
        pods.into_iter().for_each(Pod::delete);
    };
    // The first pods make what stays: caches, folders, the runtime's own records.
    round();
    let before = wait_settled(&bed);
    for _ in 0..extent.pods / extent.pods_at_once {
        round();
    }
    wait_no_more_than(&bed, &before);
}

#[test]
fn execs_in_a_row_and_at_once_leave_the_pod_as_it_was() {
    let (bed, extent) = (Bed::connect(), extent());
    let pod = PodBuilder::new(
        "soak-exec",
        Runtime::PeerPod,
        vec![container("main", "sleep 100000")],
    )
    .start(&bed);
    let shim = pod.shim();
    let burst = |count: usize| {
        let script = format!(
            "for i in $(seq {count}); do {} exec {} -- echo $i & done; wait",
            bed.program("kubectl"),
            pod.name
        );
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), count);
    };
    burst(extent.execs_at_once);
    let (before, processes) = (
        Census::of_process(&bed, &shim),
        pod.shell("ls /proc | grep -c '^[0-9]'"),
    );
    for number in 0..extent.execs {
        assert_eq!(pod.shell(&format!("echo {number}")), number.to_string());
    }
    burst(extent.execs_at_once);
    Census::of_process(&bed, &shim).assert_no_more_than(&before);
    assert_eq!(
        pod.shell("ls /proc | grep -c '^[0-9]'"),
        processes,
        "processes are left in the pod"
    );
    pod.delete();
}

#[test]
fn a_pod_with_many_containers_and_volumes_runs() {
    let (bed, extent) = (Bed::connect(), extent());
    let before = wait_settled(&bed);
    let mounts: Vec<Value> = (0..extent.volumes)
        .map(|number| json!({"name": format!("volume-{number}"), "mountPath": format!("/volumes/{number}")}))
        .collect();
    let volumes: Vec<Value> = (0..extent.volumes)
        .map(|number| json!({"name": format!("volume-{number}"), "emptyDir": {}}))
        .collect();
    let containers = (0..extent.containers)
        .map(|number| {
            let mut one = container(&format!("container-{number}"), "sleep 1000");
            one["volumeMounts"] = json!(mounts);
            one
        })
        .collect();
    let pod = PodBuilder::new("soak-large", Runtime::PeerPod, containers)
        .spec("volumes", json!(volumes))
        .start(&bed);
    let last = extent.volumes - 1;
    pod.shell(&format!("echo through all > /volumes/{last}/file"));
    let container = format!("container-{}", extent.containers - 1);
    let seen = bed.kubectl(&[
        "exec",
        &pod.name,
        "-c",
        &container,
        "--",
        "cat",
        &format!("/volumes/{last}/file"),
    ]);
    assert_eq!(seen.text(), "through all");
    pod.delete();
    wait_no_more_than(&bed, &before);
}
