//! The guest's own part of a boot, which it tells on its console.

use std::time::Duration;

use anyhow::{Context as _, Result};

const BEFORE: &str = "the agent answers ";
const AFTER: &str = " ms after the kernel handed over";

/// From the kernel's hand-over to an agent that answers.
pub(super) fn time(console: &str) -> Result<Duration> {
    let found = console
        .lines()
        .find_map(|line| Some(line.split_once(BEFORE)?.1.split_once(AFTER)?.0));
    let milliseconds = found.and_then(|number| number.parse().ok());
    milliseconds
        .map(Duration::from_millis)
        .with_context(|| format!("the console does not tell when the agent answers:\n{console}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_on_the_console() {
        let console = " INFO peerpods_guest::life: the agent answers 412 ms after the kernel handed over\r\n";
        assert_eq!(time(console).unwrap(), Duration::from_millis(412));
        assert!(time("something else").is_err());
    }
}
