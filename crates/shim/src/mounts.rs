//! A container's mounts, sorted by what can be had in the guest.
//!
//! No file system is shared with the guest. What the node's files hold is copied there before the
//! container is created; what containers of a pod share (emptyDir, /dev/shm) is made there.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use peerpods_proto::{agent::Storage, oci::Mount};
use rustix::fs::statfs;
use sha2::{Digest, Sha256};

use crate::error::Error;

/// The only place in the guest where the agent stores copied files.
const SHARED: &str = "/run/kata-containers/shared/containers";
const SANDBOX: &str = "/run/kata-containers/sandbox";
const EMPTY_DIR: &str = "/volumes/kubernetes.io~empty-dir/";
const SHM_DESTINATION: &str = "/dev/shm";
const DEFAULT_SHM_SIZE: u64 = 64 << 20;
/// Magic number of tmpfs in statfs(2).
const TMPFS: i64 = 0x0102_1994;
/// Characters of the name that tells copies for one container apart.
const NAME_BYTES: usize = 8;

/// A file or directory to bring into the guest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) source: PathBuf,
    pub(crate) target: String,
}

/// What has to be done for a container's mounts.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// The mounts as the guest gets them.
    pub(crate) mounts: Vec<Mount>,
    pub(crate) storages: Vec<Storage>,
    pub(crate) copies: Vec<Copy>,
    /// Where kubelet wants the termination message: the path in the container, and the node's file.
    pub(crate) termination: Option<(String, PathBuf)>,
}

/// What becomes of one mount.
enum Fate {
    Unchanged,
    SharedMemory,
    EmptyDir(PathBuf),
    Copied(PathBuf),
    Dropped(&'static str),
}

impl Plan {
    pub(crate) fn new(mounts: Vec<Mount>, sandbox: &str, container: &str) -> Result<Self, Error> {
        let mut plan = Self::default();
        for mount in mounts {
            match fate(&mount)? {
                Fate::Unchanged => plan.mounts.push(mount),
                Fate::SharedMemory => plan.mounts.push(bound(&mount, format!("{SANDBOX}/shm"))),
                Fate::EmptyDir(source) => plan.empty_dir(&mount, &source, sandbox)?,
                Fate::Copied(source) => plan.copied(&mount, source, container),
                Fate::Dropped(reason) => {
                    tracing::warn!(mount.destination, mount.source, reason, "mount left out");
                }
            }
        }
        Ok(plan)
    }

    /// All containers of the pod compute the same path, so they meet in one directory.
    fn empty_dir(&mut self, mount: &Mount, source: &Path, sandbox: &str) -> Result<(), Error> {
        let metadata = fs::metadata(source).map_err(Error::file("inspect the emptyDir", source))?;
        let name = source.file_name().unwrap_or_default().to_string_lossy();
        let group = (metadata.gid() != 0).then(|| format!("fsgid={}", metadata.gid()));
        let in_memory = is_tmpfs(source)?;
        let storage = if in_memory {
            Storage {
                driver: "ephemeral".to_owned(),
                source: "tmpfs".to_owned(),
                fstype: "tmpfs".to_owned(),
                options: group.into_iter().collect(),
                mount_point: format!("{SANDBOX}/ephemeral/{name}"),
                ..Default::default()
            }
        } else {
            Storage {
                driver: "local".to_owned(),
                source: "local".to_owned(),
                fstype: "local".to_owned(),
                options: std::iter::once("mode=0777".to_owned()).chain(group).collect(),
                mount_point: format!("{SHARED}/{sandbox}/rootfs/local/{name}"),
                ..Default::default()
            }
        };
        self.mounts.push(bound(mount, storage.mount_point.clone()));
        self.storages.push(storage);
        Ok(())
    }

    fn copied(&mut self, mount: &Mount, source: PathBuf, container: &str) {
        let digest = Sha256::digest(format!("{container}\n{}", mount.destination).as_bytes());
        let name = Path::new(&mount.destination)
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let target = format!(
            "{SHARED}/{container}-{}-{name}",
            hex::encode(&digest[..NAME_BYTES])
        );
        if is_termination_log(&source) {
            self.termination = Some((mount.destination.clone(), source.clone()));
        }
        self.mounts.push(bound(mount, target.clone()));
        self.copies.push(Copy { source, target });
    }
}

/// The storage behind /dev/shm, as large as the one that the runtime made on the node.
pub(crate) fn shared_memory(mounts: &[oci_spec::runtime::Mount]) -> Storage {
    let mount = mounts
        .iter()
        .find(|mount| mount.destination().as_os_str() == SHM_DESTINATION);
    let size = mount
        .filter(|mount| mount.typ().as_deref() == Some("bind"))
        .and_then(|mount| mount.source().as_deref())
        .and_then(|source| statfs(source).ok())
        .filter(|information| information.f_type == TMPFS)
        .map(|information| information.f_blocks * u64::try_from(information.f_bsize).unwrap_or(0))
        .filter(|size| *size > 0)
        .unwrap_or(DEFAULT_SHM_SIZE);
    let options = ["noexec", "nosuid", "nodev", "mode=1777"].map(str::to_owned);
    Storage {
        driver: "ephemeral".to_owned(),
        source: "shm".to_owned(),
        fstype: "tmpfs".to_owned(),
        options: options.into_iter().chain([format!("size={size}")]).collect(),
        mount_point: format!("{SANDBOX}/shm"),
        ..Default::default()
    }
}

fn fate(mount: &Mount) -> Result<Fate, Error> {
    let is_bind = mount.type_ == "bind" || mount.options.iter().any(|one| one == "bind" || one == "rbind");
    if !is_bind {
        return Ok(Fate::Unchanged);
    }
    if mount.destination == SHM_DESTINATION {
        return Ok(Fate::SharedMemory);
    }
    // These are the guest's own.
    let source = Path::new(&mount.source);
    if ["/proc", "/sys", "/dev"]
        .iter()
        .any(|own| source.starts_with(own))
    {
        return Ok(Fate::Unchanged);
    }
    // The name of a volume has no slash: what lies below is a path within the volume.
    let volume = mount.source.split_once(EMPTY_DIR).map(|(_, volume)| volume);
    if volume.is_some_and(|volume| !volume.is_empty() && !volume.contains('/')) {
        return Ok(Fate::EmptyDir(source.to_owned()));
    }
    let metadata = fs::metadata(source).map_err(|error| Error::Mount {
        destination: mount.destination.clone(),
        problem: format!("its source {} cannot be read: {error}", mount.source),
    })?;
    let kind = metadata.file_type();
    Ok(if kind.is_dir() || kind.is_file() {
        Fate::Copied(source.to_owned())
    } else if kind.is_socket() || kind.is_fifo() {
        Fate::Dropped("sockets and fifos of the node cannot be reached from the virtual machine")
    } else {
        Fate::Dropped("devices of the node are not in the virtual machine")
    })
}

fn bound(mount: &Mount, source: String) -> Mount {
    let mut mount = mount.clone();
    mount.source = source;
    mount.type_ = "bind".to_owned();
    if !mount.options.iter().any(|one| one == "bind" || one == "rbind") {
        mount.options.push("rbind".to_owned());
    }
    mount
}

fn is_tmpfs(path: &Path) -> Result<bool, Error> {
    let information = statfs(path).map_err(std::io::Error::from);
    let information = information.map_err(Error::file("inspect the file system of", path))?;
    Ok(information.f_type == TMPFS)
}

/// Kubelet keeps it at `<root>/pods/<uid>/containers/<name>/<random>`.
fn is_termination_log(source: &Path) -> bool {
    let parts: Vec<_> = source.iter().rev().take(5).collect();
    matches!(parts.as_slice(), [_, _, containers, _, pods] if *containers == "containers" && *pods == "pods")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(source: &Path, destination: &str) -> Mount {
        Mount {
            destination: destination.to_owned(),
            source: source.display().to_string(),
            type_: "bind".to_owned(),
            options: vec!["rbind".to_owned(), "rprivate".to_owned()],
            ..Default::default()
        }
    }

    #[test]
    fn containers_of_a_pod_meet_in_their_empty_dir() {
        let root = tempfile::tempdir().unwrap();
        let volume = root.path().join("pods/uid/volumes/kubernetes.io~empty-dir/work");
        fs::create_dir_all(&volume).unwrap();
        let one = Plan::new(vec![bind(&volume, "/one")], "pod", "first").unwrap();
        let other = Plan::new(vec![bind(&volume, "/other")], "pod", "second").unwrap();
        assert_eq!(one.mounts[0].source, other.mounts[0].source);
        assert_eq!(one.storages[0].mount_point, one.mounts[0].source);
        assert!(one.copies.is_empty());
    }

    #[test]
    fn files_of_the_node_are_copied_and_sockets_left_out() {
        let root = tempfile::tempdir().unwrap();
        let hosts = root.path().join("etc-hosts");
        fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
        let socket = root.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let mounts = vec![bind(&hosts, "/etc/hosts"), bind(&socket, "/run/x.sock")];
        let plan = Plan::new(mounts, "pod", "abc").unwrap();
        let [mount] = plan.mounts.as_slice() else {
            panic!("{:?}", plan.mounts)
        };
        assert_eq!(
            plan.copies,
            [Copy {
                source: hosts,
                target: mount.source.clone()
            }]
        );
        assert!(
            mount
                .source
                .starts_with("/run/kata-containers/shared/containers/abc-")
        );
        assert!(mount.source.ends_with("-hosts"));
    }

    #[test]
    fn the_guests_own_file_systems_stay_as_they_are() {
        let proc = Mount {
            destination: "/proc".into(),
            type_: "proc".into(),
            ..Default::default()
        };
        let plan = Plan::new(vec![proc.clone(), bind(Path::new("/sys/fs"), "/x")], "pod", "abc").unwrap();
        assert_eq!(plan.mounts, [proc, bind(Path::new("/sys/fs"), "/x")]);
    }

    #[test]
    fn a_missing_source_is_named() {
        let error = Plan::new(vec![bind(Path::new("/no/such"), "/data")], "pod", "abc").unwrap_err();
        assert!(
            error
                .chain()
                .starts_with("mount /data: its source /no/such cannot be read")
        );
    }

    #[test]
    fn the_termination_log_is_recognised_by_its_place() {
        assert!(is_termination_log(Path::new(
            "/var/lib/kubelet/pods/uid/containers/app/1a2b"
        )));
        assert!(!is_termination_log(Path::new(
            "/var/lib/kubelet/pods/uid/etc-hosts"
        )));
    }
}
