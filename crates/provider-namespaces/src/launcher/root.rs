//! The root file system that the guest finds: what a VM's initrd holds, and what its firmware hands over.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use peerpods_provider_namespaces::{LaunchOrder, NETWORK, USER_DATA};
use rustix::{
    fs::{CWD, FileType, Mode, makedev, mknodat},
    mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount},
    process::{chdir, pivot_root, umask},
};

use super::error::LaunchError;

/// The guest program in its root.
pub(crate) const GUEST: &str = "/init";
/// Where the root is put together, in the instance's directory.
const ROOT: &str = "root";
/// The directory by which the guest knows where it is.
const HANDOVER: &str = "root/dev/peerpods";
/// Character devices that programs expect: name, major and minor number.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// A root that is there and not entered yet.
pub(crate) struct Root(PathBuf);

/// Puts the root together. In the new mount namespace alone: with its last process it is gone.
pub(crate) fn build(order: &LaunchOrder) -> Result<Root, LaunchError> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(LaunchError::system("keep mounts from the node"))?;
    umask(Mode::empty());
    make_folder(ROOT)?;
    mount_memory(ROOT)?;
    for folder in ["dev", "proc", "root", "sys"] {
        make_folder(&format!("{ROOT}/{folder}"))?;
    }
    let guest = format!("{ROOT}{GUEST}");
    fs::write(&guest, "").map_err(LaunchError::file("make", &guest))?;
    mount_bind(&order.guest, &guest).map_err(LaunchError::file("mount", &order.guest))?;

    let devices = format!("{ROOT}/dev");
    mount_memory(&devices)?;
    for (name, major, minor) in DEVICES {
        let path = format!("{devices}/{name}");
        let mode = Mode::from_raw_mode(0o666);
        mknodat(CWD, &path, FileType::CharacterDevice, mode, makedev(major, minor))
            .map_err(LaunchError::file("make", path))?;
    }
    let multiplexer = format!("{devices}/ptmx");
    symlink("pts/ptmx", &multiplexer).map_err(LaunchError::file("link", multiplexer))?;
    make_folder(HANDOVER)?;
    for file in [USER_DATA, NETWORK] {
        fs::copy(file, format!("{HANDOVER}/{file}")).map_err(LaunchError::file("hand over", file))?;
    }
    Ok(Root(ROOT.into()))
}

impl Root {
    /// Makes it this process's root; nothing of the node's file systems is left in the namespace.
    pub(crate) fn enter(self) -> Result<(), LaunchError> {
        let failed = |path| LaunchError::file("enter", path);
        chdir(&self.0).map_err(failed(&self.0))?;
        pivot_root(".", ".").map_err(failed(&self.0))?;
        // The old root lies on top of the new one.
        unmount(".", UnmountFlags::DETACH).map_err(failed(&self.0))?;
        chdir("/").map_err(failed(&self.0))
    }
}

fn make_folder(path: &str) -> Result<(), LaunchError> {
    fs::create_dir(path).map_err(LaunchError::file("make", path))
}

fn mount_memory(path: &str) -> Result<(), LaunchError> {
    mount("tmpfs", Path::new(path), "tmpfs", MountFlags::NOSUID, c"mode=755")
        .map_err(LaunchError::file("mount", path))
}
