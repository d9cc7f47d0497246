//! The disk that is meant for scratch space.
//!
//! Every platform has its own sign for it: with QEMU, its serial number. Others (the rest of an EC2 instance's root
//! volume, an instance store) are further cases of [`find`].

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::error::GuestError;

/// The disks that the kernel knows.
const DISKS: &str = "/sys/block";
/// Where their devices are.
const DEVICES: &str = "/dev";
/// The serial number that the provider for QEMU gives.
const SERIAL: &str = "peerpods-scratch";

/// The disk's device; `None` where the VM has no such disk.
pub(super) fn find() -> Result<Option<PathBuf>, GuestError> {
    let name = with_serial(Path::new(DISKS), SERIAL).map_err(GuestError::file("list", DISKS))?;
    Ok(name.map(|name| Path::new(DEVICES).join(name)))
}

/// The name of the first disk, in alphabetical order, with this serial number.
fn with_serial(disks: &Path, serial: &str) -> io::Result<Option<PathBuf>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(disks)? {
        let entry = entry?;
        // Most kinds of disk have no such file.
        let found = fs::read_to_string(entry.path().join("serial"));
        if found.is_ok_and(|found| found.trim_end() == serial) {
            names.push(PathBuf::from(entry.file_name()));
        }
    }
    Ok(names.into_iter().min())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_found_by_its_serial_number_alone() {
        let disks = tempfile::tempdir().unwrap();
        let find = || with_serial(disks.path(), SERIAL).unwrap();
        let add = |name: &str, serial: Option<&str>| {
            fs::create_dir(disks.path().join(name)).unwrap();
            if let Some(serial) = serial {
                fs::write(disks.path().join(name).join("serial"), serial).unwrap();
            }
        };
        add("loop0", None);
        // virtio's have no line break, others do.
        add("vda", Some("somebody's data\n"));
        assert_eq!(find(), None);
        add("vdc", Some("peerpods-scratch"));
        add("vdb", Some("peerpods-scratch\n"));
        assert_eq!(find(), Some("vdb".into()));
    }
}
