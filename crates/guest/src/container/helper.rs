//! The single-threaded process that creates a container or a process in one.
//!
//! libcontainer forks and goes on running Rust code in the child, which is undefined behaviour in a process with
//! threads. So this program runs itself again for each creation; the new process inherits the container's streams, and
//! its result is a file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio as ProcessStdio},
};

use libcontainer::{
    container::builder::ContainerBuilder, error::LibcontainerError, syscall::syscall::SyscallType,
};
use oci_spec::runtime::{Process, Spec};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{CONTAINERS, Reaper, STATE, confined::Confined, stdio::ChildEnds};
use crate::error::GuestError;

/// The first argument of the process.
pub(crate) const HELPER_ARGUMENT: &str = "container-helper";
/// This program's file, also after its path is gone.
pub(super) const SELF: &str = "/proc/self/exe";

/// What the process is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Helper {
    /// The container's id.
    pub(crate) container: String,
    pub(crate) action: Action,
    /// The socket that takes the terminal, where the process has one.
    pub(crate) console: Option<PathBuf>,
    /// Where the result goes.
    pub(crate) result: PathBuf,
}

/// Creations.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Action {
    /// A container from a bundle; it waits to be started.
    Create { bundle: PathBuf },
    /// A process, described by a file, in a container; it runs at once.
    Exec { process: PathBuf },
}

impl Helper {
    /// Runs the process to its end and gives the process number of what it created.
    pub(crate) async fn run(self, ends: ChildEnds, reaper: &Reaper) -> Result<i32, GuestError> {
        let action = match &self.action {
            Action::Create { .. } => "create",
            Action::Exec { .. } => "run a process in",
        };
        let failed = |cause: String| GuestError::Runtime {
            action,
            container: self.container.clone(),
            cause,
        };
        let argument = serde_json::to_string(&self).expect("paths here are plain text");
        let mut command = Command::new(SELF);
        command.arg(HELPER_ARGUMENT).arg(argument).env_clear();
        command.stdin(ends.stdin.map_or_else(ProcessStdio::null, ProcessStdio::from));
        command.stdout(ends.stdout.map_or_else(ProcessStdio::null, ProcessStdio::from));
        command.stderr(ends.stderr.map_or_else(ProcessStdio::null, ProcessStdio::from));
        let child = command.spawn().map_err(|error| failed(error.to_string()))?;
        drop(command);
        let exit = reaper.wait(i32::try_from(child.id()).unwrap_or(i32::MAX)).await;
        let result =
            fs::read(&self.result).map_err(|_| failed(format!("the helper ended with {}", exit.0)))?;
        let _ = fs::remove_file(&self.result);
        let result: Result<i32, String> = serde_json::from_slice(&result)
            .map_err(|error| failed(format!("the helper's result: {error}")))?;
        result.map_err(failed)
    }

    fn perform(&self) -> Result<i32, LibcontainerError> {
        let builder = ContainerBuilder::new(self.container.clone(), SyscallType::default())
            .with_root_path(STATE)?
            .with_console_socket(self.console.as_deref())
            .validate_id()?;
        match &self.action {
            Action::Create { bundle } => {
                let container = builder
                    .as_init(bundle)
                    .with_systemd(false)
                    .with_detach(true)
                    .build()?;
                Ok(container.pid().map_or(0, |pid| pid.as_raw()))
            }
            Action::Exec { process } => {
                let builder = self.confine(builder, process)?;
                let pid = builder
                    .as_tenant()
                    .with_process(Some(process))
                    .with_detach(true)
                    .build()?;
                Ok(pid.as_raw())
            }
        }
    }
}

impl Helper {
    /// Gives a process that joins the container's seccomp profile; its description is changed accordingly.
    fn confine(
        &self,
        builder: ContainerBuilder,
        description: &Path,
    ) -> Result<ContainerBuilder, LibcontainerError> {
        let spec: Spec = read(&Path::new(CONTAINERS).join(&self.container).join("config.json"))?;
        let mut process: Process = read(description)?;
        match Confined::of(&spec, &mut process) {
            None => Ok(builder),
            Some(confined) => {
                let json = serde_json::to_vec(&process).map_err(LibcontainerError::OtherSerialization)?;
                fs::write(description, json).map_err(LibcontainerError::OtherIO)?;
                Ok(builder.with_executor(confined))
            }
        }
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, LibcontainerError> {
    let text = fs::read(path).map_err(LibcontainerError::OtherIO)?;
    serde_json::from_slice(&text).map_err(LibcontainerError::OtherSerialization)
}

/// The process's whole life.
pub(crate) fn helper_main(argument: &str) -> ExitCode {
    let Ok(helper) = serde_json::from_str::<Helper>(argument) else {
        return ExitCode::FAILURE;
    };
    let result = helper.perform().map_err(|error| peerpods_error::chain(&error));
    let code = if result.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    match write(&helper.result, &result) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

fn write(path: &Path, result: &Result<i32, String>) -> std::io::Result<()> {
    fs::write(path, serde_json::to_vec(result)?)
}
