//! The machine's hardware clock, which goes on while a VM is saved, and follows the node's under QEMU.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::Reading;
use crate::error::GuestError;

/// In seconds since 1970.
const HARDWARE_CLOCK: &str = "/sys/class/rtc/rtc0/since_epoch";
const NANOSECONDS: i128 = 1_000_000_000;

/// What it says.
pub(crate) fn seconds() -> Result<i64, GuestError> {
    let text = fs::read_to_string(HARDWARE_CLOCK).map_err(GuestError::file("read", HARDWARE_CLOCK))?;
    text.trim().parse().map_err(|_| GuestError::Invalid {
        field: "hardware clock",
        problem: format!("{text:?} is no number of seconds"),
    })
}

/// How far this machine's clock is from what the hardware clock can mean.
pub(super) fn measure() -> Result<Reading, GuestError> {
    let seconds = seconds()?;
    let own = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(compare(seconds, own))
}

/// QEMU's clock takes its first second from the node and forgets the part of it that had passed. So it is up to a second
/// behind, and what it says is up to another one old: any time of these two seconds may be the right one.
fn compare(seconds: i64, own: Duration) -> Reading {
    let own = i128::try_from(own.as_nanos()).unwrap_or(i128::MAX);
    let earliest = i128::from(seconds) * NANOSECONDS;
    let behind = (earliest - own).max(0) - (own - (earliest + 2 * NANOSECONDS)).max(0);
    Reading {
        behind_nanoseconds: i64::try_from(behind).unwrap_or(if behind < 0 { i64::MIN } else { i64::MAX }),
        error: Duration::from_secs(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_time_that_the_hardware_clock_can_mean_is_right() {
        for (own_milliseconds, behind_milliseconds) in [
            (99_000, 1000),
            (99_999, 1),
            (100_000, 0),
            (101_999, 0),
            (102_000, 0),
            (102_001, -1),
            (3_700_000, -3_598_000),
        ] {
            let found = compare(100, Duration::from_millis(own_milliseconds));
            assert_eq!(
                found.behind_nanoseconds,
                behind_milliseconds * 1_000_000,
                "{own_milliseconds}"
            );
        }
    }
}
