//! ext4's request to grow, for which there is no safe wrapper.
#![allow(unsafe_code)]

use std::{fs::File, io, os::fd::AsFd};

use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

/// `EXT4_IOC_RESIZE_FS`, from the kernel's `fs/ext4/ext4.h`.
const EXT4_IOC_RESIZE_FS: Opcode = opcode::write::<u64>(b'f', 16);

/// Grows the mounted ext4 file system that `file` is on to `blocks` of its blocks; returns when it has grown.
///
/// Needs CAP_SYS_RESOURCE.
pub(super) fn grow(file: &File, blocks: u64) -> io::Result<()> {
    // SAFETY: EXT4_IOC_RESIZE_FS reads one `u64` from the pointer that `Setter` passes, and keeps no reference to it.
    // Other file systems do not know the request.
    unsafe { ioctl(file.as_fd(), Setter::<EXT4_IOC_RESIZE_FS, u64>::new(blocks)) }?;
    Ok(())
}
