//! Waiting for a condition, never for a time.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use crate::Bed;

/// How often a condition is looked at: often enough that a test loses little, seldom enough that
/// looking does not slow down what it waits for.
const INTERVAL: Duration = Duration::from_millis(200);

/// Waits until `condition` gives a value; panics with `what` and the last state it described.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match condition() {
            Ok(value) => return value,
            Err(state) if start.elapsed() > limit => {
                panic!("waited {limit:?} for: {what}\nlast seen: {state}")
            }
            Err(_) => sleep(INTERVAL),
        }
    }
}

/// The kernel gives back a scratch disk when the last process that had it open has ended.
const DISK_LIMIT: Duration = Duration::from_secs(30);

/// Waits until the node has no scratch disk but those of VMs that run: the disks of VMs that ended are gone, with every
/// block of them.
#[track_caller]
pub fn wait_no_disk_without_machine(bed: &Bed) {
    wait_for("no scratch disk is left", DISK_LIMIT, || {
        let (disks, machines) = (bed.scratch_disks(), bed.machines());
        if disks <= machines {
            Ok(())
        } else {
            Err(format!("{disks} disks, {machines} VMs"))
        }
    });
}
