//! What the adaptor adds to a launch on EC2: `crates/adaptor/benches/launch.rs`, on EC2's emulator.

use anyhow::Result;
use serde::Deserialize;

use super::{
    context::Context,
    figures::figures,
    row::{Goal, Row, Unit},
    samples::Samples,
};
use crate::{process::cargo, tools};

/// What is aimed at, of the slowest of a hundred.
const GOAL_MILLISECONDS: f64 = 20.0;
/// Enough for a percentile; few where only the way is tried.
const PODS: usize = 100;
const FEW_PODS: usize = 5;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    median_milliseconds: f64,
    p99_milliseconds: f64,
}

/// A hundred pods, one a second.
pub(super) fn measure(context: &Context) -> Result<Vec<Row>> {
    let pods = context.samples(PODS, FEW_PODS).to_string();
    context.say(&format!("launch: {pods} pods, one a second, on EC2's emulator"));
    let bench = [
        "bench",
        "--quiet",
        "--offline",
        "--package",
        "peerpods-adaptor",
        "--bench",
        "launch",
        "--profile",
        context.profile.name(),
        "--",
        pods.as_str(),
    ];
    let measured: Measured = figures(cargo(&bench).env("PEERPODS_TEST_MOTO", tools::moto()?))?;
    let row = |name, what, value| Row::new(name, what, Unit::Milliseconds, Samples::one(value));
    Ok(vec![
        row(
            "launch-own-p99",
            "adaptor: from CreateVM to EC2's launch call, p99",
            measured.p99_milliseconds,
        )
        .goal(Goal::AtMost(GOAL_MILLISECONDS)),
        row(
            "launch-own-median",
            "the same, median",
            measured.median_milliseconds,
        ),
    ])
}
