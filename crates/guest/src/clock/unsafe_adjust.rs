//! Requests to the kernel about its clock, for which there is no safe wrapper.
#![allow(unsafe_code)]

use std::{io, mem::MaybeUninit};

use super::{LATER_LIMIT, Reading};

/// The exponent of the time constant of the kernel's phase-locked loop that fits one look a minute: it takes 16 s for
/// most of what the clock is off, and learns the oscillator's rate within some looks.
const TIME_CONSTANT: libc::c_long = 2;
const NANOSECONDS: i64 = 1_000_000_000;

/// Moves the clock by so many nanoseconds, at once.
///
/// Needs CAP_SYS_TIME.
pub(super) fn jump(nanoseconds: i64) -> io::Result<()> {
    adjust(|request| {
        request.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
        request.time.tv_sec = nanoseconds.div_euclid(NANOSECONDS);
        request.time.tv_usec = nanoseconds.rem_euclid(NANOSECONDS);
    })
}

/// Lets the clock make up for what it is off, half a second at most, by going faster or slower.
///
/// Needs CAP_SYS_TIME.
pub(super) fn steer(reading: Reading) -> io::Result<()> {
    adjust(|request| {
        request.modes = libc::ADJ_OFFSET
            | libc::ADJ_NANO
            | libc::ADJ_STATUS
            | libc::ADJ_TIMECONST
            | libc::ADJ_MAXERROR
            | libc::ADJ_ESTERROR;
        request.offset = reading.behind_nanoseconds;
        request.status = libc::STA_PLL;
        if reading.error > LATER_LIMIT {
            // The kernel writes a clock that is called synchronized to the hardware clock, where this one is from.
            request.status |= libc::STA_UNSYNC;
        }
        request.constant = TIME_CONSTANT;
        // It has at most half a second, which is far below what the type holds.
        let microseconds = libc::c_long::try_from(reading.error.as_micros()).unwrap_or(libc::c_long::MAX);
        request.maxerror = microseconds;
        request.esterror = microseconds;
    })
}

fn adjust(fill: impl FnOnce(&mut libc::timex)) -> io::Result<()> {
    // SAFETY: every field of `struct timex` is a number, of which all zeros are one.
    let mut request: libc::timex = unsafe { MaybeUninit::zeroed().assume_init() };
    fill(&mut request);
    // SAFETY: the kernel reads and writes one `struct timex`, and keeps no reference to it.
    match unsafe { libc::adjtimex(&raw mut request) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
