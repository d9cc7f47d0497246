//! A VM's scratch disk: a sparse file without a name, behind a loop device.
//!
//! QEMU's files are bounded (`console::LIMIT_BYTES`), and a disk is larger than any console. Neither the bound nor a name
//! concerns a block device: the kernel writes to the file on the device's behalf. And nothing is left of it, whoever
//! ends at whichever point: the descriptor is the disk. When QEMU, or the launcher before it started QEMU, has closed
//! it, the kernel clears the loop device, and with it goes the last reference to the file and all its blocks.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::Path,
};

use rustix::fs::OFlags;
use tokio::process::Command;

use crate::{Placement, ScratchSettings, error::QemuError, unsafe_inherit, unsafe_loop};

const CONTROL: &str = "/dev/loop-control";

/// How often another program may take the device that the kernel named as free: each time one of them has got what it
/// wanted, and a node starts a few dozen VMs at once.
const ATTEMPTS: u32 = 64;

/// By this the guest knows the disk.
const SERIAL: &str = "peerpods-scratch";

/// A disk that lives as long as somebody holds its descriptor.
#[derive(Debug)]
pub(crate) struct ScratchDisk(OwnedFd);

impl ScratchDisk {
    /// Makes an empty disk. It reads as zeros, and takes no more of the node than is written to it.
    pub(crate) fn make(settings: &ScratchSettings, placement: &Placement) -> Result<Self, QemuError> {
        let backing = unnamed_file(settings)?;
        // A container has those devices that there were when it started.
        let open = |path: &str| {
            let device = placement.of_qemu(Path::new(path));
            let opened = OpenOptions::new().read(true).write(true).open(device);
            opened.map_err(QemuError::file("open the loop device", path))
        };
        let control = open(CONTROL)?;
        for _ in 0..ATTEMPTS {
            let number = unsafe_loop::free_device(&control)
                .map_err(QemuError::file("get a loop device from", CONTROL))?;
            let path = format!("/dev/loop{number}");
            let device = open(&path)?;
            match unsafe_loop::configure(&device, &backing) {
                Ok(()) => return Ok(Self(device.into())),
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                Err(error) => return Err(QemuError::file("put a scratch disk behind", path)(error)),
            }
        }
        Err(QemuError::LoopDevicesBusy(ATTEMPTS))
    }

    /// Its number, here and in the program that [`Self::pass_to`] hands it to.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Lets the program that `command` starts have it.
    pub(crate) fn pass_to(self, command: &mut Command) {
        unsafe_inherit::inherit(command, self.0);
    }
}

/// What tells QEMU of the disk behind `descriptor`.
///
/// The node's page cache holds what the guest wrote (that of the file behind the loop device; a second one, of the device
/// itself, is left out), the guest's flushes are ignored, and what is still in memory when the VM ends is never written:
/// nothing needs this disk after its VM. What the guest deletes is given back. A node whose disk is full gives the guest
/// an error; QEMU by itself would stop the VM until somebody makes room.
pub(crate) fn arguments(descriptor: RawFd) -> [[String; 2]; 3] {
    [
        ["-add-fd", &format!("fd={descriptor},set=0,opaque=scratch")],
        [
            "-blockdev",
            "driver=host_device,node-name=scratch,filename=/dev/fdset/0,cache.direct=on,cache.no-flush=on,\
             discard=unmap,aio=threads",
        ],
        [
            "-device",
            &format!("virtio-blk-pci,drive=scratch,serial={SERIAL},werror=report,rerror=report"),
        ],
    ]
    .map(|pair| pair.map(str::to_owned))
}

fn unnamed_file(settings: &ScratchSettings) -> Result<File, QemuError> {
    let directory = &settings.directory;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(QemuError::file("make", directory))?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(OFlags::TMPFILE.bits().cast_signed())
        .open(directory)
        .map_err(QemuError::file("make a file without a name in", directory))?;
    file.set_len(settings.size_bytes())
        .map_err(QemuError::file("size a scratch disk in", directory))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::{Read, Seek, SeekFrom, Write},
        num::NonZeroU32,
        path::Path,
        thread,
        time::{Duration, Instant},
    };

    use tempfile::TempDir;

    use super::ScratchDisk;
    use crate::{Placement, ScratchSettings};

    fn settings(directory: &TempDir) -> ScratchSettings {
        ScratchSettings {
            directory: directory.path().join("scratch"),
            size_gib: NonZeroU32::new(3).unwrap(),
        }
    }

    /// The loop devices with a file of `directory` behind them.
    fn attached(directory: &Path) -> usize {
        let devices = fs::read_dir("/sys/block").unwrap().flatten();
        let files =
            devices.filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok());
        files
            .filter(|file| Path::new(file).starts_with(directory))
            .count()
    }

    fn until_detached(directory: &Path) {
        let start = Instant::now();
        while attached(directory) > 0 {
            assert!(start.elapsed() < Duration::from_secs(10), "a loop device is left");
            thread::yield_now();
        }
    }

    #[test]
    fn a_disk_has_its_size_and_no_name_and_goes_with_its_descriptor() {
        let directory = TempDir::new().unwrap();
        let disk = ScratchDisk::make(&settings(&directory), &Placement::Here).unwrap();
        let mut device = File::from(disk.0);
        assert_eq!(device.seek(SeekFrom::End(0)).unwrap(), 3 << 30);
        device.seek(SeekFrom::End(-3)).unwrap();
        device.write_all(b"end").unwrap();
        device.seek(SeekFrom::End(-6)).unwrap();
        let mut text = Vec::new();
        device.read_to_end(&mut text).unwrap();
        assert_eq!(text, b"\0\0\0end");
        assert_eq!(fs::read_dir(directory.path().join("scratch")).unwrap().count(), 0);
        assert_eq!(attached(directory.path()), 1);
        drop(device);
        until_detached(directory.path());
    }

    #[test]
    fn many_at_once_get_one_each() {
        let directory = TempDir::new().unwrap();
        let settings = settings(&directory);
        let disks: Vec<_> = thread::scope(|scope| {
            let makers: Vec<_> = (0..12)
                .map(|_| scope.spawn(|| ScratchDisk::make(&settings, &Placement::Here)))
                .collect();
            makers
                .into_iter()
                .map(|maker| maker.join().unwrap().unwrap())
                .collect()
        });
        assert_eq!(attached(directory.path()), disks.len());
        drop(disks);
        until_detached(directory.path());
    }
}
