//! A scratch disk that only this VM can read: between disk and file system is the kernel's dm-crypt, with a key that is made
//! here and that nobody keeps but the kernel.
//!
//! The disk is as good as wiped when the VM ends, however it ends, and a copy of it (a snapshot, a block that another machine
//! is given) reads as noise. What it cannot hide is which blocks are in use: what is deleted is given back to whoever lends
//! the disk.

use std::{
    fmt::Write,
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::{major, minor};
use zeroize::Zeroizing;

use super::{disk::ScratchDevice, unsafe_device_mapper};
use crate::{boot, error::GuestError};

/// The kernel modules for it.
const MODULES: &str = "crypt";
/// Where the device mapper is asked.
const CONTROL: &str = "/dev/mapper/control";
const NAME: &str = "scratch";
const TARGET: &str = "crypt";
const CIPHER: &str = "aes-xts-plain64";
/// XTS takes two keys of AES-256.
const KEY_BYTES: usize = 64;
/// The file system's blocks are encrypted as wholes. Nobody else waits for the processor that works: no queues.
const OPTIONS: &str =
    "5 allow_discards no_read_workqueue no_write_workqueue sector_size:4096 iv_large_sectors";
const ENCRYPTED_SECTOR_BYTES: u64 = 4096;
/// The mapper counts in these.
const SECTOR_BYTES: u64 = 512;

/// Puts encryption over the device. What was found leads to it still, and the mapper would tell its key to root: both are
/// related.
pub(super) fn encrypt(found: ScratchDevice) -> Result<ScratchDevice, GuestError> {
    boot::load_modules(MODULES)?;
    let sectors = sectors(&found.device).map_err(GuestError::file("measure", &found.device))?;
    let metadata = fs::metadata(&found.device).map_err(GuestError::file("look at", &found.device))?;
    let parameters = parameters(&*new_key()?, major(metadata.rdev()), minor(metadata.rdev()));
    let control = OpenOptions::new().read(true).write(true).open(CONTROL);
    let control = control.map_err(GuestError::file("open", CONTROL))?;
    let mapped = unsafe_device_mapper::create(&control, NAME)
        .map_err(GuestError::file("make an encrypted device over", &found.device))?;
    unsafe_device_mapper::activate(&control, &mapped, sectors, TARGET, &parameters)
        .map_err(GuestError::file("encrypt", &found.device))?;
    let mut related = found.related;
    related.extend([found.device, PathBuf::from(CONTROL)]);
    Ok(ScratchDevice {
        device: Path::new("/dev").join(format!("dm-{}", minor(mapped.number))),
        related,
    })
}

/// The size of a disk, in whole encrypted sectors.
fn sectors(device: &Path) -> io::Result<u64> {
    let bytes = File::open(device)?.seek(SeekFrom::End(0))?;
    Ok(bytes / ENCRYPTED_SECTOR_BYTES * (ENCRYPTED_SECTOR_BYTES / SECTOR_BYTES))
}

fn new_key() -> Result<Zeroizing<[u8; KEY_BYTES]>, GuestError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    SystemRandom::new().fill(&mut *key).map_err(|_| {
        GuestError::system("make a key for the scratch disk")(io::Error::from(io::ErrorKind::Other))
    })?;
    Ok(key)
}

/// What dm-crypt is told, `<cipher> <key> <IV offset> <device> <start> <options>`.
fn parameters(key: &[u8; KEY_BYTES], major: u32, minor: u32) -> Zeroizing<String> {
    // Large enough from the beginning: a text that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(512));
    text.push_str(CIPHER);
    text.push(' ');
    for byte in key {
        write!(text, "{byte:02x}").expect("writing to memory does not fail");
    }
    write!(text, " 0 {major}:{minor} 0 {OPTIONS}").expect("writing to memory does not fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_told_cipher_key_and_device() {
        let text = parameters(&[0xa5; KEY_BYTES], 259, 2);
        let key = "a5".repeat(KEY_BYTES);
        assert_eq!(
            *text,
            format!(
                "aes-xts-plain64 {key} 0 259:2 0 5 allow_discards no_read_workqueue no_write_workqueue \
                 sector_size:4096 iv_large_sectors"
            )
        );
        assert_ne!(*new_key().unwrap(), *new_key().unwrap());
    }

    #[test]
    fn a_disk_is_used_in_whole_sectors_of_the_encryption() {
        let disk = tempfile::NamedTempFile::new().unwrap();
        disk.as_file().set_len(3 * 4096 + 512).unwrap();
        assert_eq!(sectors(disk.path()).unwrap(), 24);
    }
}
