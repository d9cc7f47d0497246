//! What peer pods a cluster has, and how they are: `list`, `describe`, `top`, `collect`.
//!
//! All of it only reads. The program is `kubectl-peerpods` as well, so that kubectl finds it: `kubectl peerpods list`.

mod collect;
mod connection;
mod describe;
mod list;
mod machine;
mod table;
mod top;
mod usage;

use std::fmt;

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::output::Format;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lists peer pods and their VMs.
    List(list::Arguments),
    /// Shows one peer pod's VM: how its start went, its events, and what its node has.
    Describe(describe::Arguments),
    /// Shows what nodes have and give, and what VMs use.
    Top(top::Arguments),
    /// Gathers what support asks for in one archive, without credentials.
    Collect(collect::Arguments),
}

/// Somebody pressed Ctrl-C.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("interrupted: nothing was left behind")
    }
}

impl std::error::Error for Interrupted {}

pub(crate) fn run(command: Command, format: Format) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start")?.block_on(async {
        let work = async {
            match command {
                Command::List(arguments) => list::run(arguments, format).await,
                Command::Describe(arguments) => describe::run(arguments, format).await,
                Command::Top(arguments) => top::run(arguments, format).await,
                Command::Collect(arguments) => collect::run(arguments, format).await,
            }
        };
        tokio::select! {
            // First, so that it is listened for before anything is begun.
            biased;
            _ = tokio::signal::ctrl_c() => Err(Interrupted.into()),
            outcome = work => outcome,
        }
    })
}
