//! The disk that is meant for scratch space.
//!
//! Every platform has its own sign for it. With QEMU it is a disk with a serial number. On EC2 it is an instance store, the
//! disk of the machine itself, where the instance has one; else what the image leaves of the root volume, which becomes a
//! partition by telling the kernel alone: no table on the disk names it, and no other boot sees it.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::unsafe_partition;
use crate::{boot::Platform, error::GuestError};

/// The disks that the kernel knows; each has its partitions as folders in it.
const DISKS: &str = "/sys/block";
/// Where their devices are.
const DEVICES: &str = "/dev";
/// The serial number that the provider for QEMU gives.
const SERIAL: &str = "peerpods-scratch";
/// The model of EC2's instance stores.
const INSTANCE_STORE: &str = "Amazon EC2 NVMe Instance Storage";
/// The name that the image gives to its one partition.
const BOOT_PARTITION: &str = "peerpods-boot";

/// The kernel counts disks in sectors of this size, whatever theirs is.
const SECTOR_BYTES: u64 = 512;
/// Partitions begin at whole ones of this, which is a multiple of what any disk writes at once.
const ALIGNMENT_BYTES: u64 = 1 << 20;
/// The number of the partition for scratch space; the image's own is the first.
const SCRATCH_PARTITION: u32 = 2;

/// Disks of NVMe are found beside everything else that boots; that takes milliseconds, and seconds under emulation.
const APPEARANCE_LIMIT: Duration = Duration::from_secs(10);
const APPEARANCE_INTERVAL: Duration = Duration::from_millis(10);

/// A device for scratch space.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ScratchDevice {
    /// Where the file system goes.
    pub(super) device: PathBuf,
    /// By what else one comes to the same disk, or to the one that the VM booted from.
    pub(super) related: Vec<PathBuf>,
}

/// Finds the device, and makes it where it takes that; none where the VM has no such disk.
pub(super) fn find(platform: Platform) -> Result<Option<ScratchDevice>, GuestError> {
    match platform {
        Platform::Qemu => with_serial_number(),
        Platform::Ec2 => on_ec2().map(Some),
        // Where the kernel is not this pod's, its disks are not either.
        Platform::Namespaces => Ok(None),
    }
}

fn with_serial_number() -> Result<Option<ScratchDevice>, GuestError> {
    let name = with_attribute(Path::new(DISKS), "serial", SERIAL).map_err(GuestError::file("list", DISKS))?;
    Ok(name.map(|name| ScratchDevice {
        device: device(&name),
        related: Vec::new(),
    }))
}

fn on_ec2() -> Result<ScratchDevice, GuestError> {
    let boot = await_boot_partition()?;
    let store = with_attribute(Path::new(DISKS), "device/model", INSTANCE_STORE);
    if let Some(store) = store.map_err(GuestError::file("list", DISKS))? {
        return Ok(ScratchDevice {
            device: device(&store),
            related: vec![device(&boot.disk), device(&boot.name)],
        });
    }
    let disk = device(&boot.disk);
    let file = OpenOptions::new().read(true).write(true).open(&disk);
    let file = file.map_err(GuestError::file("open", &disk))?;
    let (start, length) = boot
        .free_behind()
        .map_err(GuestError::file("use the rest of", &disk))?;
    unsafe_partition::add(&file, SCRATCH_PARTITION.cast_signed(), start, length)
        .map_err(GuestError::file("make a partition of the rest of", &disk))?;
    Ok(ScratchDevice {
        device: device(&partition_name(&boot.disk, SCRATCH_PARTITION)),
        related: vec![disk, device(&boot.name)],
    })
}

/// The partition that the VM booted from.
#[derive(Debug, PartialEq, Eq)]
struct BootPartition {
    disk: String,
    name: String,
    disk_bytes: u64,
    end_bytes: u64,
}

impl BootPartition {
    /// Where the disk is free behind it, and how much of it is.
    fn free_behind(&self) -> io::Result<(i64, i64)> {
        let start = self.end_bytes.next_multiple_of(ALIGNMENT_BYTES);
        let length = self.disk_bytes.saturating_sub(start) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
        match (i64::try_from(start), i64::try_from(length)) {
            (Ok(start), Ok(length)) if length > 0 => Ok((start, length)),
            _ => Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "nothing of it is free",
            )),
        }
    }
}

fn await_boot_partition() -> Result<BootPartition, GuestError> {
    let deadline = Instant::now() + APPEARANCE_LIMIT;
    loop {
        let found = boot_partition(Path::new(DISKS)).map_err(GuestError::file("list", DISKS))?;
        if let Some(found) = found {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(GuestError::NotFound(format!("a partition {BOOT_PARTITION}")));
        }
        thread::sleep(APPEARANCE_INTERVAL);
    }
}

/// Looks for the partition by its name, which the kernel tells among what it knows of the partition.
fn boot_partition(disks: &Path) -> io::Result<Option<BootPartition>> {
    let sign = format!("PARTNAME={BOOT_PARTITION}");
    for disk in names(disks)? {
        let folder = disks.join(&disk);
        for name in names(&folder)? {
            let partition = folder.join(&name);
            let facts = fs::read_to_string(partition.join("uevent"));
            if facts.is_ok_and(|facts| facts.lines().any(|line| line == sign)) {
                return Ok(Some(BootPartition {
                    disk_bytes: sectors(&folder.join("size"))? * SECTOR_BYTES,
                    end_bytes: (sectors(&partition.join("start"))? + sectors(&partition.join("size"))?)
                        * SECTOR_BYTES,
                    disk,
                    name,
                }));
            }
        }
    }
    Ok(None)
}

/// The name of the first disk, in alphabetical order, of which the kernel says this.
fn with_attribute(disks: &Path, attribute: &str, value: &str) -> io::Result<Option<String>> {
    let has_it = |name: &String| {
        // Most kinds of disk have no such file.
        let found = fs::read_to_string(disks.join(name).join(attribute));
        found.is_ok_and(|found| found.trim_end() == value)
    };
    Ok(names(disks)?.into_iter().find(has_it))
}

/// What is in a folder, in alphabetical order.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn sectors(path: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    text.trim().parse().map_err(io::Error::other)
}

fn device(name: &str) -> PathBuf {
    Path::new(DEVICES).join(name)
}

/// The kernel sets a number apart from a name that ends in one.
fn partition_name(disk: &str, number: u32) -> String {
    if disk.ends_with(|last: char| last.is_ascii_digit()) {
        format!("{disk}p{number}")
    } else {
        format!("{disk}{number}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(disks: &Path, name: &str, files: &[(&str, &str)]) {
        for (file, text) in files {
            let path = disks.join(name).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn a_disk_is_found_by_its_serial_number_alone() {
        let disks = tempfile::tempdir().unwrap();
        let find = || with_attribute(disks.path(), "serial", SERIAL).unwrap();
        add(disks.path(), "loop0", &[("size", "0\n")]);
        // virtio's have no line break, others do.
        add(disks.path(), "vda", &[("serial", "somebody's data\n")]);
        assert_eq!(find(), None);
        add(disks.path(), "vdc", &[("serial", "peerpods-scratch")]);
        add(disks.path(), "vdb", &[("serial", "peerpods-scratch\n")]);
        assert_eq!(find().as_deref(), Some("vdb"));
    }

    #[test]
    fn an_instance_store_is_found_by_its_model() {
        let disks = tempfile::tempdir().unwrap();
        let model = |model| [("device/model", model)];
        add(
            disks.path(),
            "nvme0n1",
            &model("Amazon Elastic Block Store              \n"),
        );
        add(
            disks.path(),
            "nvme1n1",
            &model("Amazon EC2 NVMe Instance Storage        \n"),
        );
        let found = with_attribute(disks.path(), "device/model", INSTANCE_STORE).unwrap();
        assert_eq!(found.as_deref(), Some("nvme1n1"));
    }

    #[test]
    fn what_is_behind_the_boot_partition_is_free() {
        let disks = tempfile::tempdir().unwrap();
        add(
            disks.path(),
            "nvme1n1",
            &[("size", "2097152\n"), ("nvme1n1p1/uevent", "PARTNAME=data\n")],
        );
        assert_eq!(boot_partition(disks.path()).unwrap(), None);
        add(
            disks.path(),
            "nvme0n1",
            &[
                ("size", "62914567\n"),
                (
                    "nvme0n1p1/uevent",
                    "DEVTYPE=partition\nPARTN=1\nPARTNAME=peerpods-boot\n",
                ),
                ("nvme0n1p1/start", "2048\n"),
                ("nvme0n1p1/size", "262144\n"),
            ],
        );
        let mut found = boot_partition(disks.path()).unwrap().unwrap();
        assert_eq!((&*found.disk, &*found.name), ("nvme0n1", "nvme0n1p1"));
        assert_eq!(found.free_behind().unwrap(), (129 << 20, 30591 << 20));
        found.disk_bytes = 130 << 20;
        assert_eq!(found.free_behind().unwrap(), (129 << 20, 1 << 20));
        found.disk_bytes = 129 << 20;
        assert_eq!(
            found.free_behind().unwrap_err().to_string(),
            "nothing of it is free"
        );
    }

    #[test]
    fn partitions_are_named_as_the_kernel_does() {
        assert_eq!(partition_name("nvme0n1", 2), "nvme0n1p2");
        assert_eq!(partition_name("sda", 2), "sda2");
    }
}
