//! What the operator may do, as the chart has it: printed by the operator itself.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};

use crate::process::{cargo, output, root};

const FILE: &str = "deploy/helm/peerpods/files/operator-permissions.json";

/// Compares the chart's file with the operator's table.
pub(super) fn check() -> Result<()> {
    let there = fs::read_to_string(path()).with_context(|| format!("cannot read {FILE}"))?;
    ensure!(
        there == printed()?,
        "{FILE} is not what crates/operator/src/permissions.rs says: run `cargo xtask docs`"
    );
    Ok(())
}

/// Writes the chart's file.
pub(super) fn write() -> Result<()> {
    fs::write(path(), printed()?).with_context(|| format!("cannot write {FILE}"))
}

fn path() -> PathBuf {
    root().join(FILE)
}

fn printed() -> Result<String> {
    let operator = [
        "run",
        "--quiet",
        "--package",
        "peerpods-operator",
        "--",
        "permissions",
    ];
    // Templates put the release's namespace in the place of this one.
    let mut text = output(cargo(&operator).env_remove("POD_NAMESPACE"))?;
    text.push('\n');
    Ok(text)
}
