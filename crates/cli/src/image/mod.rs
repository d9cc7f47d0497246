//! `peerpodctl image`: from a kernel and the guest program to what VMs boot.

mod build;

use anyhow::Result;
use clap::Subcommand;

use crate::output::Format;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Builds kernel, initrd and disk: the same bytes from the same inputs.
    Build(build::Arguments),
}

pub(crate) fn run(command: Command, format: Format) -> Result<()> {
    match command {
        Command::Build(arguments) => build::run(arguments, format),
    }
}
