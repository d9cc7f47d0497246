//! What is done of the start, for `up` to show.

use std::{io::Write, time::Instant};

use anyhow::{Context, Result};

use super::supervisor::append;
use crate::testbed::layout::State;

/// Runs a step of the start, and notes how long it took.
pub(super) fn step<T>(state: &State, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let result = work().with_context(|| name.to_owned())?;
    say(
        state,
        &format!("{:>5.1} s  {name}", start.elapsed().as_secs_f64()),
    )?;
    Ok(result)
}

/// Notes one line.
pub(super) fn say(state: &State, line: &str) -> Result<()> {
    append(&state.progress())?
        .write_all(format!("{line}\n").as_bytes())
        .context("cannot note progress")
}
