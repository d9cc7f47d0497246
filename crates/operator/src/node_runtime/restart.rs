//! The container runtime takes up a new configuration by being restarted: its pods' shims are processes of their own.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::{net::UnixStream, process::CommandExt},
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};

use super::{NodeRoot, NodeRuntimeError, configuration::ContainerRuntime};

/// How long the container runtime may take to answer again. It reads its images and pods first; a second is usual.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// How often it is asked.
const ASK_INTERVAL: Duration = Duration::from_millis(200);
/// The longest name that the kernel keeps of a process.
const PROCESS_NAME: usize = 15;

/// How the container runtime is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RestartWay {
    /// By systemd where the node has it, else by ending its process.
    Auto,
    /// By systemd.
    Systemd,
    /// By ending its process: whatever started it starts it again.
    Terminate,
}

/// What restarts a container runtime.
pub(super) trait Restart {
    /// Returns when it answers again.
    fn restart(&self, runtime: ContainerRuntime) -> Result<(), NodeRuntimeError>;
}

/// The node itself.
pub(super) struct Host<'a> {
    node: &'a NodeRoot,
    way: RestartWay,
}

impl<'a> Host<'a> {
    pub(super) fn new(node: &'a NodeRoot, way: RestartWay) -> Self {
        Self { node, way }
    }

    fn has_systemd(&self) -> bool {
        match self.way {
            RestartWay::Auto => self.node.exists("/run/systemd/system"),
            RestartWay::Systemd => true,
            RestartWay::Terminate => false,
        }
    }
}

impl Restart for Host<'_> {
    fn restart(&self, runtime: ContainerRuntime) -> Result<(), NodeRuntimeError> {
        if self.has_systemd() {
            let command = ["systemctl", "restart", runtime.name()].map(OsString::from);
            run_on_node(self.node, &command)?;
        } else {
            terminate(runtime)?;
        }
        wait_for_answer(runtime, self.node, ANSWER_LIMIT)
    }
}

/// A connection tells: the runtime makes its socket anew when it is ready for it. That the old process still answers on the
/// old one is prevented by waiting for its end first.
fn wait_for_answer(
    runtime: ContainerRuntime,
    node: &NodeRoot,
    limit: Duration,
) -> Result<(), NodeRuntimeError> {
    let socket = node.at(runtime.socket());
    let start = Instant::now();
    while let Err(error) = UnixStream::connect(&socket) {
        if start.elapsed() > limit {
            tracing::warn!(socket = %socket.display(), %error, "no answer");
            return Err(NodeRuntimeError::Silent {
                runtime: runtime.name(),
                socket,
                limit,
            });
        }
        sleep(ASK_INTERVAL);
    }
    Ok(())
}

fn terminate(runtime: ContainerRuntime) -> Result<(), NodeRuntimeError> {
    let processes = processes_named(runtime.name());
    if processes.is_empty() {
        return Err(NodeRuntimeError::NotRunning {
            runtime: runtime.name(),
        });
    }
    for process in &processes {
        match kill_process(*process, Signal::TERM) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => {
                return Err(NodeRuntimeError::Signal {
                    runtime: runtime.name(),
                    source: error.into(),
                });
            }
        }
    }
    let start = Instant::now();
    while processes_named(runtime.name())
        .iter()
        .any(|process| processes.contains(process))
    {
        if start.elapsed() > ANSWER_LIMIT {
            let source = io::Error::from(io::ErrorKind::TimedOut);
            return Err(NodeRuntimeError::Signal {
                runtime: runtime.name(),
                source,
            });
        }
        sleep(ASK_INTERVAL);
    }
    Ok(())
}

/// Processes that run a program of exactly this name; those that ended in between are none.
fn processes_named(name: &str) -> Vec<Pid> {
    let name = &name[..name.len().min(PROCESS_NAME)];
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_named =
        |path: &Path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name);
    entries
        .filter(|entry| is_named(&entry.path()))
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}

/// Runs a program of the node, by way of this one: to change the root is for a process that does nothing else.
fn run_on_node(node: &NodeRoot, command: &[OsString]) -> Result<(), NodeRuntimeError> {
    let shown = || {
        command
            .iter()
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let failed = |source| NodeRuntimeError::RunIn {
        program: shown(),
        root: node.folder().to_owned(),
        source,
    };
    let own = std::env::current_exe().map_err(failed)?;
    let output = Command::new(own)
        .arg("run-in")
        .arg(node.folder())
        .args(command)
        .output()
        .map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(NodeRuntimeError::Program {
        program: shown(),
        output: text.trim().to_owned(),
    })
}

/// Becomes a program that sees another root; returns only if that fails.
///
/// # Errors
/// The root cannot be entered, or the program is not there.
pub fn run_in(root: &Path, command: &[OsString]) -> Result<(), NodeRuntimeError> {
    let program = command
        .first()
        .map(|word| word.to_string_lossy().into_owned())
        .unwrap_or_default();
    let failed = |source| NodeRuntimeError::RunIn {
        program: program.clone(),
        root: root.to_owned(),
        source,
    };
    rustix::process::chroot(root)
        .and_then(|()| rustix::process::chdir("/"))
        .map_err(|error| failed(error.into()))?;
    let [name, arguments @ ..] = command else {
        return Err(failed(io::Error::from(io::ErrorKind::InvalidInput)));
    };
    Err(failed(Command::new(name).args(arguments).exec()))
}
