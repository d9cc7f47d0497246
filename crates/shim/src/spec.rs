//! The OCI spec: read from the bundle, and rewritten for a kernel and a root filesystem that are not here.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use peerpods_proto::{agent::Storage, oci, spec::spec_to_wire};

use crate::{
    annotations::{Annotations, ContainerKind},
    error::Error,
};

const FILE: &str = "config.json";
/// Kubernetes bounds a pod to 1.5 MiB in its database; a spec is a small multiple of it at most.
const MAX_SIZE: u64 = 8 << 20;
/// Annotations that tell the agent what a container is.
const GUEST_CONTAINER_TYPE: &str = "io.katacontainers.pkg.oci.container_type";
const GUEST_BUNDLE: &str = "io.katacontainers.pkg.oci.bundle_path";
/// Says where the agent finds a container's termination message.
pub(crate) const TERMINATION_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// Driver of the storage that makes the guest pull an image.
const PULL: &str = "image_guest_pull";

/// Reads a bundle's spec.
pub(crate) fn load(bundle: &Path) -> Result<Spec, Error> {
    let path = bundle.join(FILE);
    let mut text = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(MAX_SIZE).read_to_end(&mut text));
    read.map_err(Error::file("read", &path))?;
    serde_json::from_slice(&text).map_err(|error| Error::Invalid {
        field: FILE,
        problem: error.to_string(),
    })
}

/// The network namespace in which the runtime set up the pod's interface.
pub(crate) fn network_namespace(spec: &Spec) -> Option<PathBuf> {
    let namespaces = spec.linux().as_ref()?.namespaces().as_deref()?;
    let network = namespaces
        .iter()
        .find(|one| one.typ() == LinuxNamespaceType::Network)?;
    network.path().clone()
}

/// Where the guest mounts a container's root filesystem.
pub(crate) fn guest_root(container: &str) -> String {
    format!("/run/kata-containers/{container}/rootfs")
}

/// A spec that is ready for the guest, except for its mounts.
pub(crate) struct GuestSpec {
    pub(crate) spec: oci::Spec,
    /// Whether the container joins the pod's process namespace.
    pub(crate) shares_processes: bool,
}

/// Takes everything out of the spec that means something only on this node.
pub(crate) fn for_guest(spec: &Spec, kind: &ContainerKind, container: &str, bundle: &Path) -> GuestSpec {
    let mut wire = spec_to_wire(spec);
    let root = wire.Root.mut_or_insert_default();
    root.Path = guest_root(container);
    // Hooks are programs of the node.
    wire.Hooks = None.into();
    if let Some(process) = wire.Process.as_mut() {
        process.SelinuxLabel.clear();
    }
    // The agent refuses a spec without this section.
    let linux = wire.Linux.mut_or_insert_default();
    let of_pod = |namespace: &oci::LinuxNamespace| namespace.Type == "pid" && !namespace.Path.is_empty();
    let shares_processes = linux.Namespaces.iter().any(of_pod);
    strip(linux);
    let kind = match kind {
        ContainerKind::Sandbox => "pod_sandbox",
        ContainerKind::InSandbox(_) => "pod_container",
        ContainerKind::Single => "single_container",
    };
    wire.Annotations
        .insert(GUEST_CONTAINER_TYPE.to_owned(), kind.to_owned());
    wire.Annotations
        .insert(GUEST_BUNDLE.to_owned(), bundle.display().to_string());
    GuestSpec {
        spec: wire,
        shares_processes,
    }
}

fn strip(linux: &mut oci::Linux) {
    linux.Seccomp = None.into();
    linux.MountLabel.clear();
    let resources = linux.Resources.mut_or_insert_default();
    strip_resources(resources);
    linux
        .Namespaces
        .retain(|one| !matches!(one.Type.as_str(), "network" | "pid" | "time" | "cgroup"));
    for namespace in &mut linux.Namespaces {
        namespace.Path.clear();
    }
}

/// Limits that count this node's devices, processors or disks.
pub(crate) fn strip_resources(resources: &mut oci::LinuxResources) {
    resources.Devices.clear();
    resources.Pids = None.into();
    resources.BlockIO = None.into();
    resources.Network = None.into();
    if let Some(cpu) = resources.CPU.as_mut() {
        cpu.Cpus.clear();
        cpu.Mems.clear();
    }
}

/// The storage that makes the guest pull the container's image and mount it as the root filesystem.
pub(crate) fn image_storage(
    annotations: Annotations<'_>,
    kind: &ContainerKind,
    container: &str,
) -> Result<Storage, Error> {
    let metadata = serde_json::json!({ "metadata": annotations.0 });
    Ok(Storage {
        driver: PULL.to_owned(),
        driver_options: vec![format!("{PULL}={metadata}")],
        source: annotations.image(kind)?.to_owned(),
        fstype: "overlay".to_owned(),
        mount_point: guest_root(container),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        serde_json::from_value(serde_json::json!({
            "ociVersion": "1.1.0",
            "root": {"path": "rootfs"},
            "hooks": {"prestart": [{"path": "/bin/hook"}]},
            "linux": {
                "namespaces": [
                    {"type": "network", "path": "/run/netns/pod"}, {"type": "pid", "path": "/proc/1/ns/pid"},
                    {"type": "ipc", "path": "/proc/1/ns/ipc"}, {"type": "mount"}
                ],
                "resources": {"cpu": {"shares": 2, "cpus": "0-3"}, "pids": {"limit": 5},
                              "devices": [{"allow": false, "access": "rwm"}]}
            }
        }))
        .unwrap()
    }

    #[test]
    fn what_belongs_to_the_node_does_not_reach_the_guest() {
        let guest = for_guest(
            &spec(),
            &ContainerKind::InSandbox("pod".into()),
            "abc",
            Path::new("/b"),
        );
        assert!(guest.shares_processes);
        assert_eq!(guest.spec.Root.Path, "/run/kata-containers/abc/rootfs");
        assert!(guest.spec.Hooks.is_none());
        let linux = guest.spec.Linux.unwrap();
        let namespaces: Vec<_> = linux
            .Namespaces
            .iter()
            .map(|one| (one.Type.as_str(), &*one.Path))
            .collect();
        assert_eq!(namespaces, [("ipc", ""), ("mount", "")]);
        assert_eq!(
            (linux.Resources.CPU.Shares, linux.Resources.CPU.Cpus.as_str()),
            (2, "")
        );
        assert!(linux.Resources.Devices.is_empty() && linux.Resources.Pids.is_none());
        assert_eq!(guest.spec.Annotations[GUEST_CONTAINER_TYPE], "pod_container");
    }

    #[test]
    fn the_pods_network_is_where_the_spec_says() {
        assert_eq!(network_namespace(&spec()), Some("/run/netns/pod".into()));
    }
}
