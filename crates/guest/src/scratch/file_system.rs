//! A file system on an empty disk, without the program that makes file systems.
//!
//! The guest carries an ext4 file system of [`SEED_BYTES`], empty and compressed to less than a kilobyte, and writes it to
//! the disk's beginning. Mounted there, the kernel grows it to the disk's size: each group of blocks that it adds brings
//! its own bitmaps and inodes (`meta_bg`), so that none of the disk but these is written, and the file system ends up as
//! one made for this disk would be.
//!
//! What the seed is made with is in `tests/scratch_seed.rs`, which compares.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::Path,
};

use rustix::mount::{MountFlags, mount};

use super::unsafe_resize;
use crate::error::GuestError;

/// The file system that the guest carries.
const SEED: &[u8] = include_bytes!("seed.ext4.zst");
/// Its size, uncompressed.
const SEED_BYTES: usize = 16 << 20;
/// The size of its blocks.
const BLOCK_BYTES: usize = 4096;

/// As with any node's disk, a program in a volume may be one that changes its user. Devices are in a container's own
/// `/dev`. Nobody asks when something was last read, and the kernel need not clear tables of inodes in the background.
const FLAGS: MountFlags = MountFlags::NOATIME.union(MountFlags::NODEV);
/// What is deleted is given back to whoever lends the disk. Nothing waits for the disk to have written: it ends with the
/// VM. After an error in its structure the file system only reads.
const OPTIONS: &std::ffi::CStr = c"noinit_itable,discard,nobarrier,errors=remount-ro";

/// Makes a file system over the whole of `device`, and mounts it at `target`. What was on the device is lost.
pub(super) fn make(device: &Path, target: &Path) -> Result<(), GuestError> {
    let disk = OpenOptions::new()
        .read(true)
        .write(true)
        .open(device)
        .map_err(GuestError::file("open the scratch disk", device))?;
    let size = write_seed(&disk).map_err(GuestError::file("write a file system to", device))?;
    drop(disk);
    mount(device, target, "ext4", FLAGS, OPTIONS)
        .map_err(|error| GuestError::file("mount the scratch disk", device)(error.into()))?;
    let root = File::open(target).map_err(GuestError::file("open", target))?;
    unsafe_resize::grow(&root, size / BLOCK_BYTES as u64)
        .map_err(GuestError::file("grow the file system on", device))
}

/// Writes the seed to the beginning of a disk, and answers how large the disk is.
fn write_seed(mut disk: &File) -> io::Result<u64> {
    let size = disk.seek(SeekFrom::End(0))?;
    if size < SEED_BYTES as u64 {
        let problem = format!("it has {size} bytes, and {SEED_BYTES} are the least");
        return Err(io::Error::new(io::ErrorKind::StorageFull, problem));
    }
    let seed = zstd::bulk::decompress(SEED, SEED_BYTES)?;
    // Blocks of zeros are those in which nothing is yet, and what the disk holds there does not matter: without looking,
    // the file system takes them for empty (`uninit_bg`).
    for (number, block) in (0..).zip(seed.chunks(BLOCK_BYTES)) {
        if block.iter().any(|byte| *byte != 0) {
            disk.write_all_at(block, number * BLOCK_BYTES as u64)?;
        }
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use std::{io::Read, process::Command};

    use super::*;

    #[test]
    fn whatever_a_disk_held_before_the_file_system_is_sound() {
        let mut disk = tempfile::NamedTempFile::new().unwrap();
        let size = SEED_BYTES + BLOCK_BYTES;
        io::copy(&mut io::repeat(0xA5).take(size as u64), &mut disk).unwrap();
        assert_eq!(write_seed(disk.as_file()).unwrap(), size as u64);
        let check = Command::new("e2fsck")
            .args(["-f", "-n"])
            .arg(disk.path())
            .output();
        let check = check.expect("e2fsck is there: it is of the package e2fsprogs");
        assert!(
            check.status.success(),
            "{}",
            String::from_utf8_lossy(&check.stdout)
        );
    }

    #[test]
    fn a_disk_that_is_too_small_is_refused() {
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(SEED_BYTES as u64 - 1).unwrap();
        let error = write_seed(&disk).unwrap_err().to_string();
        assert_eq!(error, "it has 16777215 bytes, and 16777216 are the least");
    }
}
