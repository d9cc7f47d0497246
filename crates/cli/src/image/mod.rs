//! `peerpodctl image`: from a kernel and the guest program to what VMs boot.

mod build;
mod prune;
mod publish;
mod published;

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::output::Format;

/// The disk in a folder that `image build` made.
const DISK: &str = "disk.raw";
/// The same disk, packed.
const PACKED_DISK: &str = "disk.raw.gz";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Builds kernel, initrd and disk: the same bytes from the same inputs.
    Build(build::Arguments),
    /// Publishes a disk as an image in EC2.
    Publish(publish::Arguments),
    /// Lists the images that were published, the newest first.
    List(published::Arguments),
    /// Removes old images that were published.
    Prune(prune::Arguments),
}

pub(crate) fn run(command: Command, format: Format) -> Result<()> {
    match command {
        Command::Build(arguments) => build::run(arguments, format),
        Command::Publish(arguments) => wait(publish::run(arguments, format)),
        Command::List(arguments) => wait(published::run(arguments, format)),
        Command::Prune(arguments) => wait(prune::run(arguments, format)),
    }
}

fn wait(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start")?.block_on(work)
}
