//! Many pods, many execs, a pod with much in it: nothing grows.
//!
//! `make soak` runs the whole, some hours of emulated VMs; `make test` a short form of the same.
#![allow(clippy::unwrap_used)]

mod census;
mod chaos;
mod image;

use std::{env, process::Command, time::Duration};

use census::{Census, wait_no_more_than, wait_settled};
use image::LargeImage;
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
    image: LargeImage,
}

/// Whether it is what the specification promises, and not a short form of it.
fn is_full() -> bool {
    env::var("PEERPODS_SOAK").is_ok_and(|extent| extent == "full")
}

fn extent() -> Extent {
    if is_full() {
        Extent {
            pods: 500,
            pods_at_once: 5,
            execs: 1000,
            execs_at_once: 50,
            containers: 20,
            volumes: 100,
            // 2 GiB.
            image: LargeImage {
                layers: 8,
                files: 256,
            },
        }
    } else {
        Extent {
            pods: 6,
            pods_at_once: 3,
            execs: 40,
            execs_at_once: 10,
            containers: 5,
            volumes: 20,
            // More than the memory of the VM.
            image: LargeImage {
                layers: 3,
                files: 170,
            },
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

/// Counts processes without making one: those of a pipe are there sooner or later.
const PROCESSES: &str = "set -- /proc/[0-9]*; echo $#";

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
    let (before, processes) = (Census::of_process(&bed, &shim), pod.shell(PROCESSES));
    for number in 0..extent.execs {
        assert_eq!(pod.shell(&format!("echo {number}")), number.to_string());
    }
    burst(extent.execs_at_once);
    Census::of_process(&bed, &shim).assert_no_more_than(&before);
    assert_eq!(pod.shell(PROCESSES), processes, "processes are left in the pod");
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

/// An emulated VM reads and checks some 20 MiB of an image in a second.
const LARGE_START_LIMIT: Duration = Duration::from_secs(1200);

#[test]
fn an_image_larger_than_the_vms_memory_runs() {
    let (bed, extent) = (Bed::connect(), extent());
    let image = extent.image;
    let reference = image.push(&bed, "large:1");
    let mut main = container("main", "sleep 1000");
    main["image"] = json!(reference);
    let pod = PodBuilder::new("large", Runtime::PeerPod, vec![main]).create(&bed);
    pod.wait_ready_within(LARGE_START_LIMIT);
    let memory = "read name size unit < /proc/meminfo; echo $((size / 1024))";
    let memory: u64 = pod.shell(memory).parse().unwrap();
    let size: u64 = pod.shell("set -- $(du -sm /data); echo $1").parse().unwrap();
    assert!(
        size >= image.layers * image.files && size > memory,
        "{size} MiB of files, {memory} MiB of memory"
    );
    for layer in 0..image.layers {
        let file = image.files - 1;
        assert_eq!(
            pod.shell(&format!(
                "set -- $(sha256sum /{}); echo $1",
                LargeImage::path(layer, file)
            )),
            LargeImage::checksum(layer, file)
        );
    }
    pod.delete();
    // The node has pulled it too.
    bed.enter(&[
        "ctr",
        "--namespace",
        "k8s.io",
        "images",
        "rm",
        "--sync",
        &reference,
    ])
    .text();
}
