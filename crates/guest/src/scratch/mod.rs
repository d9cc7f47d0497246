//! Scratch space: where images are unpacked and what containers write goes to.
//!
//! A VM that has a disk for it makes a file system there ([`file_system`]); it is as large as the disk, and none of it
//! counts as a container's memory. In a VM without one the same folders are in memory. Secrets and configuration are
//! never here: they are copied to folders that are always in memory.
//!
//! Nothing of it outlives the VM, so nothing is ever written back for the sake of what comes after.

mod disk;
mod encryption;
mod file_system;
mod guard;
mod quota;
mod unsafe_device_mapper;
mod unsafe_partition;
mod unsafe_quota;
mod unsafe_resize;

use std::{
    ffi::CString,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use peerpods_proto::payload::ScratchEncryption;
use rustix::mount::{MountFlags, mount};
use tokio::sync::watch;

use crate::{boot::Platform, container::ContainerId, error::GuestError};

/// Where it is, whatever it is on.
const FOLDER: &str = "/var/scratch";

/// Scratch space that is being made ready, is, or cannot be.
pub(crate) struct Scratch {
    phase: watch::Receiver<Phase>,
}

#[derive(Clone)]
enum Phase {
    Preparing,
    Ready(Space),
    Unusable(Arc<GuestError>),
}

/// Scratch space that can be used, by what it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    /// A disk of the VM's own.
    Disk,
    /// The VM's memory, or a folder of who lends the kernel.
    Folder,
}

/// What makes scratch space ready, once.
pub(crate) struct Preparation {
    platform: Platform,
    phase: watch::Sender<Phase>,
}

impl Preparation {
    /// Makes the space ready, on a thread of its own. Until here the disk was not touched, so that a VM can be saved and go
    /// on with another, empty disk.
    pub(crate) fn start(self, encryption: ScratchEncryption) {
        tokio::task::spawn_blocking(move || {
            let result = prepare(self.platform, encryption);
            if let Err(error) = &result {
                tracing::error!("{}", error.chain());
            }
            self.phase.send_replace(match result {
                Ok(space) => Phase::Ready(space),
                Err(error) => Phase::Unusable(Arc::new(error)),
            });
        });
    }
}

impl Scratch {
    /// Scratch space, and what makes it ready: nobody needs it before the first container, so that it is best started when
    /// there is nothing else to do.
    pub(crate) fn of(platform: Platform) -> (Self, Preparation) {
        let (sender, phase) = watch::channel(Phase::Preparing);
        let preparation = Preparation {
            platform,
            phase: sender,
        };
        (Self { phase }, preparation)
    }

    /// Waits until it is ready. A disk that cannot be used is an error for every container: memory in its place would
    /// end them later, for no reason that anybody sees.
    pub(crate) async fn space(&self) -> Result<Space, GuestError> {
        let mut phase = self.phase.clone();
        let phase = phase
            .wait_for(|phase| !matches!(phase, Phase::Preparing))
            .await
            .map(|phase| phase.clone());
        match phase {
            Ok(Phase::Ready(space)) => Ok(space),
            Ok(Phase::Unusable(error)) => Err(GuestError::Scratch(error)),
            Ok(Phase::Preparing) | Err(_) => Err(GuestError::System {
                action: "prepare scratch space",
                source: io::ErrorKind::Interrupted.into(),
            }),
        }
    }
}

impl Space {
    /// Where layers are unpacked.
    pub(crate) fn images(self) -> PathBuf {
        Path::new(FOLDER).join("images")
    }

    /// Where a container's changes to its root are.
    pub(crate) fn container(self, id: &ContainerId) -> PathBuf {
        container(id)
    }

    /// Where a folder is that containers of the pod share and know as `name`, a relative path.
    pub(crate) fn volume(self, name: &Path) -> PathBuf {
        Path::new(FOLDER).join("volumes").join(name)
    }

    /// Lets the folder `place`, which is empty, take no more than `bytes`, with all that comes to be in it.
    pub(crate) fn limit(self, place: &Path, bytes: u64) -> Result<(), GuestError> {
        match self {
            Self::Disk => quota::limit(place, bytes),
            Self::Folder => {
                let options = CString::new(format!("size={bytes}")).expect("a number has no NUL");
                mount("tmpfs", place, "tmpfs", MountFlags::NODEV, options.as_c_str())
                    .map_err(|error| GuestError::file("mount", place)(error.into()))
            }
        }
    }
}

/// Removes what a container wrote, if there is any.
pub(crate) fn remove_container(id: &ContainerId) -> Result<(), GuestError> {
    let path = container(id);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(GuestError::file("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn container(id: &ContainerId) -> PathBuf {
    Path::new(FOLDER).join("containers").join(id.as_str())
}

fn prepare(platform: Platform, encryption: ScratchEncryption) -> Result<Space, GuestError> {
    fs::create_dir_all(FOLDER).map_err(GuestError::file("make", FOLDER))?;
    let Some(found) = disk::find(platform)? else {
        return Ok(Space::Folder);
    };
    let under = found.device.clone();
    let (device, how) = match encryption {
        ScratchEncryption::None => (found, ""),
        ScratchEncryption::Ephemeral => (encryption::encrypt(found)?, ", encrypted"),
    };
    guard::refuse(&device)?;
    file_system::make(&device.device, Path::new(FOLDER))?;
    tracing::info!("scratch space is on {}{how}", under.display());
    Ok(Space::Disk)
}
