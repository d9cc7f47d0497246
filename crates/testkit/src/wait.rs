//! Waiting for a condition, never for a time.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

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
