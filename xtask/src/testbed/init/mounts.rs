//! The node's own view of the file system: what it writes, the machine does not see.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    unmount,
};

use crate::testbed::layout::State;

/// What the kubelet sets for the whole machine; it sees files that hold these values already.
const SYSCTLS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];
/// Folders of the node's daemons below /var/lib, kept in the state folder.
const DAEMON_FOLDERS: [&str; 3] = ["kubelet", "cni", "cloud-api-adaptor"];

/// Makes all mounts of the node, in the mount namespace that this process is in.
pub(super) fn prepare(state: &State) -> Result<()> {
    tmpfs(Path::new("/run"))?;
    fs::create_dir_all("/run/lock").context("cannot make /run/lock")?;
    own(Path::new("/var/lib"), &DAEMON_FOLDERS, state)?;
    // Programs and configuration that are installed on the node.
    own(Path::new("/etc"), &[], state)?;
    own(Path::new("/opt"), &[], state)?;
    sysfs()?;
    sysctls()?;
    let log = state.file("log/node");
    fs::create_dir_all(&log).context("cannot make the node's log folder")?;
    mount_bind(&log, "/var/log").context("cannot mount over /var/log")?;
    // Last: of two views of one shared mount, what is unmounted in one goes in the other too.
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    mount_change("/", shared).context("cannot share the mounts of the node with its pods")
}

/// Makes a folder the node's own: the machine's entries are mounted into it, and `from_state` come from the state folder. The
/// machine's is not even touched for the mount points.
fn own(folder: &Path, from_state: &[&str], state: &State) -> Result<()> {
    let machine = Path::new("/run/machine");
    fs::create_dir_all(machine)?;
    let shown = folder.display();
    mount_bind_recursive(folder, machine)
        .with_context(|| format!("cannot keep a view of the machine's {shown}"))?;
    tmpfs(folder)?;
    for entry in fs::read_dir(machine).with_context(|| format!("cannot list {shown}"))? {
        let entry = entry?;
        let (name, kind, target) = (
            entry.file_name(),
            entry.file_type()?,
            folder.join(entry.file_name()),
        );
        if from_state.iter().any(|ours| name == *ours) {
            continue;
        }
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, &target)?;
        } else if kind.is_dir() {
            fs::create_dir(&target)?;
            mount_bind_recursive(entry.path(), &target)
                .with_context(|| format!("cannot mount {}", target.display()))?;
        } else if kind.is_file() {
            fs::write(&target, "")?;
            mount_bind(entry.path(), &target)
                .with_context(|| format!("cannot mount {}", target.display()))?;
        }
    }
    // The entries' mounts are copies of their own and stay.
    unmount(machine, UnmountFlags::DETACH)
        .with_context(|| format!("cannot give back the view of the machine's {shown}"))?;
    for name in from_state {
        let (source, target) = (state.file("var").join(name), folder.join(name));
        fs::create_dir_all(&source).with_context(|| format!("cannot make {}", source.display()))?;
        fs::create_dir_all(&target).with_context(|| format!("cannot make {}", target.display()))?;
        mount_bind(&source, &target).with_context(|| format!("cannot mount {}", target.display()))?;
    }
    Ok(())
}

/// /sys shows the devices of the network namespace in which it was mounted, so the node mounts its own.
fn sysfs() -> Result<()> {
    let (cgroups, kept) = ("/sys/fs/cgroup", "/run/cgroup");
    fs::create_dir_all(kept)?;
    mount_bind_recursive(cgroups, kept).context("cannot keep the cgroup mounts")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("sysfs", "/sys", "sysfs", flags, None).context("cannot mount /sys")?;
    mount_bind_recursive(kept, cgroups).context("cannot mount the cgroups again")?;
    unmount(kept, UnmountFlags::DETACH).context("cannot give back the second view of the cgroups")
}

fn sysctls() -> Result<()> {
    let folder = PathBuf::from("/run/sysctls");
    fs::create_dir_all(&folder)?;
    for (name, value) in SYSCTLS {
        let target = Path::new("/proc/sys").join(name);
        if !target.exists() {
            continue;
        }
        let file = folder.join(name.replace('/', "."));
        fs::write(&file, format!("{value}\n"))?;
        mount_bind(&file, &target).with_context(|| format!("cannot mount over {}", target.display()))?;
    }
    Ok(())
}

fn tmpfs(target: &Path) -> Result<()> {
    mount(
        "tmpfs",
        target,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        Some(c"mode=755"),
    )
    .with_context(|| format!("cannot mount a private {}", target.display()))
}
