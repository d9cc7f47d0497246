//! Plain manifests and the OLM bundle: rendered from the chart, for those who do not use Helm.

mod bundle;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    process::{command, output, root},
    testbed::{CHART, NAMESPACE, helm},
};

/// Where files of this module are, and where generated ones alone are.
const DEPLOY: &str = "deploy";
const GENERATED: [&str; 2] = ["deploy/manifests", "deploy/bundle"];

/// Files below `deploy`, by name.
type Files = BTreeMap<String, String>;

/// Compares the files with what the chart gives.
pub(super) fn check() -> Result<()> {
    let (wanted, there) = (rendered()?, read()?);
    for name in wanted.keys().chain(there.keys()) {
        ensure!(
            wanted.get(name) == there.get(name),
            "{DEPLOY}/{name} is not what the chart gives: run `cargo xtask docs`"
        );
    }
    Ok(())
}

/// Writes the files.
pub(super) fn write() -> Result<()> {
    for folder in GENERATED.map(|folder| root().join(folder)) {
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        }
    }
    for (name, text) in rendered()? {
        let path = root().join(DEPLOY).join(name);
        let folder = path.parent().context("a file is in a folder")?;
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&path, text))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn rendered() -> Result<Files> {
    let helm = helm()?;
    let namespace = template(&helm, &["--show-only", "templates/namespace.yaml"])?;
    let everything = template(&helm, &[])?;
    let objects = objects(&everything)?;
    let definitions = read_folder(&root().join("deploy/crds"), "bundle/manifests/")?;
    let mut files = bundle::files(&objects)?;
    files.extend(definitions);
    files.insert("manifests/namespace.yaml".to_owned(), namespace);
    files.insert("manifests/peerpods.yaml".to_owned(), everything);
    Ok(files)
}

/// The chart with its defaults, as objects of nobody's release.
fn template(helm: &Path, arguments: &[&str]) -> Result<String> {
    let chart = ["template", "peerpods", CHART, "--namespace", NAMESPACE];
    let values = ["--set", "namespace.create=true"];
    let text = output(&mut command(
        &helm.to_string_lossy(),
        &[&chart[..], &values, arguments].concat(),
    ))?;
    let of_helm = |line: &&str| {
        let line = line.trim();
        line == "app.kubernetes.io/managed-by: Helm"
            || line.starts_with("helm.sh/chart:")
            || line.starts_with("# Source:")
    };
    let lines = text.lines().filter(|line| !of_helm(line));
    let mut text: String = lines.flat_map(|line| [line.trim_end(), "\n"]).collect();
    text.insert_str(
        0,
        "# Rendered from deploy/helm/peerpods by `cargo xtask docs`. Images: write your registry in the place of\n\
         # registry.example/peerpods. Settings: create the ConfigMap peer-pods-cm.\n",
    );
    Ok(text)
}

/// The objects of a file with several.
fn objects(text: &str) -> Result<Vec<Value>> {
    let documents = format!("\n{text}");
    let documents = documents.split("\n---\n").filter(|document| {
        let mut lines = document.lines();
        lines.any(|line| !line.trim().is_empty() && !line.starts_with('#'))
    });
    documents
        .map(|document| {
            serde_saphyr::from_str(document).with_context(|| format!("this is no YAML:\n{document}"))
        })
        .collect()
}

/// An object as a file.
fn yaml(object: &Value) -> Result<String> {
    serde_saphyr::to_string(object).context("an object cannot be written as YAML")
}

fn read() -> Result<Files> {
    let mut files = Files::new();
    for folder in GENERATED {
        let prefix = folder.trim_start_matches(DEPLOY).trim_start_matches('/');
        files.extend(read_folder(&root().join(folder), &format!("{prefix}/"))?);
    }
    Ok(files)
}

/// All files of a folder and of those in it, their names after a prefix.
fn read_folder(folder: &Path, prefix: &str) -> Result<Files> {
    let mut files = Files::new();
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path: PathBuf = entry?.path();
        let name = path
            .file_name()
            .context("a file has a name")?
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            files.extend(read_folder(&path, &format!("{prefix}{name}/"))?);
        } else {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            files.insert(format!("{prefix}{name}"), text);
        }
    }
    Ok(files)
}
