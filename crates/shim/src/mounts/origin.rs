//! Whose a bind mount's source is: the kubelet's, the container runtime's, the node's.
//!
//! The kubelet keeps what it makes for a pod below `<root>/pods/<uid>`: `volumes/<plugin>/<name>`,
//! `volume-subpaths/<name>/<container>/<number>`, `containers/<name>/<random>` (termination messages) and `etc-hosts`.

use std::{
    ffi::OsStr,
    path::{Component, Path},
};

/// Who made a source, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// An emptyDir volume as a whole.
    EmptyDir,
    /// Configuration that the kubelet writes, and rewrites when it changes.
    Configuration,
    /// A part of a volume.
    SubPath,
    /// Where the kubelet reads a container's last words.
    TerminationMessage,
    /// A file that the kubelet or the container runtime makes for the pod.
    PodFile,
    /// A volume that lives beyond the pod.
    Storage,
    /// Anything else of the node: a hostPath volume.
    Node,
}

/// Files that a container runtime makes for every pod.
const RUNTIME_FILES: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
/// Where containerd and CRI-O keep what they make for a pod.
const RUNTIME_FOLDERS: [&str; 2] = ["io.containerd.grpc.v1.cri", "userdata"];
const EMPTY_DIR: &str = "kubernetes.io~empty-dir";
const CONFIGURATION: [&str; 4] = [
    "kubernetes.io~configmap",
    "kubernetes.io~downward-api",
    "kubernetes.io~projected",
    "kubernetes.io~secret",
];
/// Of a UID as text; that of a static pod has no dashes.
const UID_LENGTHS: [usize; 2] = [36, 32];

impl Origin {
    /// Tells it by where the source is, and what it is mounted as.
    pub(super) fn of(source: &Path, destination: &str) -> Self {
        match in_pod(source).as_deref() {
            Some(["volumes", EMPTY_DIR, _]) => Self::EmptyDir,
            Some(["volumes", plugin, _, ..]) if CONFIGURATION.contains(plugin) => Self::Configuration,
            Some(["volumes", ..]) => Self::Storage,
            Some(["volume-subpaths", _, _, _]) => Self::SubPath,
            Some(["containers", _, _]) => Self::TerminationMessage,
            Some(["etc-hosts"]) => Self::PodFile,
            Some(_) => Self::Storage,
            None if RUNTIME_FILES.contains(&destination) || is_of_the_runtime(source) => Self::PodFile,
            None => Self::Node,
        }
    }
}

/// The parts of a path below the kubelet's folder of a pod, if it is there.
fn in_pod(source: &Path) -> Option<Vec<&str>> {
    let parts: Vec<&str> = source
        .components()
        .map(|part| match part {
            Component::Normal(name) => name.to_str(),
            Component::RootDir => Some("/"),
            // A path that climbs is nowhere that could be told from its text.
            Component::CurDir | Component::ParentDir | Component::Prefix(_) => None,
        })
        .collect::<Option<_>>()?;
    let at = parts
        .windows(2)
        .position(|pair| pair[0] == "pods" && is_uid(pair[1]))?;
    Some(parts[at + 2..].to_vec())
}

fn is_uid(name: &str) -> bool {
    UID_LENGTHS.contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

fn is_of_the_runtime(source: &Path) -> bool {
    source
        .iter()
        .any(|part| RUNTIME_FOLDERS.iter().any(|folder| part == OsStr::new(folder)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_told_by_its_place() {
        let pod = "/var/lib/kubelet/pods/0ab5f1c2-77aa-4c1e-9d55-0123456789ab";
        for (place, origin) in [
            ("/volumes/kubernetes.io~empty-dir/work", Origin::EmptyDir),
            ("/volumes/kubernetes.io~configmap/settings", Origin::Configuration),
            (
                "/volumes/kubernetes.io~projected/kube-api-access-x",
                Origin::Configuration,
            ),
            ("/volumes/kubernetes.io~csi/pvc-1/mount", Origin::Storage),
            ("/volume-subpaths/work/main/0", Origin::SubPath),
            ("/containers/main/1a2b", Origin::TerminationMessage),
            ("/etc-hosts", Origin::PodFile),
        ] {
            assert_eq!(
                Origin::of(Path::new(&format!("{pod}{place}")), "/x"),
                origin,
                "{place}"
            );
        }
    }

    #[test]
    fn the_container_runtimes_own_files_are_known() {
        let containerd = "/run/containerd/io.containerd.grpc.v1.cri/sandboxes/ab/hostname";
        assert_eq!(
            Origin::of(Path::new(containerd), "/etc/hostname"),
            Origin::PodFile
        );
        let crio = "/run/containers/storage/overlay-containers/ab/userdata/.containerenv";
        assert_eq!(Origin::of(Path::new(crio), "/run/.containerenv"), Origin::PodFile);
    }

    #[test]
    fn everything_else_is_the_nodes() {
        for path in [
            "/etc",
            "/var/lib/kubelet",
            "/srv/pods/data",
            "/var/lib/kubelet/pods/../secret",
        ] {
            assert_eq!(Origin::of(Path::new(path), "/data"), Origin::Node, "{path}");
        }
    }
}
