//! What a benchmark of a crate of ours prints.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;

use crate::process::output;

/// Runs it to its end, and reads its figures: its last line, in JSON.
pub(super) fn figures<Measured: DeserializeOwned>(bench: &mut Command) -> Result<Measured> {
    let printed = output(bench)?;
    let last = printed.lines().last().context("the benchmark printed nothing")?;
    serde_json::from_str(last).context("the benchmark did not print its figures")
}
