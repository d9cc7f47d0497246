//! A pod that is made, measured and gone afterwards.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::context::Context;

/// All pods of benchmarks, also those of a run that was ended before it could remove them.
const LABEL: &str = "peerpods.io/bench";
const IMAGE: &str = "10.250.0.1:5000/busybox:1.35";
/// A pod without a grace period ends in a second or two.
const END_LIMIT: Duration = Duration::from_secs(60);
const END_INTERVAL: Duration = Duration::from_millis(50);
/// Without it the kubelet's work for the last pod's end meets the next one's start.
const SETTLING_TIME: Duration = Duration::from_millis(700);

/// What runs a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runtime {
    Runc,
    /// The guest in namespaces.
    Namespaces,
    /// The guest in a VM.
    Vm,
}

impl Runtime {
    fn class(self) -> Option<&'static str> {
        match self {
            Self::Runc => None,
            Self::Namespaces => Some("kata-namespaces"),
            Self::Vm => Some("kata-remote"),
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Namespaces => "namespaces",
            Self::Vm => "vm",
        }
    }
}

/// A running pod of one container, `main`; its end begins when this is dropped.
pub(super) struct Pod<'context> {
    context: &'context Context,
    pub(super) runtime: Runtime,
    pub(super) name: String,
    pub(super) address: String,
    /// The container's id in containerd.
    pub(super) container: String,
    /// From the request for its creation to the news that its container runs.
    pub(super) started_in: Duration,
}

impl<'context> Pod<'context> {
    /// Makes a pod and waits until its container runs.
    pub(super) fn start(context: &'context Context, name: &str, runtime: Runtime) -> Result<Self> {
        context.check()?;
        let name = format!("bench-{name}-{}", runtime.suffix());
        let mut watch = context.api.watch(&name)?;
        // From here on whatever happens removes it.
        let mut pod = Self {
            context,
            runtime,
            name: name.clone(),
            address: String::new(),
            container: String::new(),
            started_in: Duration::ZERO,
        };
        let start = Instant::now();
        context.api.create_pod(&object(&name, runtime))?;
        let seen = watch.until(&format!("the container of {name} runs"), |pod| {
            container(pod)["state"]["running"].is_object()
        })?;
        pod.started_in = start.elapsed();
        let id = container(&seen)["containerID"].as_str().unwrap_or_default();
        pod.container = id.trim_start_matches("containerd://").to_owned();
        pod.address = seen["status"]["podIP"].as_str().unwrap_or_default().to_owned();
        ensure!(
            !pod.container.is_empty() && !pod.address.is_empty(),
            "pod {name} runs without id or address"
        );
        Ok(pod)
    }

    /// Ends the pod and waits until it is gone.
    pub(super) fn end(self) -> Result<()> {
        let (context, name) = (self.context, self.name.clone());
        drop(self);
        wait_gone(context, &name)?;
        sleep(SETTLING_TIME);
        Ok(())
    }

    /// The id of its sandbox.
    pub(super) fn sandbox(&self) -> Result<String> {
        self.context.node.sandbox_of(&self.name)
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.context.api.delete_pod(&self.name) {
            eprintln!("bench: pod {} is left: {error:#}", self.name);
        }
    }
}

/// Ends many pods at once and waits until they are gone.
pub(super) fn end_all(context: &Context, pods: Vec<Pod<'_>>) -> Result<()> {
    let names: Vec<_> = pods.iter().map(|pod| pod.name.clone()).collect();
    drop(pods);
    names.iter().try_for_each(|name| wait_gone(context, name))
}

/// Removes pods that an earlier run has left.
pub(super) fn remove_left(context: &Context) -> Result<()> {
    let left = context.api.pods_with(LABEL)?;
    for name in &left {
        context.api.delete_pod(name)?;
    }
    left.iter().try_for_each(|name| wait_gone(context, name))
}

fn wait_gone(context: &Context, name: &str) -> Result<()> {
    let start = Instant::now();
    while context.api.pod(name)?.is_some() {
        ensure!(
            start.elapsed() < END_LIMIT,
            "pod {name} is still there {END_LIMIT:?} after its deletion"
        );
        sleep(END_INTERVAL);
    }
    Ok(())
}

fn container(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

fn object(name: &str, runtime: Runtime) -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {LABEL: ""}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "enableServiceLinks": false,
            "containers": [{"name": "main", "image": IMAGE, "command": ["sleep", "1000000"]}],
        },
    });
    if let Some(class) = runtime.class() {
        pod["spec"]["runtimeClassName"] = json!(class);
    }
    pod
}

/// Runs `sample` for ours and for runc in turns, `rounds` times.
pub(super) fn alternate<'pod, 'context>(
    context: &Context,
    rounds: usize,
    pods: &'pod [Pod<'context>; 2],
    mut sample: impl FnMut(&'pod Pod<'context>, usize) -> Result<()>,
) -> Result<()> {
    for round in 0..rounds {
        for pod in pods {
            context.check()?;
            sample(pod, round).with_context(|| format!("sample {round} of {}", pod.name))?;
        }
    }
    Ok(())
}
