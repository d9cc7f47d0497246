//! The node, from inside its namespaces: which process belongs to which pod.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    pod::{Pod, Runtime},
    process::{self, ProcessId},
};
use crate::testbed;

/// Where containerd keeps one folder per container.
const BUNDLES: &str = "/run/containerd/io.containerd.runtime.v2.task/k8s.io";
/// One folder per VM.
const VMS: &str = "/run/peerpod/instances";
/// One folder per guest in namespaces.
const NAMESPACES: &str = "/run/peerpod-namespaces/instances";
const SANDBOX_NAME: &str = "io.kubernetes.cri.sandbox-name";
const CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";

/// The node that this program runs on.
pub(super) struct Node;

/// A guest in namespaces.
pub(super) struct Guest {
    pub(super) process: ProcessId,
    pub(super) address: String,
}

impl Node {
    /// The sandbox of a pod.
    pub(super) fn sandbox_of(&self, pod: &str) -> Result<String> {
        for bundle in folders(Path::new(BUNDLES)) {
            let Ok(config) = read_json(&bundle.join("config.json")) else {
                continue;
            };
            let annotation = |name: &str| config["annotations"][name].as_str().unwrap_or_default();
            if annotation(SANDBOX_NAME) == pod && annotation(CONTAINER_TYPE) == "sandbox" {
                let name = bundle.file_name().unwrap_or_default();
                return Ok(name.to_string_lossy().into_owned());
            }
        }
        anyhow::bail!("pod {pod} has no sandbox in {BUNDLES}")
    }

    /// The shim of a pod.
    pub(super) fn shim_of(&self, pod: &Pod<'_>) -> Result<ProcessId> {
        let sandbox = pod.sandbox()?;
        let argument = format!("-id {sandbox} ");
        let is_its = |process: &ProcessId| {
            let line = process.command_line();
            line.contains("containerd-shim-") && line.contains(&argument)
        };
        process::all()
            .into_iter()
            .find(is_its)
            .with_context(|| format!("pod {} has no shim", pod.name))
    }

    /// The adaptor of pods with this runtime.
    pub(super) fn adaptor_of(&self, runtime: Runtime) -> Result<ProcessId> {
        let provider = match runtime {
            Runtime::Vm => "qemu",
            Runtime::Namespaces => "namespaces",
            Runtime::Runc => anyhow::bail!("runc has no adaptor"),
        };
        let is_its = |process: &ProcessId| {
            process.command_line().contains("cloud-api-adaptor")
                && process.has_variable("CLOUD_PROVIDER", provider)
        };
        process::all()
            .into_iter()
            .find(is_its)
            .with_context(|| format!("there is no adaptor with provider {provider}"))
    }

    /// The guest of a pod whose guest runs in namespaces.
    pub(super) fn guest_of(&self, pod: &Pod<'_>) -> Result<Guest> {
        let folder = instance(NAMESPACES, &pod.sandbox()?)?;
        let name = folder.file_name().unwrap_or_default();
        let members = testbed::second_cgroup().join(name).join("cgroup.procs");
        let text =
            fs::read_to_string(&members).with_context(|| format!("cannot read {}", members.display()))?;
        let first = text.lines().next().and_then(|line| line.parse().ok());
        let record = read_json(&folder.join("record.json"))?;
        Ok(Guest {
            process: ProcessId(first.with_context(|| format!("pod {} has no guest", pod.name))?),
            address: record["address"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// All processes of ours that serve a pod: shim and adaptor, and the guest where it is a process of the node.
    pub(super) fn processes_of(&self, pod: &Pod<'_>) -> Result<Vec<ProcessId>> {
        let shim = self.shim_of(pod)?;
        match pod.runtime {
            Runtime::Runc => Ok(vec![shim]),
            Runtime::Vm => Ok(vec![shim, self.adaptor_of(pod.runtime)?]),
            Runtime::Namespaces => Ok(vec![
                shim,
                self.adaptor_of(pod.runtime)?,
                self.guest_of(pod)?.process,
            ]),
        }
    }

    /// What the guest of a peer pod has said on its console.
    pub(super) fn console_of(&self, pod: &Pod<'_>) -> Result<String> {
        let folder = match pod.runtime {
            Runtime::Vm => VMS,
            Runtime::Namespaces => NAMESPACES,
            Runtime::Runc => anyhow::bail!("runc has no console"),
        };
        let console = instance(folder, &pod.sandbox()?)?.join("console.log");
        fs::read_to_string(&console).with_context(|| format!("cannot read {}", console.display()))
    }
}

/// The folder of the instance that serves a sandbox.
fn instance(all: &str, sandbox: &str) -> Result<PathBuf> {
    let is_its = |folder: &PathBuf| {
        let record = read_json(&folder.join("record.json")).unwrap_or_default();
        record["owner"]["sandbox"] == sandbox
    };
    folders(Path::new(all))
        .find(is_its)
        .with_context(|| format!("no instance of sandbox {sandbox} is in {all}"))
}

fn folders(path: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir())
}

fn read_json(path: &Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", path.display()))
}
