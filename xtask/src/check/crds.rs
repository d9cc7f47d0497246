//! The definitions of custom resources, by themselves and in the chart: printed from the Rust types.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, ensure};

use crate::process::{cargo, root, run};

const FOLDERS: [&str; 2] = ["deploy/crds", "deploy/helm/peerpods/files/crds"];

/// Compares the manifests with the types.
pub(super) fn check() -> Result<()> {
    let printed = root().join("target/crds");
    print_to(&printed)?;
    for folder in FOLDERS {
        ensure!(
            manifests(&printed)? == manifests(&root().join(folder))?,
            "{folder} is not what the types of crates/api say: run `cargo xtask docs`"
        );
    }
    Ok(())
}

/// Writes the manifests.
pub(super) fn write() -> Result<()> {
    FOLDERS
        .iter()
        .try_for_each(|folder| print_to(&root().join(folder)))
}

/// Prints all definitions into a folder that then holds nothing else.
fn print_to(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    let example = [
        "run",
        "--quiet",
        "--package",
        "peerpods-api",
        "--example",
        "crds",
        "--",
    ];
    run(cargo(&example).arg(folder))
}

fn manifests(folder: &Path) -> Result<BTreeMap<String, String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    entries
        .map(|entry| {
            let path = entry?.path();
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.file_name().context("a manifest has no name")?;
            Ok((name.to_string_lossy().into_owned(), text))
        })
        .collect()
}
