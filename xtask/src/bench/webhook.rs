//! The webhook under a steady load: `crates/webhook/benches/reviews.rs`, and what its program weighs.

use anyhow::Result;
use serde::Deserialize;

use super::{
    context::Context,
    figures::figures,
    row::{Goal, Row, Unit},
    samples::Samples,
};
use crate::process::cargo;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    reviews_per_second: f64,
    inside_p99_milliseconds: f64,
    round_trip_p99_milliseconds: f64,
    resident_mebibytes: f64,
    core_percent: f64,
}

/// Ten seconds at 1,000 reviews a second.
pub(super) fn measure(context: &Context) -> Result<Vec<Row>> {
    context.say("webhook: 1,000 reviews a second for 10 s");
    let bench = [
        "bench",
        "--quiet",
        "--offline",
        "--package",
        "peerpods-webhook",
        "--bench",
        "reviews",
    ];
    let measured: Measured = figures(cargo(&bench).args(["--profile", context.profile.name()]))?;
    let row =
        |name, what: &str, unit, value, goal| Row::new(name, what, unit, Samples::one(value)).goal(goal);
    let rate = format!(
        "webhook: a review at {:.0}/s, inside, p99 at most",
        measured.reviews_per_second
    );
    Ok(vec![
        row(
            "webhook-review-p99",
            &rate,
            Unit::Milliseconds,
            measured.inside_p99_milliseconds,
            Goal::AtMost(1.0),
        ),
        row(
            "webhook-round-trip-p99",
            "the same over TLS, as the client sees it",
            Unit::Milliseconds,
            measured.round_trip_p99_milliseconds,
            Goal::None,
        ),
        row(
            "webhook-core",
            "the same, of one core",
            Unit::Percent,
            measured.core_percent,
            Goal::AtMost(100.0),
        ),
        row(
            "webhook-resident",
            "webhook, resident after it",
            Unit::Mebibytes,
            measured.resident_mebibytes,
            Goal::AtMost(12.0),
        ),
    ])
}
