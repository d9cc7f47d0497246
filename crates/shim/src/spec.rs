//! The OCI spec: read from the bundle, and rewritten for a kernel and a root filesystem that are not here.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use peerpods_proto::{
    agent::Storage,
    oci,
    spec::{TARGET_CONTAINER, spec_from_json},
};

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
pub(crate) fn load(bundle: &Path) -> Result<oci::Spec, Error> {
    let path = bundle.join(FILE);
    let mut text = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(MAX_SIZE + 1).read_to_end(&mut text));
    read.map_err(Error::file("read", &path))?;
    if text.len() as u64 > MAX_SIZE {
        return Err(Error::Invalid {
            field: FILE,
            problem: format!("longer than {MAX_SIZE} bytes"),
        });
    }
    Ok(spec_from_json(&text)?)
}

/// The network namespace in which the runtime set up the pod's interface.
pub(crate) fn network_namespace(spec: &oci::Spec) -> Option<PathBuf> {
    path(namespace(spec, "network")?).map(PathBuf::from)
}

/// Where the guest mounts a container's root filesystem.
pub(crate) fn guest_root(container: &str) -> String {
    format!("/run/kata-containers/{container}/rootfs")
}

/// Whose processes a container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Processes {
    /// Its own.
    Own,
    /// Those of the whole pod (`shareProcessNamespace`).
    Pod,
    /// Those of another container, by its id (`kubectl debug --target`).
    Container(String),
}

/// Whether the runtime wants the container to see processes that are not its own.
pub(crate) fn joins_processes(spec: &oci::Spec) -> bool {
    namespace(spec, "pid").is_some_and(|pid| path(pid).is_some())
}

/// The number of the process whose namespace the container is to join: `/proc/<number>/ns/pid`.
pub(crate) fn joined_process(spec: &oci::Spec) -> Option<u32> {
    let path = path(namespace(spec, "pid")?)?;
    let number = path.strip_prefix("/proc/")?.split('/').next()?;
    number.parse().ok()
}

/// The host's namespaces that a pod asks for, by the field of its spec. The runtime leaves a namespace out of the spec
/// of a sandbox that is to have the host's.
pub(crate) fn host_namespace(spec: &oci::Spec) -> Option<&'static str> {
    let kinds = [("pid", "hostPID: true"), ("ipc", "hostIPC: true")];
    if network_namespace(spec).is_none() {
        return Some("hostNetwork: true");
    }
    kinds
        .into_iter()
        .find(|(kind, _)| namespace(spec, kind).is_none())
        .map(|(_, field)| field)
}

fn namespace<'a>(spec: &'a oci::Spec, kind: &str) -> Option<&'a oci::LinuxNamespace> {
    spec.Linux.Namespaces.iter().find(|one| one.Type == kind)
}

/// Where a namespace is that is there already.
fn path(namespace: &oci::LinuxNamespace) -> Option<&str> {
    Some(&*namespace.Path).filter(|path| !path.is_empty())
}

/// Takes everything out of the spec that means something only on this node.
///
/// # Errors
/// [`Error::Unsupported`]: it has devices of this node, which nothing can stand for.
pub(crate) fn for_guest(
    spec: &oci::Spec,
    kind: &ContainerKind,
    container: &str,
    bundle: &Path,
    processes: &Processes,
) -> Result<oci::Spec, Error> {
    let mut wire = spec.clone();
    let root = wire.Root.mut_or_insert_default();
    root.Path = guest_root(container);
    // Hooks are programs of the node.
    wire.Hooks = None.into();
    if let Some(process) = wire.Process.as_mut() {
        process.SelinuxLabel.clear();
    }
    // The agent refuses a spec without this section.
    let linux = wire.Linux.mut_or_insert_default();
    strip(linux)?;
    let kind = match kind {
        ContainerKind::Sandbox => "pod_sandbox",
        ContainerKind::InSandbox(_) => "pod_container",
        ContainerKind::Single => "single_container",
    };
    wire.Annotations
        .insert(GUEST_CONTAINER_TYPE.to_owned(), kind.to_owned());
    wire.Annotations
        .insert(GUEST_BUNDLE.to_owned(), bundle.display().to_string());
    if let Processes::Container(target) = processes {
        wire.Annotations
            .insert(TARGET_CONTAINER.to_owned(), target.clone());
    }
    Ok(wire)
}

fn strip(linux: &mut oci::Linux) -> Result<(), Error> {
    linux.MountLabel.clear();
    let resources = linux.Resources.mut_or_insert_default();
    // A privileged container has all devices of the machine that it runs on: in the guest, the guest's.
    let is_privileged = resources.Devices.iter().any(allows_everything);
    if let (Some(device), false) = (linux.Devices.first(), is_privileged) {
        return Err(Error::Mount {
            destination: device.Path.clone(),
            problem: "a device of the node is not in the virtual machine".to_owned(),
        });
    }
    linux.Devices.clear();
    strip_resources(resources);
    linux
        .Namespaces
        .retain(|one| !matches!(one.Type.as_str(), "network" | "pid" | "time" | "cgroup"));
    for namespace in &mut linux.Namespaces {
        namespace.Path.clear();
    }
    Ok(())
}

fn allows_everything(rule: &oci::LinuxDeviceCgroup) -> bool {
    let any_kind = matches!(rule.Type.as_str(), "" | "a");
    rule.Allow && any_kind && rule.Major == -1 && rule.Minor == -1 && rule.Access == "rwm"
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

    fn json() -> serde_json::Value {
        serde_json::json!({
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
        })
    }

    fn parsed(json: &serde_json::Value) -> oci::Spec {
        spec_from_json(json.to_string().as_bytes()).unwrap()
    }

    fn spec() -> oci::Spec {
        parsed(&json())
    }

    #[test]
    fn what_belongs_to_the_node_does_not_reach_the_guest() {
        let kind = ContainerKind::InSandbox("pod".into());
        let guest = for_guest(&spec(), &kind, "abc", Path::new("/b"), &Processes::Pod).unwrap();
        assert!(joins_processes(&spec()));
        assert_eq!(joined_process(&spec()), Some(1));
        assert_eq!(guest.Root.Path, "/run/kata-containers/abc/rootfs");
        assert!(guest.Hooks.is_none());
        let linux = guest.Linux.unwrap();
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
        assert_eq!(guest.Annotations[GUEST_CONTAINER_TYPE], "pod_container");
    }

    #[test]
    fn a_seccomp_profile_goes_with_its_container() {
        let mut with_profile = json();
        with_profile["linux"]["seccomp"] = serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO"});
        let spec = parsed(&with_profile);
        let guest = for_guest(
            &spec,
            &ContainerKind::Single,
            "abc",
            Path::new("/b"),
            &Processes::Own,
        );
        assert_eq!(guest.unwrap().Linux.Seccomp.DefaultAction, "SCMP_ACT_ERRNO");
    }

    #[test]
    fn devices_of_the_node_are_refused_but_to_a_privileged_container() {
        let device = serde_json::json!([{"path": "/dev/gpu0", "type": "c", "major": 195, "minor": 0}]);
        let guest = |rules: serde_json::Value| {
            let mut json = json();
            json["linux"]["devices"] = device.clone();
            json["linux"]["resources"]["devices"] = rules;
            let spec = parsed(&json);
            for_guest(
                &spec,
                &ContainerKind::Single,
                "abc",
                Path::new("/b"),
                &Processes::Own,
            )
        };
        let refused = guest(serde_json::json!([{"allow": false, "access": "rwm"}])).unwrap_err();
        assert!(refused.chain().contains("/dev/gpu0"), "{}", refused.chain());
        let privileged = guest(serde_json::json!([{"allow": true, "access": "rwm"}])).unwrap();
        assert!(privileged.Linux.Devices.is_empty());
    }

    #[test]
    fn what_a_pod_wants_of_the_host_is_named() {
        let namespaces = |list: serde_json::Value| {
            let mut json = json();
            json["linux"]["namespaces"] = list;
            parsed(&json)
        };
        let network = serde_json::json!({"type": "network", "path": "/run/netns/pod"});
        let all = serde_json::json!([network, {"type": "pid"}, {"type": "ipc"}]);
        assert_eq!(host_namespace(&namespaces(all)), None);
        let no_network = serde_json::json!([{"type": "pid"}, {"type": "ipc"}]);
        assert_eq!(host_namespace(&namespaces(no_network)), Some("hostNetwork: true"));
        let no_processes = serde_json::json!([network, {"type": "ipc"}]);
        assert_eq!(host_namespace(&namespaces(no_processes)), Some("hostPID: true"));
        let no_semaphores = serde_json::json!([network, {"type": "pid"}]);
        assert_eq!(host_namespace(&namespaces(no_semaphores)), Some("hostIPC: true"));
    }

    #[test]
    fn the_pods_network_is_where_the_spec_says() {
        assert_eq!(network_namespace(&spec()), Some("/run/netns/pod".into()));
    }
}
