//! The guest's own part of a boot, which it tells on its console.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::{
    context::Context,
    figures::figures,
    row::{Row, Unit},
    samples::Samples,
};
use crate::{
    process::cargo,
    testbed::{firmware, image},
};

const BEFORE: &str = "the agent answers ";
const AFTER: &str = " ms after the kernel handed over";

/// What `crates/guest/benches/boot.rs` prints, an entry for each boot.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    kernel_milliseconds: Vec<u32>,
    guest_milliseconds: Vec<u32>,
}

/// The published disk, booted by UEFI with EC2's devices and services. Where both are emulated, the kernel's time says how slow the
/// processor is.
pub(super) fn ec2(context: &Context) -> Result<Vec<Row>> {
    let boots = context.samples(5, 1).to_string();
    context.say(&format!("boot-ec2: {boots} boots of the published disk"));
    let bench = [
        "bench",
        "--quiet",
        "--offline",
        "--package",
        "peerpods-guest",
        "--bench",
        "boot",
        "--",
        boots.as_str(),
    ];
    let mut bench = cargo(&bench);
    bench
        .env("PEERPODS_TEST_DISK", image().join("disk.raw"))
        .env("PEERPODS_TEST_FIRMWARE", firmware()?);
    let measured: Measured = figures(&mut bench)?;
    let (mut kernel, mut guest, mut share) = (Samples::default(), Samples::default(), Samples::default());
    for (of_kernel, of_guest) in measured
        .kernel_milliseconds
        .into_iter()
        .zip(measured.guest_milliseconds)
    {
        kernel.push(f64::from(of_kernel) / 1000.0);
        guest.push(f64::from(of_guest) / 1000.0);
        share.push(100.0 * f64::from(of_guest) / f64::from(of_kernel));
    }
    Ok(vec![
        Row::new(
            "boot-ec2",
            "guest on EC2's devices: kernel hands over -> agent answers",
            Unit::Seconds,
            guest,
        ),
        Row::new("boot-ec2-kernel", "the kernel before it", Unit::Seconds, kernel),
        Row::new(
            "boot-ec2-share",
            "the one as a part of the other",
            Unit::Percent,
            share,
        ),
    ])
}

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
