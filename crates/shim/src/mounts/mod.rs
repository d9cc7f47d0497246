//! A container's mounts, sorted by what can be had in the guest.
//!
//! No file system is shared with the guest. What the node's files hold is copied there before the
//! container is created; what containers of a pod share (emptyDir, /dev/shm) is made there. What cannot be had is
//! refused by name: a pod that lacks a file that it asked for must not run.

mod origin;
mod sub_path;

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use peerpods_proto::{
    agent::Storage,
    oci::Mount,
    shim_settings::{HostPaths, SHIM_SETTINGS_FILE, ShimSettings},
};
use peerpods_resources::{VOLUMES_ANNOTATION, VolumeLimits};
use rustix::fs::{StatFs, statfs};
use sha2::{Digest, Sha256};

use self::origin::Origin;
use crate::{error::Error, limits::invalid};

/// The only place in the guest where the agent stores copied files.
const SHARED: &str = "/run/kata-containers/shared/containers";
const SANDBOX: &str = "/run/kata-containers/sandbox";
const SHM_DESTINATION: &str = "/dev/shm";
const DEFAULT_SHM_SIZE: u64 = 64 << 20;
/// Magic number of tmpfs in statfs(2).
const TMPFS: i64 = 0x0102_1994;
/// Bytes of the hash in a copy's name.
const NAME_BYTES: usize = 8;
/// Permission bits of a mode.
const PERMISSIONS: u32 = 0o7777;

/// A file or directory to bring into the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) source: PathBuf,
    pub(crate) target: String,
    pub(crate) renewal: Renewal,
}

/// When a copy is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// With the next container that mounts a source which is not the same any more.
    WithContainers,
    /// As above, and whenever the kubelet puts a new version in place.
    WithSource,
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
    /// An emptyDir, or a part of it.
    EmptyDir {
        volume: PathBuf,
        inner: PathBuf,
    },
    Copied(Copied),
}

/// What is known of a source that is copied.
struct Copied {
    source: PathBuf,
    /// Sources that take each other's place in the guest have the same.
    place: PathBuf,
    renewal: Renewal,
    access: Access,
    is_termination_message: bool,
}

/// Whether the container may write to a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    AsMounted,
    ReadOnly,
}

impl Plan {
    pub(crate) fn new(
        mounts: Vec<Mount>,
        sandbox: &str,
        host_paths: HostPaths,
        limits: &VolumeLimits,
    ) -> Result<Self, Error> {
        let mut plan = Self::default();
        for mount in mounts {
            match fate(&mount, host_paths)? {
                Fate::Unchanged => plan.mounts.push(mount),
                Fate::SharedMemory => plan.mounts.push(bound(&mount, format!("{SANDBOX}/shm"))),
                Fate::EmptyDir { volume, inner } => {
                    plan.empty_dir(&mount, &volume, &inner, sandbox, limits)?;
                }
                Fate::Copied(copied) => plan.copied(&mount, copied, sandbox),
            }
        }
        Ok(plan)
    }

    /// All containers of the pod compute the same path, so they meet in one directory.
    fn empty_dir(
        &mut self,
        mount: &Mount,
        volume: &Path,
        inner: &Path,
        sandbox: &str,
        limits: &VolumeLimits,
    ) -> Result<(), Error> {
        let inspected = |path: &Path| fs::metadata(path).map_err(Error::file("inspect the emptyDir", path));
        let metadata = inspected(volume)?;
        let name = volume.file_name().unwrap_or_default().to_string_lossy();
        let information = statfs(volume).map_err(std::io::Error::from);
        let information = information.map_err(Error::file("inspect the file system of", volume))?;
        let storage = if information.f_type == TMPFS {
            memory(&name, &metadata, &information)
        } else {
            let mut folder = folder(format!("{SHARED}/{sandbox}/rootfs/local/{name}"), &metadata);
            let limit = limits.bytes(&name).map_err(invalid(VOLUMES_ANNOTATION))?;
            // A stock guest does not know it, and leaves it.
            folder.options.extend(limit.map(|bytes| format!("size={bytes}")));
            folder
        };
        let mut place = storage.mount_point.clone();
        self.storages.push(storage);
        if !inner.as_os_str().is_empty() {
            place = format!("{place}/{}", inner.display());
            let metadata = inspected(Path::new(&mount.source))?;
            self.storages.push(folder(place.clone(), &metadata));
        }
        self.mounts.push(bound(mount, place));
        Ok(())
    }

    /// One copy serves all containers of the pod, as the file on the node would.
    fn copied(&mut self, mount: &Mount, copied: Copied, sandbox: &str) {
        let digest = Sha256::digest(copied.place.as_os_str().as_encoded_bytes());
        let name = Path::new(&mount.destination)
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let target = format!("{SHARED}/{sandbox}-{}-{name}", hex::encode(&digest[..NAME_BYTES]));
        if copied.is_termination_message {
            self.termination = Some((mount.destination.clone(), copied.source.clone()));
        }
        let mut mount = bound(mount, target.clone());
        if copied.access == Access::ReadOnly {
            mount.options.retain(|option| option != "rw");
            mount.options.push("ro".to_owned());
        }
        self.mounts.push(mount);
        self.copies.push(Copy {
            source: copied.source,
            target,
            renewal: copied.renewal,
        });
    }
}

/// An emptyDir in memory, as large as the one that the kubelet made on the node.
fn memory(name: &str, metadata: &fs::Metadata, information: &StatFs) -> Storage {
    let size = information.f_blocks * u64::try_from(information.f_bsize).unwrap_or(0);
    let mut options = owner_and_mode(metadata);
    if size > 0 {
        options.push(format!("size={size}"));
    }
    Storage {
        driver: "ephemeral".to_owned(),
        source: "tmpfs".to_owned(),
        fstype: "tmpfs".to_owned(),
        options,
        mount_point: format!("{SANDBOX}/ephemeral/{name}"),
        ..Default::default()
    }
}

/// A folder with the owner and mode of one on the node.
fn folder(mount_point: String, metadata: &fs::Metadata) -> Storage {
    Storage {
        driver: "local".to_owned(),
        source: "local".to_owned(),
        fstype: "local".to_owned(),
        options: owner_and_mode(metadata),
        mount_point,
        ..Default::default()
    }
}

fn owner_and_mode(metadata: &fs::Metadata) -> Vec<String> {
    let mode = format!("mode={:04o}", metadata.mode() & PERMISSIONS);
    let group = (metadata.gid() != 0).then(|| format!("fsgid={}", metadata.gid()));
    std::iter::once(mode).chain(group).collect()
}

/// The storage behind /dev/shm, as large as the one that the runtime made on the node.
pub(crate) fn shared_memory(mounts: &[Mount]) -> Storage {
    let mount = mounts.iter().find(|mount| mount.destination == SHM_DESTINATION);
    let size = mount
        .filter(|mount| mount.type_ == "bind")
        .and_then(|mount| statfs(&*mount.source).ok())
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

fn fate(mount: &Mount, host_paths: HostPaths) -> Result<Fate, Error> {
    let is_bind = mount.type_ == "bind" || mount.options.iter().any(|one| one == "bind" || one == "rbind");
    if !is_bind {
        return Ok(Fate::Unchanged);
    }
    if mount.destination == SHM_DESTINATION {
        return Ok(Fate::SharedMemory);
    }
    let source = Path::new(&mount.source);
    // These are the guest's own.
    if ["/proc", "/sys"].iter().any(|own| source.starts_with(own)) {
        return Ok(Fate::Unchanged);
    }
    let copied = |place: &Path, renewal, access| {
        Fate::Copied(Copied {
            source: source.to_owned(),
            place: place.to_owned(),
            renewal,
            access,
            is_termination_message: false,
        })
    };
    let once = Renewal::WithContainers;
    Ok(match Origin::of(source, &mount.destination) {
        Origin::EmptyDir => Fate::EmptyDir {
            volume: source.to_owned(),
            inner: PathBuf::new(),
        },
        Origin::SubPath => match sub_path::of_empty_dir(source).map_err(Error::file("look up", source))? {
            Some(part) => Fate::EmptyDir {
                volume: part.volume,
                inner: part.inner,
            },
            None => {
                check_kind(mount)?;
                copied(source, once, Access::AsMounted)
            }
        },
        Origin::Configuration => copied(source, Renewal::WithSource, Access::AsMounted),
        Origin::PodFile => {
            check_kind(mount)?;
            copied(source, once, Access::AsMounted)
        }
        // Each start of the container has a file of its own, of which only the last is of interest.
        Origin::TerminationMessage => Fate::Copied(Copied {
            source: source.to_owned(),
            place: source.parent().unwrap_or(source).to_owned(),
            renewal: once,
            access: Access::AsMounted,
            is_termination_message: true,
        }),
        Origin::Storage if mount.options.iter().any(|one| one == "ro") => {
            check_kind(mount)?;
            copied(source, once, Access::ReadOnly)
        }
        Origin::Storage => {
            return Err(refused(
                mount,
                "what a container writes to a persistent volume of the node would stay in the virtual machine and be lost; \
                 mount it read-only, or keep the data elsewhere",
            ));
        }
        Origin::Node => {
            check_kind(mount)?;
            if host_paths == HostPaths::Refuse {
                return Err(refused(
                    mount,
                    "hostPath volumes are refused on this cluster, by the setting HOST_PATHS of its peer pods",
                ));
            }
            copied(source, once, Access::ReadOnly)
        }
    })
}

/// Refuses what has no copy: devices, sockets and pipes.
fn check_kind(mount: &Mount) -> Result<(), Error> {
    let metadata = fs::metadata(&mount.source).map_err(|error| Error::Mount {
        destination: mount.destination.clone(),
        problem: format!("its source {} cannot be read: {error}", mount.source),
    })?;
    let kind = metadata.file_type();
    if kind.is_dir() && Path::new(&mount.source).starts_with("/dev") {
        Err(refused(
            mount,
            "devices of the node are not in the virtual machine",
        ))
    } else if kind.is_dir() || kind.is_file() {
        Ok(())
    } else if kind.is_socket() || kind.is_fifo() {
        Err(refused(
            mount,
            "sockets and pipes of the node cannot be reached from the virtual machine",
        ))
    } else {
        Err(refused(
            mount,
            "a device of the node is not in the virtual machine",
        ))
    }
}

fn refused(mount: &Mount, reason: &str) -> Error {
    Error::Mount {
        destination: mount.destination.clone(),
        problem: format!("{}: {reason}", mount.source),
    }
}

/// What the administrator decided.
pub(crate) fn settings(pod_directory: &Path) -> ShimSettings {
    let path = pod_directory.join(SHIM_SETTINGS_FILE);
    let settings: Result<ShimSettings, std::io::Error> =
        fs::read(&path).and_then(|text| serde_json::from_slice(&text).map_err(Into::into));
    match settings {
        Ok(settings) => settings,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => ShimSettings::default(),
        // What cannot be read may forbid something.
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "settings not read: hostPath volumes are refused");
            ShimSettings {
                host_paths: HostPaths::Refuse,
                ..ShimSettings::default()
            }
        }
    }
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

#[cfg(test)]
mod tests;
