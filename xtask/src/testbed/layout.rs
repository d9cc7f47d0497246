//! Where the test bed keeps its files, and the names that it takes on this machine.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::process::root;

/// The node's name, and its host name inside.
pub(super) const NODE: &str = "lab-node";
/// The node's address, on the bridge that VMs join.
pub(super) const NODE_ADDRESS: &str = "10.250.0.1";
/// The registry, as pods name it.
pub(super) const REGISTRY: &str = "10.250.0.1:5000";
/// The same images, for those who know a password.
pub(super) const PRIVATE_REGISTRY: &str = "10.250.0.1:5001";

/// EC2 and EBS, where the bed has them.
pub(super) const EC2: &str = "10.250.0.1:4566";

/// The kubelet's credentials for the images of all pods, which the adaptors use as well.
pub(super) const NODE_CREDENTIALS: &str = "/var/lib/kubelet/config.json";

/// Containerd's configuration, where what installs the runtime looks for it.
pub(super) const CONTAINERD: &str = "/etc/containerd/config.toml";

/// Where the adaptor serves whose guests run in namespaces.
pub(super) const NAMESPACES_SOCKET: &str = "/run/peerpod-namespaces/hypervisor.sock";
/// Where the bed has the hierarchy of control groups version 2, also on a machine whose controllers are on version 1.
pub(super) const CGROUP2: &str = "/run/cgroup2";

/// `target/testbed` of this checkout.
pub(super) fn folder() -> PathBuf {
    root().join("target/testbed")
}

/// What lives as long as the bed does.
pub(super) fn state() -> PathBuf {
    folder().join("state")
}

/// The VM image: `vmlinuz` and `initrd.img`.
pub(crate) fn image() -> PathBuf {
    folder().join("image")
}

/// The bed's parent cgroup, of this checkout alone: two checkouts can have beds at the same time.
pub(super) fn cgroup() -> String {
    let digest = Sha256::digest(root().as_os_str().as_encoded_bytes());
    format!("peerpods-{}", hex::encode(&digest[..4]))
}

/// The bed's cgroup of version 2, as the bed sees it.
pub(crate) fn second_cgroup() -> PathBuf {
    Path::new(CGROUP2).join(cgroup())
}

/// The files of one state folder.
#[derive(Clone, Debug)]
pub(super) struct State(pub(super) PathBuf);

impl State {
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file's path as text, for configuration files and command lines.
    pub(super) fn text(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// What the bed is made of.
    pub(super) fn plan(&self) -> PathBuf {
        self.file("plan.json")
    }

    /// One line per step that is done.
    pub(super) fn progress(&self) -> PathBuf {
        self.file("progress")
    }

    /// There once pods can be made.
    pub(super) fn ready(&self) -> PathBuf {
        self.file("ready")
    }

    /// There once the start failed; holds the reason.
    pub(super) fn failed(&self) -> PathBuf {
        self.file("failed")
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.file("log").join(format!("{name}.log"))
    }

    pub(super) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.file("pki").join(format!("{user}.kubeconfig"))
    }
}

impl From<&Path> for State {
    fn from(folder: &Path) -> Self {
        Self(folder.to_owned())
    }
}
