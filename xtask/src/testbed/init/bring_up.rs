//! The part of the start that needs the daemons: images, and what the cluster is expected to hold.

use std::{
    fs,
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    daemons::API_SERVES,
    progress::{say, step},
};
use crate::{
    process::{output, run},
    testbed::{
        images::{BUSYBOX, NODES_BUSYBOX, PROBE},
        layout::{NAMESPACES_SOCKET, NODE, SOCKET, State},
        plan::Plan,
    },
};

/// Each takes a few seconds; a machine busy with something else takes several times that.
const LIMIT: Duration = Duration::from_secs(90);
const INTERVAL: Duration = Duration::from_millis(100);
/// The adaptor needs no time; without its socket pods get a clear error, so a start does not wait for long.
const ADAPTOR_LIMIT: Duration = Duration::from_secs(5);
/// The label of nodes for peer pods. The kubelet may not give it to itself.
const LABEL: &str = "node-role.kubernetes.io/kata-oc=";

/// Waits for the daemons, one after the other, and gives each what it needs.
pub(super) fn bring_up(plan: &Plan, state: &State) -> Result<()> {
    step(state, "containerd", || {
        wait_for("containerd", || output(Command::new("ctr").arg("version")))
    })?;
    step(state, "pause image", || {
        let mut import = Command::new("ctr");
        output(
            import
                .args(["--namespace", "k8s.io", "images", "import", "--all-platforms"])
                .arg(&plan.pause),
        )
    })?;
    step(state, "images in the registry", || {
        wait_for("the registry", || push(state, &plan.busybox, BUSYBOX))?;
        push(state, &plan.busybox, NODES_BUSYBOX)?;
        push(state, &plan.probe, PROBE)
    })?;
    step(state, "API server", || {
        wait_for("the API server", || kubectl(&["get", "--raw", "/readyz"]))
    })?;
    fs::write(API_SERVES, "").context("cannot tell that the API server serves")?;
    let classes = state.text("config/runtimeclasses.json");
    step(state, "runtime classes", || {
        wait_for("the runtime classes", || {
            kubectl(&["apply", "--filename", &classes])
        })
    })?;
    let kinds = state.text("config/peerpods.yaml");
    step(state, "custom resources", || {
        wait_for("the custom resources", || {
            kubectl(&["apply", "--filename", &kinds])
        })
    })?;
    let role = state.text("config/adaptor-role.json");
    step(state, "the adaptors' role", || {
        wait_for("the adaptors' role", || kubectl(&["apply", "--filename", &role]))
    })?;
    let node = format!("node/{NODE}");
    step(state, "node", || {
        wait_for("the node", || kubectl(&["label", "--overwrite", &node, LABEL]))?;
        kubectl(&["wait", "--for=condition=Ready", &node, "--timeout=90s"])
    })?;
    step(state, "service account", || {
        kubectl(&["wait", "--for=create", "serviceaccount/default", "--timeout=90s"])
    })?;
    wait_for_adaptor(state, "cloud-api-adaptor", SOCKET)?;
    wait_for_adaptor(state, "cloud-api-adaptor-namespaces", NAMESPACES_SOCKET)?;
    fs::write(state.ready(), "").context("cannot tell that the bed is ready")
}

/// Warns where it does not serve: all else of the bed is of use without it.
fn wait_for_adaptor(state: &State, name: &str, socket: &str) -> Result<()> {
    let start = Instant::now();
    while !Path::new(socket).exists() {
        if start.elapsed() > ADAPTOR_LIMIT {
            let log = state.log(name);
            let warning = format!(
                "warning: its pods cannot start, {name} does not serve: {}",
                log.display()
            );
            return say(state, &warning);
        }
        sleep(INTERVAL);
    }
    Ok(())
}

fn push(state: &State, archive: &Path, name: &str) -> Result<()> {
    run(Command::new("sh")
        .arg(state.file("config/push.sh"))
        .arg(archive)
        .arg(name))
}

fn kubectl(arguments: &[&str]) -> Result<String> {
    output(Command::new("kubectl").args(arguments))
}

/// Tries until it works.
fn wait_for<T>(what: &str, mut work: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match work() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > LIMIT => {
                return Err(error).with_context(|| format!("waited {LIMIT:?} for {what}"));
            }
            Err(_) => sleep(INTERVAL),
        }
    }
}
