//! `peerpodctl`: what an administrator of peer pods does from a command line.
//!
//! One module per group of commands, and in it one file per command: its arguments, with the words of its help, and what it
//! does. Results go to standard output, as text for people or as JSON for scripts ([`Report`](output::Report)); all else, such
//! as progress, to standard error.

mod aws;
mod cluster;
mod completion;
mod image;
mod output;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::output::Format;

/// The name by which kubectl finds the program.
const PLUGIN: &str = "kubectl-peerpods";
/// What shells tell of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Builds, publishes and inspects what peer pods are made of.
#[derive(Parser)]
#[command(name = "peerpodctl", version, max_term_width = 100)]
struct Arguments {
    /// What results are printed as.
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// VM images: kernel, initrd, and the disk that EC2 boots.
    #[command(subcommand)]
    Image(image::Command),
    #[command(flatten)]
    Cluster(cluster::Command),
    /// Prints a script by which a shell completes this program's arguments.
    Completion(completion::Arguments),
}

/// Runs the program.
pub fn main() -> ExitCode {
    match run(parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<cluster::Interrupted>() => {
            eprintln!("{error}");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The arguments, and the program's name in what it says of itself: that under which it was called.
fn parse() -> Arguments {
    let matches = command().get_matches();
    Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// The program, by the name under which it was called: kubectl finds `kubectl-peerpods`, and people then type
/// `kubectl peerpods`.
fn command() -> clap::Command {
    let called = std::env::args_os().next().map(PathBuf::from);
    let is_plugin = called.is_some_and(|path| path.file_name().is_some_and(|name| name == PLUGIN));
    if is_plugin {
        Arguments::command().name(PLUGIN).bin_name("kubectl peerpods")
    } else {
        Arguments::command()
    }
}

fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Image(command) => image::run(command, arguments.output),
        Command::Cluster(command) => cluster::run(command, arguments.output),
        Command::Completion(arguments) => {
            completion::run(&arguments);
            Ok(())
        }
    }
}
