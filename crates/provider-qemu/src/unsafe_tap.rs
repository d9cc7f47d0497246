//! The one system call of this crate that has no safe wrapper: it makes a tap device.
#![allow(unsafe_code)]

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::AsFd,
};

use rustix::ioctl::{Setter, ioctl, opcode};

/// The longest name of a network device, without the terminating zero.
const NAME_LIMIT: usize = 15;

/// Flags of `TUNSETIFF`, from `linux/if_tun.h`.
const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;
const IFF_TUN_EXCL: u16 = 0x8000;

/// `TUNSETIFF`, from `linux/if_tun.h`; declared there with an `int`, used with a `struct ifreq`.
const TUNSETIFF: rustix::ioctl::Opcode = opcode::write::<i32>(b'T', 202);

/// `struct ifreq`: a name, and a union whose largest member has 24 bytes.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; NAME_LIMIT + 1],
    flags: u16,
    padding: [u8; 22],
}

/// Makes the tap device `name` in the calling thread's network namespace. It lives as long as the file.
///
/// Virtio headers are on, so that checksums and segmentation are left to the last hop.
pub(crate) fn create(name: &str) -> io::Result<File> {
    if name.is_empty() || name.len() > NAME_LIMIT {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut request = InterfaceRequest {
        name: [0; NAME_LIMIT + 1],
        flags: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL,
        padding: [0; 22],
    };
    request.name[..name.len()].copy_from_slice(name.as_bytes());

    let device = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: TUNSETIFF reads one `struct ifreq` (40 bytes, which `InterfaceRequest` is, field by field)
    // from the pointer that `Setter` passes, and keeps no reference to it. The name ends with a zero byte,
    // as it is at most 15 of the 16 bytes long.
    unsafe {
        ioctl(
            device.as_fd(),
            Setter::<TUNSETIFF, InterfaceRequest>::new(request),
        )
    }?;
    Ok(device)
}
