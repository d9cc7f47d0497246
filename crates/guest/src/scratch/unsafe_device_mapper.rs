//! Requests to the kernel's device mapper, for which there are no safe wrappers.
#![allow(unsafe_code)]

use std::{fs::File, io, os::fd::AsFd};

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use zeroize::Zeroize;

/// `struct dm_ioctl` of the kernel's `include/uapi/linux/dm-ioctl.h`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    version: [u32; 3],
    data_bytes: u32,
    data_start: u32,
    targets: u32,
    open_count: i32,
    flags: u32,
    event: u32,
    padding: u32,
    device: u64,
    name: [u8; NAME_BYTES],
    uuid: [u8; 129],
    data: [u8; 7],
}

/// `struct dm_target_spec`, and what follows it.
#[repr(C)]
struct Table {
    header: Header,
    start_sector: u64,
    sectors: u64,
    status: i32,
    next: u32,
    target: [u8; TARGET_BYTES],
    parameters: [u8; PARAMETERS_BYTES],
}

const NAME_BYTES: usize = 128;
const TARGET_BYTES: usize = 16;
/// More than the parameters of any target of ours.
const PARAMETERS_BYTES: usize = 512;

const VERSION: [u32; 3] = [4, 0, 0];
const DM_DEV_CREATE: Opcode = opcode::read_write::<Header>(0xfd, 3);
const DM_DEV_SUSPEND: Opcode = opcode::read_write::<Header>(0xfd, 6);
const DM_TABLE_LOAD: Opcode = opcode::read_write::<Header>(0xfd, 9);
/// The kernel wipes its copies of the request.
const DM_SECURE_DATA_FLAG: u32 = 1 << 15;

/// A device of the mapper's that has no table yet, as the kernel numbers it.
pub(super) struct Mapped {
    header: Header,
    /// The kernel's number of the device.
    pub(super) number: u64,
}

/// Makes a device that is called `name`.
pub(super) fn create(control: &File, name: &str) -> io::Result<Mapped> {
    let mut header = Header {
        version: VERSION,
        data_bytes: bytes_of::<Header>(),
        data_start: bytes_of::<Header>(),
        targets: 0,
        open_count: 0,
        flags: 0,
        event: 0,
        padding: 0,
        device: 0,
        name: [0; NAME_BYTES],
        uuid: [0; 129],
        data: [0; 7],
    };
    copy_text(&mut header.name, name)?;
    let mut answer = header;
    // SAFETY: DM_DEV_CREATE reads and writes `data_bytes` bytes from the pointer on, which is one `Header`, and keeps no
    // reference to it. Files that are not the mapper's do not know the request.
    unsafe {
        ioctl(
            control.as_fd(),
            Updater::<DM_DEV_CREATE, Header>::new(&mut answer),
        )
    }?;
    Ok(Mapped {
        header,
        number: answer.device,
    })
}

/// Lets the whole of `device` be `sectors` of the target `target`, from now on.
pub(super) fn activate(
    control: &File,
    device: &Mapped,
    sectors: u64,
    target: &str,
    parameters: &str,
) -> io::Result<()> {
    let mut table = Table {
        header: Header {
            data_bytes: bytes_of::<Table>(),
            targets: 1,
            flags: DM_SECURE_DATA_FLAG,
            ..device.header
        },
        start_sector: 0,
        sectors,
        status: 0,
        next: bytes_of::<Table>() - bytes_of::<Header>(),
        target: [0; TARGET_BYTES],
        parameters: [0; PARAMETERS_BYTES],
    };
    copy_text(&mut table.target, target)?;
    copy_text(&mut table.parameters, parameters)?;
    // SAFETY: DM_TABLE_LOAD reads and writes no more than `data_bytes` bytes from the pointer on, which is one `Table`, and
    // keeps no reference to it; `data_start` and `next` are offsets within it, and its texts end with NULs.
    let loaded = unsafe { ioctl(control.as_fd(), Updater::<DM_TABLE_LOAD, Table>::new(&mut table)) };
    table.parameters.zeroize();
    loaded?;
    let mut resume = device.header;
    // SAFETY: as above, for DM_DEV_SUSPEND and one `Header`.
    unsafe {
        ioctl(
            control.as_fd(),
            Updater::<DM_DEV_SUSPEND, Header>::new(&mut resume),
        )
    }?;
    Ok(())
}

fn bytes_of<T>() -> u32 {
    u32::try_from(size_of::<T>()).expect("a request has a few hundred bytes")
}

/// Copies a text with at least one NUL behind it.
fn copy_text(to: &mut [u8], text: &str) -> io::Result<()> {
    if text.len() >= to.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    to[..text.len()].copy_from_slice(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::{DM_DEV_CREATE, DM_TABLE_LOAD, Header, Table, copy_text};

    #[test]
    fn structures_and_numbers_are_the_kernels() {
        assert_eq!((size_of::<Header>(), size_of::<Table>()), (312, 312 + 40 + 512));
        assert_eq!((offset_of!(Header, device), offset_of!(Header, name)), (40, 48));
        assert_eq!(offset_of!(Table, parameters), 312 + 40);
        assert_eq!((DM_DEV_CREATE, DM_TABLE_LOAD), (0xC138_FD03, 0xC138_FD09));
    }

    #[test]
    fn a_text_that_does_not_fit_with_its_end_is_refused() {
        let mut to = [0; 4];
        copy_text(&mut to, "abc").unwrap();
        copy_text(&mut to, "abcd").unwrap_err();
    }
}
