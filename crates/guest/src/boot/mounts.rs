//! File systems of the VM.
//!
//! The kernel starts on a root that nothing can pivot away from, and containers pivot. So everything moves to a
//! temporary file system; this program's own file stays behind, open, as `/proc/self/exe`.

use std::{fs, os::unix::fs::symlink, path::Path};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_move},
    process::{chdir, chroot},
};

use super::modules;
use crate::error::GuestError;

/// Where the new root is put together.
const NEW_ROOT: &str = "/root";
/// Images and what containers write live in memory; the rest of it is for the programs.
const ROOT_OPTIONS: &str = "mode=755,size=80%";

/// A process that moves to its control group otherwise waits for a grace period of RCU, 10 ms of every exec. Every fork
/// pays for it, with a barrier. Where the kernel is not the guest's own, it ignores the option.
const CGROUP_OPTIONS: &str = "favordynmods";

const NOTHING: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// What is needed to find out where the VM runs.
pub(super) fn kernel_views() -> Result<(), GuestError> {
    mount_at("proc", "/proc", "proc", NOTHING, "")?;
    mount_at("sysfs", "/sys", "sysfs", NOTHING, "")
}

/// The devices that the kernel knows.
pub(super) fn devices() -> Result<(), GuestError> {
    mount_at("devtmpfs", "/dev", "devtmpfs", MountFlags::NOSUID, "mode=755")
}

/// Moves to a root of its own, with all that programs expect to find.
pub(super) fn switch_root() -> Result<(), GuestError> {
    mount_at("tmpfs", NEW_ROOT, "tmpfs", MountFlags::NODEV, ROOT_OPTIONS)?;
    for folder in ["dev", "etc", "proc", "run", "sys", "tmp", "var"] {
        let path = Path::new(NEW_ROOT).join(folder);
        fs::create_dir_all(&path).map_err(GuestError::file("make", path))?;
    }
    if Path::new(modules::FOLDER).is_dir() {
        let seen = format!("{NEW_ROOT}{}", modules::FOLDER);
        fs::create_dir_all(&seen).map_err(GuestError::file("make", &seen))?;
        mount_bind(modules::FOLDER, &seen).map_err(|error| GuestError::file("mount", seen)(error.into()))?;
    }
    for moved in ["/dev", "/proc", "/sys"] {
        let to = format!("{NEW_ROOT}{moved}");
        mount_move(moved, &to).map_err(|error| GuestError::file("move", moved)(error.into()))?;
    }
    chdir(NEW_ROOT).map_err(GuestError::system("enter the new root"))?;
    mount_move(".", "/").map_err(GuestError::system("move the new root"))?;
    chroot(".").map_err(GuestError::system("change to the new root"))?;
    chdir("/").map_err(GuestError::system("enter the new root"))?;
    let propagation = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    mount_change("/", propagation).map_err(GuestError::system("share the mounts with containers"))?;

    for (folder, kind, flags, options) in [
        (
            "/dev/pts",
            "devpts",
            MountFlags::NOSUID | MountFlags::NOEXEC,
            "mode=620,ptmxmode=666,gid=5",
        ),
        (
            "/dev/shm",
            "tmpfs",
            MountFlags::NOSUID | MountFlags::NODEV,
            "mode=1777",
        ),
        ("/dev/mqueue", "mqueue", NOTHING, ""),
        ("/sys/fs/cgroup", "cgroup2", NOTHING, CGROUP_OPTIONS),
    ] {
        mount_at(kind, folder, kind, flags, options)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let link = Path::new("/dev").join(name);
        if !link.exists() {
            symlink(target, &link).map_err(GuestError::file("link", link))?;
        }
    }
    fs::write("/etc/passwd", "root:x:0:0:root:/:/\n").map_err(GuestError::file("write", "/etc/passwd"))?;
    Ok(())
}

fn mount_at(
    source: &str,
    target: &str,
    kind: &str,
    flags: MountFlags,
    options: &str,
) -> Result<(), GuestError> {
    fs::create_dir_all(target).map_err(GuestError::file("make", target))?;
    let options = std::ffi::CString::new(options).expect("the options above hold no NUL");
    mount(source, target, kind, flags, options.as_c_str())
        .map_err(|error| GuestError::file("mount", target)(error.into()))
}
