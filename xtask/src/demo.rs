//! `make demo`: a pod of a real Kubernetes runs in a virtual machine of its own, step by step.

mod bed;
mod report;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use self::bed::Bed;

const POD: &str = include_str!("demo/pod.yaml");
/// A pod of the node's own runtime that asks the peer pod's service.
const CLIENT: [&str; 11] = [
    "run",
    "client",
    "--image",
    "10.250.0.1:5000/busybox:1.35",
    "--restart=Never",
    "--",
    "wget",
    "-q",
    "-O",
    "-",
    "http://demo:8080/",
];
/// A VM under emulation starts in seconds; the limit is for a machine busy with something else.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Longer than the pod's grace period and the end of its VM together.
const END_LIMIT: Duration = Duration::from_secs(60);

/// Shows one peer pod from creation to deletion, on a test bed that is up.
pub(crate) fn demo() -> Result<()> {
    let bed = Bed::connect()?;
    bed.quiet(&[
        "delete",
        "pod,service",
        "demo",
        "--ignore-not-found",
        "--timeout=60s",
    ])?;
    bed.quiet(&["delete", "pod", "client", "--ignore-not-found", "--now"])?;

    title("A pod whose runtime class asks for a VM of its own");
    println!("{}", POD.trim_end());
    let created = SystemTime::now();
    bed.apply("pod.yaml", POD)?;
    wait_running(&bed)?;
    bed.show(&["get", "pod", "demo", "--output", "wide"])?;

    title("It has a kernel of its own");
    bed.show(&["exec", "demo", "--container", "web", "--", "uname", "-r"])?;
    bed.show_on_node(&["uname", "-r"])?;

    title("Logs, exec, and a request through its service");
    bed.show(&["logs", "demo", "--container", "web"])?;
    bed.show(&[
        "exec",
        "demo",
        "--container",
        "side",
        "--",
        "wget",
        "-q",
        "-O",
        "-",
        "http://127.0.0.1:8080/",
    ])?;
    bed.show(&CLIENT)?;
    bed.quiet(&[
        "wait",
        "--for=jsonpath={.status.phase}=Succeeded",
        "pod/client",
        "--timeout=30s",
    ])?;
    bed.show(&["logs", "client"])?;
    bed.quiet(&["delete", "pod", "client", "--now"])?;

    title("Its virtual machine, on the node");
    let sandbox = bed.sandbox_of("demo")?;
    println!("{}", bed.vm_process()?);
    let report = report::measure(&bed, &sandbox, created.duration_since(UNIX_EPOCH)?)?;

    title("Deleted: the VM is gone with it");
    bed.show(&["delete", "pod,service", "demo"])?;
    wait_vm_gone(&bed)?;

    title("What it took");
    println!("{report}");
    println!("\nThe cluster stays up: target/testbed/kubectl get pods, and `make down` when you are done.");
    Ok(())
}

fn title(text: &str) {
    anstream::println!("\n\x1b[1m{text}\x1b[0m");
}

fn wait_running(bed: &Bed) -> Result<()> {
    let start = Instant::now();
    loop {
        let ready = bed.kubectl(&["wait", "--for=condition=Ready", "pod/demo", "--timeout=5s"]);
        if ready.is_ok() {
            return Ok(());
        }
        if start.elapsed() > START_LIMIT {
            bed.show(&["describe", "pod", "demo"])?;
            bail!("the pod is not ready after {START_LIMIT:?}; its events above say why");
        }
    }
}

fn wait_vm_gone(bed: &Bed) -> Result<()> {
    let start = Instant::now();
    while let Ok(process) = bed.vm_process() {
        if start.elapsed() > END_LIMIT {
            bail!("the VM is still there {END_LIMIT:?} after its pod was deleted: {process}");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let left = bed.on_node(&[
        "sh",
        "-c",
        "ls /run/peerpod/pods /run/peerpod/instances | grep -v -e : -e ^lock$ | wc -w",
    ]);
    println!(
        "VMs on the node: 0, files left of pods and VMs: {}",
        left.context("cannot look at the node")?
    );
    Ok(())
}
