//! Our own programs, installed on the node: copies, so that a build does not change what runs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::layout::State;

/// What the node runs of ours.
const ON_THE_NODE: [&str; 2] = ["containerd-shim-kata-v2", "cloud-api-adaptor"];

/// Copies our programs to the node, and gives the names of those that changed.
pub(super) fn programs(state: &State, ours: &Path) -> Result<Vec<&'static str>> {
    let mut changed = Vec::new();
    for name in ON_THE_NODE {
        if copy(&ours.join(name), &state.file("bin").join(name))? {
            changed.push(name);
        }
    }
    Ok(changed)
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
