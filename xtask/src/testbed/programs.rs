//! Kubernetes, etcd, containerd, CoreDNS and Helm, built once out of Go modules into the cache.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::lock;
use crate::{
    process::{root, run, step},
    tools,
};

/// What the one binary of Kubernetes answers to: it looks at the name by which it is called.
const COMPONENTS: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
];
/// Without these the server calls itself v0.0.0, and clients warn of the distance.
const KUBERNETES_FLAGS: &str = concat!(
    "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2",
    " -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37",
    " -X k8s.io/component-base/version.gitTreeState=clean",
    " -X k8s.io/component-base/version.gitCommit=0000000000000000000000000000000000000000",
    " -X k8s.io/component-base/version.buildDate=2026-01-01T00:00:00Z",
);
pub(super) const FLAGS: &str = "-s -w";
/// Snapshotters that need C libraries, and generated documents.
const CONTAINERD_TAGS: &str = "urfave_cli_no_docs no_btrfs no_devmapper no_zfs";
const CONTAINERD: [&str; 3] = [
    "github.com/containerd/containerd/v2/cmd/containerd",
    "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
    "github.com/containerd/containerd/v2/cmd/ctr",
];
/// What installs charts.
const HELM: &str = "helm.sh/helm/v3/cmd/helm";
/// Without these Helm takes the cluster that it renders for, where there is none, for one of Kubernetes 1.20.
const HELM_FLAGS: &str = concat!(
    "-s -w -X helm.sh/helm/v3/internal/version.version=v3.21.4",
    " -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=37",
);
/// The Go module, below the checkout.
const MODULE: &str = "testbed";
const SOURCES: [&str; 4] = ["go.mod", "go.sum", "kubernetes/main.go", "coredns/main.go"];

/// The folder with all of them; builds what is not in the cache.
pub(super) fn prepare() -> Result<PathBuf> {
    let cache = tools::cache()?;
    let folder = cache.join(format!("bed-{}", key()?));
    if folder.exists() {
        return Ok(folder);
    }
    let _lock = lock::take(&cache.join("bed.lock"))?;
    if folder.exists() {
        return Ok(folder);
    }
    println!(
        "The test bed's Kubernetes is built once: about 8 minutes on 2 cores, 5 GB of Go's build cache."
    );
    // A build that was interrupted is taken up from Go's own cache; this folder only holds its results.
    let unfinished = cache.join("bed-unfinished");
    fs::create_dir_all(&unfinished).with_context(|| format!("cannot make {}", unfinished.display()))?;
    step("Kubernetes and etcd", || {
        build(
            &unfinished.join("kubernetes"),
            KUBERNETES_FLAGS,
            "",
            &["./kubernetes"],
        )
    })?;
    step("containerd", || {
        build(&unfinished, FLAGS, CONTAINERD_TAGS, &CONTAINERD)
    })?;
    step("CoreDNS", || {
        build(&unfinished.join("coredns"), FLAGS, "", &["./coredns"])
    })?;
    step("Helm", || build(&unfinished, HELM_FLAGS, "", &[HELM]))?;
    for component in COMPONENTS {
        let link = unfinished.join(component);
        if !link.is_symlink() {
            std::os::unix::fs::symlink("kubernetes", &link)
                .with_context(|| format!("cannot make the link {}", link.display()))?;
        }
    }
    fs::rename(&unfinished, &folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Helm alone, where nothing else is needed.
pub(crate) fn helm() -> Result<PathBuf> {
    let cache = tools::cache()?;
    let together = cache.join(format!("bed-{}/helm", key()?));
    if together.exists() {
        return Ok(together);
    }
    let alone = cache.join(format!("helm-{}", key()?));
    if !alone.exists() {
        let _lock = lock::take(&cache.join("bed.lock"))?;
        step("Helm", || build(&alone, HELM_FLAGS, "", &[HELM]))?;
    }
    Ok(alone)
}

/// Builds commands of the test bed's module; `output` is a file for one, or a folder.
pub(super) fn build(output: &Path, flags: &str, tags: &str, packages: &[&str]) -> Result<()> {
    let mut go = Command::new("go");
    go.current_dir(root().join(MODULE)).env("CGO_ENABLED", "0");
    go.args(["build", "-trimpath", "-ldflags", flags, "-tags", tags, "-o"])
        .arg(output)
        .args(packages);
    run(&mut go).context("building the test bed's Kubernetes needs Go 1.26 or newer on PATH")
}

/// Everything that the binaries are made from, so that a change is seen.
fn key() -> Result<String> {
    let mut hash = Sha256::new();
    for source in SOURCES {
        let path = root().join(MODULE).join(source);
        hash.update(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    for part in [KUBERNETES_FLAGS, FLAGS, CONTAINERD_TAGS, HELM, HELM_FLAGS]
        .iter()
        .chain(&CONTAINERD)
        .chain(&COMPONENTS)
    {
        hash.update(part);
    }
    let digest = hash.finalize();
    Ok(hex::encode(&digest[..6]))
}
