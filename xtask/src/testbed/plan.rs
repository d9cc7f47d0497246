//! What PID 1 of the bed is told, and the configuration files that follow from it.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::{chart::Packed, layout::State};

/// Where the VMs of runtime class `kata-remote` run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Provider {
    /// As QEMU processes on the node.
    Qemu,
    /// As instances of an emulated EC2.
    Aws,
}

/// Written by `up`, read by PID 1.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    /// Kubernetes, etcd, containerd and CoreDNS.
    pub(super) programs: PathBuf,
    pub(super) registry: PathBuf,
    pub(super) pause: PathBuf,
    pub(super) busybox: PathBuf,
    pub(super) probe: PathBuf,
    /// The images of our own programs.
    pub(super) product: Vec<Packed>,
    pub(super) cgroup: String,
    /// Where VMs run.
    pub(super) provider: Provider,
    /// The program `peerpodctl`.
    pub(super) cli: PathBuf,
    /// The VM image's disk, as EC2 boots it.
    pub(super) disk: PathBuf,
    /// The folder with the UEFI firmware that boots it.
    pub(super) firmware: PathBuf,
    /// The folder that moto is in, once it is fetched.
    pub(super) moto: PathBuf,
    /// What QEMU runs VMs with: `tcg`, `kvm` or `auto`.
    pub(super) accelerator: String,
}

/// Configuration files, below the state folder, with `@NAME@` where a value belongs.
const FILES: [(&str, &str); 17] = [
    ("containerd.toml", include_str!("files/containerd.toml")),
    (
        "certs.d/10.250.0.1:5000/hosts.toml",
        include_str!("files/hosts.toml"),
    ),
    (
        "certs.d/10.250.0.1:5001/hosts.toml",
        include_str!("files/private-hosts.toml"),
    ),
    ("cni/10-testbed.conflist", include_str!("files/cni.conflist")),
    ("kubelet.yaml", include_str!("files/kubelet.yaml")),
    ("kube-proxy.yaml", include_str!("files/kube-proxy.yaml")),
    ("registry.yaml", include_str!("files/registry.yaml")),
    (
        "private-registry.yaml",
        include_str!("files/private-registry.yaml"),
    ),
    ("htpasswd", include_str!("files/htpasswd")),
    (
        "node-credentials.json",
        include_str!("files/node-credentials.json"),
    ),
    ("namespace.json", include_str!("files/namespace.json")),
    ("kata-config.json", include_str!("files/kata-config.json")),
    ("cloud-secret.json", include_str!("files/cloud-secret.json")),
    (
        "namespaces-class.json",
        include_str!("files/namespaces-class.json"),
    ),
    (
        "namespaces-adaptor.json",
        include_str!("files/namespaces-adaptor.json"),
    ),
    ("Corefile", include_str!("files/Corefile")),
    ("push.sh", include_str!("files/push.sh")),
];

impl Plan {
    pub(super) fn write(&self, state: &State) -> Result<()> {
        let path = state.plan();
        fs::write(&path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    pub(super) fn read(state: &State) -> Result<Self> {
        let path = state.plan();
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no plan of a test bed", path.display()))
    }

    /// Writes all configuration files.
    pub(super) fn configure(&self, state: &State) -> Result<()> {
        for (name, template) in FILES {
            let path = state.file("config").join(name);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            }
            let text = template
                .replace("@STATE@", &state.0.display().to_string())
                .replace("@CGROUP@", &self.cgroup);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// The search path of the bed's programs: ours, those of Kubernetes, the machine's.
    pub(super) fn path(&self, state: &State) -> String {
        let machine = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        format!("{}:{}:{machine}", state.text("bin"), self.programs.display())
    }
}
