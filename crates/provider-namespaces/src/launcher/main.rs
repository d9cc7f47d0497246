//! `peerpods-namespaces-launcher`: from a directory with an order to a guest in namespaces of its own.
//!
//! It is a program of its own because it leaves namespaces, which a process with threads must not, and because its
//! first child is the first process of the new pid namespace. It ends once that child runs. Until then it holds its
//! standard input, the lock over all launches.

mod error;
mod network;
mod root;
mod unsafe_leave;

use std::{
    fs::{self, OpenOptions},
    process::{Command, ExitCode, Stdio},
};

use peerpods_provider_namespaces::{CONSOLE, LaunchOrder, ORDER};

use self::error::LaunchError;

fn main() -> ExitCode {
    match launch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", peerpods_error::chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn launch() -> Result<(), LaunchError> {
    let text = fs::read(ORDER).map_err(LaunchError::file("read", ORDER))?;
    let order: LaunchOrder = serde_json::from_slice(&text).map_err(LaunchError::Order)?;
    // Signals to the adaptor's process group are not for the guest.
    rustix::process::setsid().map_err(LaunchError::system("leave the session"))?;
    let members = order.cgroup.join("cgroup.procs");
    fs::write(&members, "0").map_err(LaunchError::file("enter", members))?;

    network::enter_connected_namespace(&order)?;
    let root = root::build(&order)?;
    // From here on the instance counts as started.
    let console = OpenOptions::new().create(true).append(true).open(CONSOLE);
    let console = console.map_err(LaunchError::file("open", CONSOLE))?;
    let errors = console.try_clone().map_err(LaunchError::file("share", CONSOLE))?;
    root.enter()?;
    Command::new(root::GUEST)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(console)
        .stderr(errors)
        .spawn()
        .map(drop)
        .map_err(LaunchError::file("run", order.guest))
}
