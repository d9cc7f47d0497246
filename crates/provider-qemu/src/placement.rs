//! Where QEMU runs: beside this program, or on the node that this program's container is on.
//!
//! A container's processes end with it, and see the files of its image. A VM must outlive the pod of whoever started it, so that
//! a new version of the adaptor takes up the VMs of the old one; and QEMU, with its libraries and firmware, is the node's. So
//! before it becomes QEMU, the process leaves the container: its control groups, its view of the file system, its working
//! directory. What it needs of the image, a kernel and an initrd, it finds through the process that started it.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use tokio::process::Command;

use crate::{
    error::QemuError,
    settings::{NodePlacement, Placement},
    unsafe_leave::{self, Outside},
};

/// The node's first process, which this program sees where it shares the node's process numbers.
const NODE: &str = "/proc/1";
const CGROUPS: &str = "sys/fs/cgroup";

impl Placement {
    /// A file that this program sees, as QEMU finds it.
    pub(crate) fn for_qemu(&self, path: &Path) -> PathBuf {
        match self {
            Self::Here => path.to_owned(),
            Self::Node(_) => below(&format!("/proc/{}/root", std::process::id()), path),
        }
    }

    /// A file that QEMU sees, as this program finds it.
    pub(crate) fn of_qemu(&self, path: &Path) -> PathBuf {
        match self {
            Self::Here => path.to_owned(),
            Self::Node(_) => below(&format!("{NODE}/root"), path),
        }
    }

    /// Has what `command` starts run in its place, in `directory`, which is the same there and here.
    pub(crate) fn settle(&self, command: &mut Command, directory: &Path) -> Result<(), QemuError> {
        command.current_dir(directory);
        if let Self::Node(placement) = self {
            unsafe_leave::leave(command, outside(placement, directory)?);
        }
        Ok(())
    }
}

fn below(root: &str, path: &Path) -> PathBuf {
    Path::new(root).join(path.strip_prefix("/").unwrap_or(path))
}

/// Everything that the process needs to leave, opened before there is one: between fork and exec it may only ask the kernel.
fn outside(placement: &NodePlacement, directory: &Path) -> Result<Outside, QemuError> {
    let mounts = format!("{NODE}/ns/mnt");
    let mounts = File::open(&mounts).map_err(QemuError::file("open the node's namespace", mounts))?;
    let directory = CString::new(directory.as_os_str().as_bytes())
        .map_err(|error| QemuError::file("enter", directory)(error.into()))?;
    let folder = Path::new(NODE).join("root").join(CGROUPS);
    let groups = control_groups(&folder, &placement.cgroup)
        .map_err(QemuError::file("make a control group for VMs in", &folder))?;
    Ok(Outside {
        groups,
        mounts,
        directory,
    })
}

/// Makes a control group in each hierarchy, or in the only one; gives the files by which a process joins.
fn control_groups(folder: &Path, name: &str) -> io::Result<Vec<File>> {
    let is_hierarchy = |folder: &Path| folder.join("cgroup.procs").exists();
    let roots = if is_hierarchy(folder) {
        vec![folder.to_owned()]
    } else {
        let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        // Two controllers of one hierarchy have a link each.
        let folders = entries
            .into_iter()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders
            .map(|entry| entry.path())
            .filter(|path| is_hierarchy(path))
            .collect()
    };
    roots.iter().map(|root| control_group(root, name)).collect()
}

fn control_group(root: &Path, name: &str) -> io::Result<File> {
    let group = root.join(name);
    fs::create_dir_all(&group)?;
    // Of version 1: a set of no CPUs takes no process, and a new one has none. Of version 2: one of none has its parent's.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (own, above) = (group.join(file), group.parent().unwrap_or(root).join(file));
        if own.exists() && above.exists() && fs::read_to_string(&own)?.trim().is_empty() {
            let value = fs::read_to_string(above)?;
            if !value.trim().is_empty() {
                fs::write(&own, value)?;
            }
        }
    }
    OpenOptions::new().write(true).open(group.join("cgroup.procs"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn on_the_node_files_of_the_image_are_found_through_this_process() {
        let node = Placement::Node(NodePlacement {
            cgroup: "peerpods".to_owned(),
        });
        let kernel = Path::new("/usr/share/peerpods/vmlinuz");
        let expected = format!("/proc/{}/root/usr/share/peerpods/vmlinuz", std::process::id());
        assert_eq!(node.for_qemu(kernel), Path::new(&expected));
        assert_eq!(Placement::Here.for_qemu(kernel), kernel);
        assert_eq!(
            node.of_qemu(Path::new("/dev/loop0")),
            Path::new("/proc/1/root/dev/loop0")
        );
    }

    #[test]
    fn a_control_group_has_its_parents_cpus_and_is_made_once() {
        let folder = tempfile::TempDir::new().unwrap();
        let cpuset = folder.path().join("cpuset");
        fs::create_dir_all(cpuset.join("peerpods")).unwrap();
        for file in ["cgroup.procs", "peerpods/cgroup.procs", "peerpods/cpuset.mems"] {
            fs::write(cpuset.join(file), "").unwrap();
        }
        fs::write(cpuset.join("cpuset.cpus"), "0-1\n").unwrap();
        fs::write(cpuset.join("peerpods/cpuset.cpus"), "\n").unwrap();
        for _ in 0..2 {
            assert_eq!(control_groups(folder.path(), "peerpods").unwrap().len(), 1);
            let cpus = fs::read_to_string(cpuset.join("peerpods/cpuset.cpus")).unwrap();
            assert_eq!(cpus, "0-1\n");
        }
    }
}
