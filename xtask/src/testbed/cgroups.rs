//! The parent cgroup of all pods of the bed: one in each hierarchy (v1), or one (v2).
//!
//! Guests in namespaces need the hierarchy of version 2, which a machine with version 1 has too, without controllers and
//! usually without a mount. The bed mounts it; what is left in it is removed through a mount of its own.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::mount::{MountFlags, mount};

use super::layout::CGROUP2;
use crate::process::run;

const MOUNT: &str = "/sys/fs/cgroup";
/// Removes the folder `$0` of the hierarchy of version 2. It runs in a mount namespace of its own.
const REMOVE_UNMOUNTED: &str = "mount -t cgroup2 none /sys/fs/cgroup || exit 1
    cd /sys/fs/cgroup
    for attempt in 1 2 3 4 5 6 7 8 9 10; do
        [ -d \"$0\" ] || exit 0
        find \"$0\" -depth -type d -exec rmdir {} + 2>/dev/null && exit 0
        sleep 0.2
    done
    echo \"control groups of version 2 are left below $0\" >&2
    exit 1";
/// What a kubelet wants of a cgroup v2.
const CONTROLLERS: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];
/// A cgroup can be removed once the kernel is done with its last process, which takes a moment.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// Makes the cgroup `name` in every hierarchy.
pub(super) fn make(name: &str) -> Result<()> {
    let parents = parents()?;
    ensure!(
        !parents.is_empty(),
        "no cgroup hierarchy is mounted below {MOUNT}"
    );
    for parent in parents {
        let folder = parent.join(name);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).context(format!("cannot make {}", folder.display()));
            }
            _ => {}
        }
        // A cpuset without CPUs takes no process, and does not take its parent's.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if !is_v2() && parent.join(file).exists() {
                let value = fs::read_to_string(parent.join(file))?;
                fs::write(folder.join(file), value)
                    .with_context(|| format!("cannot set {file} of {name}"))?;
            }
        }
        if is_v2() {
            delegate(&parent)?;
            delegate(&folder)?;
        }
    }
    Ok(())
}

/// Mounts the hierarchy of version 2 for guests in namespaces, in the bed's own mount namespace, with the bed's cgroup.
pub(super) fn mount_second_version(name: &str) -> Result<()> {
    fs::create_dir_all(CGROUP2).with_context(|| format!("cannot make {CGROUP2}"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("cgroup2", CGROUP2, "cgroup2", flags, None)
        .with_context(|| format!("cannot mount cgroups of version 2 on {CGROUP2}"))?;
    let folder = Path::new(CGROUP2).join(name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Lets the children of a cgroup v2 use those controllers that it has itself.
fn delegate(folder: &Path) -> Result<()> {
    let has = fs::read_to_string(folder.join("cgroup.controllers"))?;
    let enabled = fs::read_to_string(folder.join("cgroup.subtree_control"))?;
    for controller in CONTROLLERS {
        if has.split_whitespace().any(|one| one == controller)
            && !enabled.split_whitespace().any(|one| one == controller)
        {
            fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"))
                .with_context(|| format!("cannot enable {controller} in {}", folder.display()))?;
        }
    }
    Ok(())
}

/// Removes the cgroup `name` and all below it from every hierarchy.
pub(super) fn remove(name: &str) -> Result<()> {
    for attempt in 0.. {
        let left: Vec<PathBuf> = parents()?
            .into_iter()
            .map(|parent| parent.join(name))
            .filter(|folder| folder.exists())
            .collect();
        if left.is_empty() {
            break;
        }
        ensure!(
            attempt < ATTEMPTS,
            "cgroups are left, with processes in them: {left:?}"
        );
        if attempt > 0 {
            sleep(PAUSE);
        }
        left.iter().for_each(|folder| remove_tree(folder));
    }
    if is_v2() {
        return Ok(());
    }
    let arguments = [
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        REMOVE_UNMOUNTED,
    ];
    run(Command::new("unshare").args(arguments).arg(name))
}

/// Children first. What is still in use stays for the next attempt.
fn remove_tree(folder: &Path) {
    let children = fs::read_dir(folder).into_iter().flatten().flatten();
    for child in children.filter(|child| child.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_tree(&child.path());
    }
    let _ = fs::remove_dir(folder);
}

fn is_v2() -> bool {
    Path::new(MOUNT).join("cgroup.controllers").exists()
}

/// The root of every hierarchy.
fn parents() -> Result<Vec<PathBuf>> {
    if is_v2() {
        return Ok(vec![MOUNT.into()]);
    }
    let entries = fs::read_dir(MOUNT).with_context(|| format!("cannot list {MOUNT}"))?;
    let folders = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    // With two controllers in one hierarchy there are links beside it: those are no folders of their own.
    Ok(folders
        .map(|entry| entry.path())
        .filter(|folder| folder.join("cgroup.procs").exists())
        .collect())
}
