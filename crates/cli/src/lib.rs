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

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::output::Format;

/// The name by which kubectl finds the program.
const PLUGIN: &str = "kubectl-peerpods";
/// The name by which kubectl finds what completes the program's arguments.
const PLUGIN_COMPLETION: &str = "kubectl_complete-peerpods";
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

/// By which of its names the program was called.
#[derive(Clone, Copy)]
enum Called {
    Program,
    Plugin,
    PluginCompletion,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let called = called();
    let outcome = match called {
        Called::Program | Called::Plugin => run(parse(called), called),
        Called::PluginCompletion => {
            let answered = completion::kubectl::answer(command(called), std::env::args_os().collect());
            answered.context("cannot print completions")
        }
    };
    match outcome {
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
fn parse(called: Called) -> Arguments {
    let matches = command(called).get_matches();
    Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn called() -> Called {
    let path = std::env::args_os().next().map(PathBuf::from);
    let name = path.as_deref().and_then(Path::file_name);
    if name.is_some_and(|name| name == PLUGIN) {
        Called::Plugin
    } else if name.is_some_and(|name| name == PLUGIN_COMPLETION) {
        Called::PluginCompletion
    } else {
        Called::Program
    }
}

/// The program, by the name under which it was called: kubectl finds `kubectl-peerpods`, and people then type
/// `kubectl peerpods`.
fn command(called: Called) -> clap::Command {
    match called {
        Called::Program => Arguments::command(),
        Called::Plugin | Called::PluginCompletion => {
            Arguments::command().name(PLUGIN).bin_name("kubectl peerpods")
        }
    }
}

fn run(arguments: Arguments, called: Called) -> Result<()> {
    match arguments.command {
        Command::Image(command) => image::run(command, arguments.output),
        Command::Cluster(command) => cluster::run(command, arguments.output),
        Command::Completion(arguments) => {
            completion::run(&arguments, command(called));
            Ok(())
        }
    }
}
