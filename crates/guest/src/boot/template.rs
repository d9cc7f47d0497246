//! A VM that is saved once and resumed many times: it waits, ready for everything, before it knows anything.
//!
//! The provider boots it with an empty network item, saves it as it waits here, and resumes copies with other items. Up to
//! this point nothing of this program or of the kernel's network has been used that could tell one VM from another: no
//! key was made, no connection opened, no disk written, and `boot_id` is made when it is first read. What a copy does
//! have of the template is the state of the kernel's random number generator, and a clock that stood still. Both are put
//! right here, and then the program starts anew: with a memory layout, hash keys and stack guards of its own.

use std::{
    fs::File,
    io::Write,
    os::unix::process::CommandExt,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, Timespec, clock_settime};

use super::{Platform, platform::HandedOver, unsafe_reseed};
use crate::{clock::hardware, error::GuestError};

/// Tells the program that it goes on in a copy of a saved VM.
pub(crate) const RESUMED_ARGUMENT: &str = "resumed";

/// The provider waits for this line on the console.
const READY: &str = "this VM can be saved";
/// How often it looks whether it is a copy already: the pod is waiting.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// A template that nobody saves ends itself: its launcher has died. Saved it is seconds after it was ready, and in a copy
/// time goes on from there.
const SAVE_LIMIT: Duration = Duration::from_secs(120);

const RANDOM: &str = "/dev/urandom";
const RANDOM_BYTES: usize = 64;
const PROGRAM: &str = "/proc/self/exe";

/// Returns at once in a VM that is somebody's. In a template it never returns: its copies start this program anew.
pub(crate) fn hold(platform: Platform) -> Result<(), GuestError> {
    let Some(files) = platform.files() else {
        return Ok(());
    };
    if files.has_identity()? {
        return Ok(());
    }
    tracing::info!("{READY}");
    let start = Instant::now();
    while !files.has_identity()? {
        if start.elapsed() > SAVE_LIMIT {
            return Err(GuestError::NotSaved(SAVE_LIMIT));
        }
        sleep(LOOK_INTERVAL);
    }
    renew_randomness(files)?;
    set_clock()?;
    let error = Command::new(PROGRAM).arg(RESUMED_ARGUMENT).exec();
    Err(GuestError::file("start anew as", PROGRAM)(error))
}

/// The kernel's generator goes on from what the provider gave this copy alone.
fn renew_randomness(files: HandedOver) -> Result<(), GuestError> {
    let entropy = files.entropy()?;
    if entropy.len() < RANDOM_BYTES {
        return Err(GuestError::Invalid {
            field: "entropy",
            problem: format!("{} bytes are no {RANDOM_BYTES}", entropy.len()),
        });
    }
    let mut random = File::options()
        .write(true)
        .open(RANDOM)
        .map_err(GuestError::file("open", RANDOM))?;
    random
        .write_all(&entropy)
        .map_err(GuestError::file("write", RANDOM))?;
    unsafe_reseed::reseed(&random).map_err(GuestError::file("reseed", RANDOM))
}

fn set_clock() -> Result<(), GuestError> {
    let now = Timespec {
        tv_sec: hardware::seconds()?,
        tv_nsec: 0,
    };
    clock_settime(ClockId::Realtime, now).map_err(GuestError::system("set the clock"))
}
