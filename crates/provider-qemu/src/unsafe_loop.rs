//! The two requests to the kernel's loop driver, for which there is no safe wrapper.
#![allow(unsafe_code)]

use std::{
    ffi::c_void,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd},
};

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Setter, ioctl};

/// `LOOP_CTL_GET_FREE`, from `linux/loop.h`: no argument; the answer is the number of a device that is not in use.
const LOOP_CTL_GET_FREE: Opcode = 0x4C82;
/// `LOOP_CONFIGURE`, from `linux/loop.h`: takes a `struct loop_config`.
const LOOP_CONFIGURE: Opcode = 0x4C0A;
/// The device lets go of its file when nobody has it open any more.
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_config`, with `struct loop_info64` in its place.
#[repr(C)]
#[derive(Default)]
struct Configuration {
    file: u32,
    block_size: u32,
    identity: [u64; 3],
    offset: u64,
    size_limit: u64,
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    names: [[u64; 8]; 2],
    key: [u64; 4],
    initial: [u64; 2],
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Configuration>() == 304, "what linux/loop.h declares");

/// The number of a loop device that nobody uses, made where there is none. Somebody else may take it first.
pub(crate) fn free_device(control: &File) -> io::Result<u32> {
    struct GetFree;
    // SAFETY: the request takes no argument and touches no memory of ours; its output is what the kernel returns.
    unsafe impl Ioctl for GetFree {
        type Output = u32;
        const IS_MUTATING: bool = false;

        fn opcode(&self) -> Opcode {
            LOOP_CTL_GET_FREE
        }

        fn as_ptr(&mut self) -> *mut c_void {
            std::ptr::null_mut()
        }

        unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> rustix::io::Result<u32> {
            u32::try_from(output).map_err(|_| rustix::io::Errno::RANGE)
        }
    }
    // SAFETY: the opcode is the loop driver's, which on any other device is an error and nothing else.
    Ok(unsafe { ioctl(control.as_fd(), GetFree) }?)
}

/// Puts `backing` behind a loop device, until the device's last descriptor is closed.
///
/// An error of kind `ResourceBusy` says that somebody else took the device first.
pub(crate) fn configure(device: &File, backing: &File) -> io::Result<()> {
    let configuration = Configuration {
        file: u32::try_from(backing.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?,
        flags: LO_FLAGS_AUTOCLEAR,
        ..Configuration::default()
    };
    // SAFETY: LOOP_CONFIGURE reads one `struct loop_config` (304 bytes, which `Configuration` is, field by field) from
    // the pointer that `Setter` passes, and keeps no reference to it; of the file it takes a reference of its own.
    unsafe {
        ioctl(
            device.as_fd(),
            Setter::<LOOP_CONFIGURE, Configuration>::new(configuration),
        )
    }?;
    Ok(())
}
