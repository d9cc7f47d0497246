//! The one request to the kernel's random number generator that has no safe wrapper.
#![allow(unsafe_code)]

use std::{fs::File, io};

use rustix::{
    io::Errno,
    ioctl::{NoArg, ioctl, opcode},
};

/// `RNDRESEEDCRNG` of linux/random.h.
const RESEED: rustix::ioctl::Opcode = opcode::none(b'R', 7);

/// Lets the generator behind `random` go on from what was written to it, at once and on all CPUs. One that was never
/// seeded takes what was written when it is.
pub(super) fn reseed(random: &File) -> io::Result<()> {
    // SAFETY: RNDRESEEDCRNG takes no argument, and reads and writes no memory of this process.
    match unsafe { ioctl(random, NoArg::<RESEED>::new()) } {
        Ok(()) | Err(Errno::NODATA) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
