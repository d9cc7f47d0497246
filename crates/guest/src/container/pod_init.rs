//! The first process of a pod whose containers share their processes (`shareProcessNamespace`).
//!
//! It stands where on other nodes the pause container does: it waits, and reaps the processes whose parents ended. Like
//! the helper it is this program again.

use std::{
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::{
        signal::{SigSet, Signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
};

use super::helper::SELF;
use crate::error::GuestError;

/// The first argument of the process.
pub(crate) const POD_INIT_ARGUMENT: &str = "pod-init";
/// What `ps` in the pod shows, where people expect it.
const NAME: &str = "/pause";

/// Starts the process in a new pid namespace, and gives the path of that namespace.
pub(crate) fn start() -> Result<PathBuf, GuestError> {
    // Only children of the thread that left its namespace are in the new one; the thread ends.
    let started = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWPID).map_err(GuestError::system("make the pod's pid namespace"))?;
            let mut command = Command::new(SELF);
            command.arg0(NAME).arg(POD_INIT_ARGUMENT).env_clear();
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let failed = GuestError::system("start the pod's first process");
            command.spawn().map(|child| child.id()).map_err(failed)
        });
        thread.join().expect("starting a process does not panic")
    });
    // The reaper waits for it, as for all processes.
    Ok(format!("/proc/{}/ns/pid", started?).into())
}

/// The process's whole life: the kernel ends it with the VM.
pub(crate) fn pod_init_main() -> ExitCode {
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    if children.thread_block().is_err() {
        return ExitCode::FAILURE;
    }
    loop {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => break,
                Ok(_) | Err(_) => {}
            }
        }
        // An interruption is as good as a signal.
        let _ = children.wait();
    }
}
