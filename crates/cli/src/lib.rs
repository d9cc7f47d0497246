//! `peerpodctl`: what an administrator of peer pods does from a command line.
//!
//! One module per group of commands, and in it one file per command: its arguments, with the words of its help, and what it
//! does. Results go to standard output, as text for people or as JSON for scripts ([`Report`](output::Report)); all else, such
//! as progress, to standard error.

mod aws;
mod completion;
mod image;
mod output;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use self::output::Format;

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
    /// Prints a script by which a shell completes this program's arguments.
    Completion(completion::Arguments),
}

/// Runs the program.
pub fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Image(command) => image::run(command, arguments.output),
        Command::Completion(arguments) => {
            completion::run(&arguments);
            Ok(())
        }
    }
}
