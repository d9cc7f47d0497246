//! The IAM policies under `docs/aws`: printed from the calls that the code makes.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

use crate::process::{cargo, root, run};

const FOLDER: &str = "docs/aws";
const FILES: [&str; 2] = ["iam-policy.json", "image-policy.json"];

/// Compares the documents with the calls.
pub(super) fn check() -> Result<()> {
    let printed = root().join("target/policies");
    print_to(&printed)?;
    for file in FILES {
        let kept = read(&root().join(FOLDER).join(file))?;
        ensure!(
            read(&printed.join(file))? == kept,
            "{FOLDER}/{file} does not permit what the code calls: run `cargo xtask docs`"
        );
    }
    Ok(())
}

/// Writes the documents.
pub(super) fn write() -> Result<()> {
    print_to(&root().join(FOLDER))
}

fn print_to(folder: &Path) -> Result<()> {
    let example = [
        "run",
        "--quiet",
        "--package",
        "peerpods-provider-aws",
        "--example",
        "policies",
        "--",
    ];
    run(cargo(&example).arg(folder))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
