//! A file system on an empty disk, without the program that makes file systems.
//!
//! The guest carries an empty ext4 file system of [`SEED_BYTES`], of which it keeps the blocks that hold anything, in less
//! than a kilobyte, and writes it to the disk's beginning. Mounted there, the kernel grows it to the disk's size: each group
//! of blocks that it adds brings its own bitmaps and inodes (`meta_bg`), so that none of the disk but these is written, and
//! the file system ends up as one made for this disk would be.
//!
//! What the seed is made with is in `tests/scratch_seed.rs`, which compares.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::Path,
};

use rustix::mount::{MountFlags, mount, mount_remount};

use super::unsafe_resize;
use crate::error::GuestError;

/// The file system that the guest carries, compressed: the number of each block (32 bits, little-endian) and the block.
const SEED: &[u8] = include_bytes!("seed.zst");
/// How much of a disk it takes.
const SEED_BYTES: u64 = 16 << 20;
/// The size of its blocks.
const BLOCK_BYTES: usize = 4096;
/// The size of a block's number.
const NUMBER_BYTES: usize = size_of::<u32>();
/// The most blocks that the seed may hold: it has a dozen.
const SEED_BLOCKS_LIMIT: usize = 64;

/// As with any node's disk, a program in a volume may be one that changes its user. Devices are in a container's own
/// `/dev`. Nobody asks when something was last read.
const FLAGS: MountFlags = MountFlags::NOATIME.union(MountFlags::NODEV);
/// What is deleted is given back to whoever lends the disk. Nothing waits for the disk to have written: it ends with the
/// VM. After an error in its structure the file system only reads. Folders may have a limit.
const OPTIONS: &std::ffi::CStr = c"discard,nobarrier,errors=remount-ro,prjquota";

/// Tables of inodes need not be cleared, since none is read before it is used. With this option from the beginning, growing
/// would clear each; without it afterwards, the kernel would in the background.
const AFTERWARDS: &std::ffi::CStr = c"noinit_itable";

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
        .map_err(GuestError::file("grow the file system on", device))?;
    mount_remount(target, FLAGS, AFTERWARDS)
        .map_err(|error| GuestError::file("set options of the scratch disk", device)(error.into()))
}

/// Writes the seed to the beginning of a disk, and answers how large the disk is.
fn write_seed(mut disk: &File) -> io::Result<u64> {
    let size = disk.seek(SeekFrom::End(0))?;
    if size < SEED_BYTES {
        let problem = format!("it has {size} bytes, and {SEED_BYTES} are the least");
        return Err(io::Error::new(io::ErrorKind::StorageFull, problem));
    }
    // In all other blocks is nothing yet, and what the disk holds there does not matter: without looking, the file system
    // takes them for empty (`uninit_bg`).
    let seed = zstd::bulk::decompress(SEED, SEED_BLOCKS_LIMIT * (NUMBER_BYTES + BLOCK_BYTES))?;
    for entry in seed.chunks_exact(NUMBER_BYTES + BLOCK_BYTES) {
        let (number, block) = entry.split_at(NUMBER_BYTES);
        let number = u32::from_le_bytes(number.try_into().expect("it was split off at this length"));
        disk.write_all_at(block, u64::from(number) * BLOCK_BYTES as u64)?;
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
        let size = SEED_BYTES + BLOCK_BYTES as u64;
        io::copy(&mut io::repeat(0xA5).take(size), &mut disk).unwrap();
        assert_eq!(write_seed(disk.as_file()).unwrap(), size);
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
        disk.set_len(SEED_BYTES - 1).unwrap();
        let error = write_seed(&disk).unwrap_err().to_string();
        assert_eq!(error, "it has 16777215 bytes, and 16777216 are the least");
    }
}
