//! Results, for people or for scripts.

use std::io::Write;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;

/// What results are printed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Lines for people, which may change between versions.
    Text,
    /// One JSON document, whose fields stay.
    Json,
}

/// A command's result.
pub(crate) trait Report: Serialize {
    /// The lines for people.
    fn text(&self) -> String;
}

/// Prints a result to standard output.
pub(crate) fn print(format: Format, report: &impl Report) -> Result<()> {
    let text = match format {
        Format::Text => report.text(),
        Format::Json => serde_json::to_string_pretty(report).context("cannot write the result as JSON")?,
    };
    writeln!(std::io::stdout(), "{}", text.trim_end()).context("cannot print the result")
}
