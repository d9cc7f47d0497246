//! The request by which the kernel learns of a partition that no table on the disk names.
#![allow(unsafe_code)]

use std::{ffi::c_void, fs::File, io, os::fd::AsFd};

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// `BLKPG` and its operation, from linux/blkpg.h.
const BLKPG: Opcode = opcode::none(0x12, 105);
const ADD_PARTITION: i32 = 1;
const NAME_BYTES: usize = 64;

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct Request {
    operation: i32,
    flags: i32,
    data_bytes: i32,
    data: *mut c_void,
}

/// `struct blkpg_partition`; the kernel ignores the names.
#[repr(C)]
struct Partition {
    start_bytes: i64,
    length_bytes: i64,
    number: i32,
    device_name: [u8; NAME_BYTES],
    volume_name: [u8; NAME_BYTES],
}

/// Tells the kernel that `length_bytes` from `start_bytes` on are the partition `number` of `disk`. Nothing is written to
/// the disk. Both are whole sectors; what another partition has is refused.
pub(super) fn add(disk: &File, number: i32, start_bytes: i64, length_bytes: i64) -> io::Result<()> {
    let mut partition = Partition {
        start_bytes,
        length_bytes,
        number,
        device_name: [0; NAME_BYTES],
        volume_name: [0; NAME_BYTES],
    };
    let mut request = Request {
        operation: ADD_PARTITION,
        flags: 0,
        data_bytes: i32::try_from(size_of::<Partition>()).expect("it has a few dozen bytes"),
        data: (&raw mut partition).cast(),
    };
    // SAFETY: BLKPG reads one `Request`, and of its `data` one `Partition`, both of which live until the call returns, and
    // keeps no reference to either. Files that are no disk do not know the request.
    unsafe { ioctl(disk.as_fd(), Updater::<BLKPG, Request>::new(&mut request)) }?;
    Ok(())
}
