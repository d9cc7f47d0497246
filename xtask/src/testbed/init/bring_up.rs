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
    process::output,
    testbed::{
        chart,
        images::{BUSYBOX, NODES_BUSYBOX, PROBE, push},
        layout::{NAMESPACES_SOCKET, NODE, State},
        plan::Plan,
    },
};

/// Each takes a few seconds; a machine busy with something else takes several times that.
const LIMIT: Duration = Duration::from_secs(90);
const INTERVAL: Duration = Duration::from_millis(100);
/// The adaptor needs no time; without its socket pods get a clear error, so a start does not wait for long.
const ADAPTOR_LIMIT: Duration = Duration::from_secs(5);

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
        push(state, &plan.probe, PROBE)?;
        chart::push_images(plan, state)
    })?;
    step(state, "API server", || {
        wait_for("the API server", || kubectl(&["get", "--raw", "/readyz"]))
    })?;
    fs::write(API_SERVES, "").context("cannot tell that the API server serves")?;
    step(state, "namespace", || {
        for object in ["namespace", "namespaces-class", "namespaces-adaptor"] {
            apply(state, object)?;
        }
        node_credentials(state)
    })?;
    let settings = step(state, "settings", || chart::settings(plan, state))?;
    step(state, "chart", || chart::install(plan, state, &settings))?;
    step(state, "KataConfig", || apply(state, "kata-config"))?;
    let node = format!("node/{NODE}");
    step(state, "node", || {
        kubectl(&["wait", "--for=create", &node, "--timeout=90s"])?;
        kubectl(&["wait", "--for=condition=Ready", &node, "--timeout=90s"])
    })?;
    step(state, "service account", || {
        kubectl(&["wait", "--for=create", "serviceaccount/default", "--timeout=90s"])
    })?;
    step(state, "peer pods", || chart::wait(plan, &settings))?;
    wait_for_namespaces_adaptor(state)?;
    fs::write(state.ready(), "").context("cannot tell that the bed is ready")
}

/// Applies one of the bed's files; tries until the API server knows everything that it is about.
fn apply(state: &State, name: &str) -> Result<()> {
    let file = state.text(&format!("config/{name}.json"));
    wait_for(name, || kubectl(&["apply", "--filename", &file])).map(drop)
}

/// What the node may pull, every pod may: the kubelet reads a file, the adaptor a Secret.
fn node_credentials(state: &State) -> Result<()> {
    let file = format!(
        "--from-file=auth.json={}",
        state.text("config/node-credentials.json")
    );
    let namespace = ["--namespace", chart::NAMESPACE];
    let secret = ["create", "secret", "generic", "auth-json-secret", &file];
    kubectl(&[&namespace[..], &secret].concat()).map(drop)
}

/// Warns where it does not serve: all else of the bed is of use without it.
fn wait_for_namespaces_adaptor(state: &State) -> Result<()> {
    let start = Instant::now();
    while !Path::new(NAMESPACES_SOCKET).exists() {
        if start.elapsed() > ADAPTOR_LIMIT {
            let log = state.log("cloud-api-adaptor-namespaces");
            let warning = format!(
                "warning: pods of class kata-namespaces cannot start, their adaptor does not serve: {}",
                log.display()
            );
            return say(state, &warning);
        }
        sleep(INTERVAL);
    }
    Ok(())
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
