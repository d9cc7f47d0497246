//! The shim of a peer pod: containerd (or CRI-O) starts one per pod, and it speaks to the agent in the
//! pod's virtual machine.
//!
//! ```text
//! containerd ── task API (ttrpc) ──► service ─► shim ─┬─► sandbox ── hypervisor protocol ──► adaptor
//!            ◄── events ───────────  events           └─► container, process ── agent protocol ──► VM
//!            ◄── fifos ────────────  streams ◄────────────────┘
//! port-forward ── pod's loopback ──► forward ── forward protocol ─────────────────────────────────► VM
//! ```
//!
//! `bootstrap` and `cleanup` are the short-lived runs (`start`, `delete`); `daemon` is the one that stays.

mod agent;
mod annotations;
mod bootstrap;
mod cleanup;
mod command_line;
mod container;
mod creations;
mod credentials;
mod daemon;
mod error;
mod events;
mod files;
mod forward;
mod hypervisor;
mod info;
mod limits;
mod log;
mod mounts;
mod number;
mod process;
mod resolver;
mod sandbox;
mod service;
mod shim;
mod spec;
mod stats;
mod streams;
mod timeline;
mod transport;
mod unsafe_register;
mod usage;
mod watch;

use std::process::ExitCode;

use command_line::{Action, CommandLine};

/// Exit status for a command line that makes no sense.
const USAGE: u8 = 64;

/// Runs the program with the arguments and the environment of this process.
pub fn run() -> ExitCode {
    let command = match CommandLine::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(problem) => {
            eprintln!("containerd-shim-kata-v2: {problem}\n\n{}", command_line::HELP);
            return ExitCode::from(USAGE);
        }
    };
    let result = match &command.action {
        Action::Help => {
            println!("{}", command_line::HELP);
            Ok(())
        }
        Action::Version => {
            println!(
                "containerd-shim-kata-v2 (peer pods) {}",
                env!("CARGO_PKG_VERSION")
            );
            Ok(())
        }
        Action::Info => info::print(),
        Action::Start => bootstrap::start(&command),
        Action::Delete => cleanup::delete(&command),
        Action::Serve => daemon::serve(&command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // containerd makes this the reason why the pod did not start.
            eprintln!("containerd-shim-kata-v2: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}
