//! Our own programs, installed on the node: copies, so that a build does not change what runs.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::layout::{NAMESPACES_SOCKET, State};

/// What the node runs of ours.
const ON_THE_NODE: [&str; 5] = [
    "containerd-shim-kata-v2",
    "cloud-api-adaptor",
    "peerpods-guest",
    "peerpods-namespaces-launcher",
    "ec2-emulator",
];
/// What administrators use, by the names under which kubectl finds it and its completion.
const PLUGIN: (&str, [&str; 2]) = ("peerpodctl", ["kubectl-peerpods", "kubectl_complete-peerpods"]);
/// The shim of runtime class kata-namespaces, as containerd looks for it: the same one with another adaptor.
const NAMESPACES_SHIM: &str = "containerd-shim-kata-namespaces-v2";

/// Copies our programs to the node, and gives the names of those that changed.
pub(super) fn programs(state: &State, ours: &Path) -> Result<Vec<&'static str>> {
    let mut changed = Vec::new();
    for name in ON_THE_NODE {
        if copy(&ours.join(name), &state.file("bin").join(name))? {
            changed.push(name);
        }
    }
    let (program, names) = PLUGIN;
    for name in names {
        copy(&ours.join(program), &state.file("bin").join(name))?;
    }
    Ok(changed)
}

/// The shim that asks the adaptor whose guests run in namespaces.
pub(super) fn namespaces_shim(state: &State) -> Result<()> {
    let (path, shim) = (
        state.file("bin").join(NAMESPACES_SHIM),
        state.text("bin/containerd-shim-kata-v2"),
    );
    let script = format!("#!/bin/sh\nREMOTE_HYPERVISOR_ENDPOINT={NAMESPACES_SOCKET} exec '{shim}' \"$@\"\n");
    fs::write(&path, script)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// This program itself: it is PID 1 of the bed.
pub(super) fn xtask(state: &State) -> Result<()> {
    let own: PathBuf = std::env::current_exe().context("cannot tell which program this is")?;
    copy(&own, &state.file("bin/xtask")).map(drop)
}

/// Whether the target was not the same before. A program that runs keeps the file that it was started from.
fn copy(source: &Path, target: &Path) -> Result<bool> {
    let content = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
    if fs::read(target).is_ok_and(|there| there == content) {
        return Ok(false);
    }
    let unfinished = target.with_extension("unfinished");
    fs::copy(source, &unfinished)
        .and_then(|_| fs::rename(&unfinished, target))
        .with_context(|| format!("cannot install {}", target.display()))?;
    Ok(true)
}
