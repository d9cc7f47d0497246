//! A process of a container: its streams, signals and end.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use oci_spec::runtime::Process as ProcessSpec;
use tokio::sync::watch;

use super::{
    CONTAINERS, ContainerId, Reaper, Stdio,
    helper::{Action, Helper},
    reaper::Exit,
    terminal::ConsoleSocket,
};
use crate::error::GuestError;

/// A process that was created, running or ended.
pub(crate) struct Process {
    pid: i32,
    pub(crate) stdio: Stdio,
    exit: watch::Receiver<Option<Exit>>,
}

/// What to create.
pub(crate) enum ProcessOf<'a> {
    /// The container's first process, which waits to be started.
    Container { bundle: &'a Path, spec: &'a ProcessSpec },
    /// A further one, which runs at once.
    Exec { spec: &'a ProcessSpec },
}

impl Process {
    /// Creates the process of `container` and begins to wait for its end.
    pub(crate) async fn create(
        container: &ContainerId,
        what: ProcessOf<'_>,
        reaper: &Reaper,
    ) -> Result<Arc<Self>, GuestError> {
        let folder = Path::new(CONTAINERS).join(container.as_str());
        let (name, spec) = match &what {
            ProcessOf::Container { spec, .. } => ("init".to_owned(), *spec),
            ProcessOf::Exec { spec } => (format!("exec-{}", next_number()), *spec),
        };
        let path = |kind: &str| folder.join(format!("{name}.{kind}"));
        let action = match what {
            ProcessOf::Container { bundle, .. } => Action::Create {
                bundle: bundle.to_owned(),
            },
            ProcessOf::Exec { spec, .. } => {
                let json = serde_json::to_vec(spec).expect("a process is plain data");
                fs::write(path("json"), json).map_err(GuestError::file("write", path("json")))?;
                Action::Exec {
                    process: path("json"),
                }
            }
        };
        let helper = |console| Helper {
            container: container.to_string(),
            action,
            console,
            result: path("result"),
        };
        let (pid, stdio) = if spec.terminal().unwrap_or(false) {
            let console = ConsoleSocket::bind(short_socket())?;
            let pid = helper(Some(console.path().to_owned()))
                .run(super::stdio::ChildEnds::default(), reaper)
                .await?;
            let stdio = Stdio::terminal(console.take()?)?;
            set_first_size(&stdio, spec)?;
            (pid, stdio)
        } else {
            let (stdio, ends) = Stdio::pipes()?;
            (helper(None).run(ends, reaper).await?, stdio)
        };
        let _ = fs::remove_file(path("json"));
        Ok(Arc::new(Self {
            pid,
            stdio,
            exit: observe(pid, reaper),
        }))
    }

    /// How the process ended, where it has.
    pub(crate) fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits for the end.
    pub(crate) async fn wait(&self) -> Exit {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some).await.map(|exit| *exit);
        // The sender is dropped only after it has sent.
        ended.ok().flatten().unwrap_or(Exit(255))
    }

    /// The pid namespace that the process is in.
    pub(crate) fn pid_namespace(&self) -> std::path::PathBuf {
        format!("/proc/{}/ns/pid", self.pid).into()
    }

    /// Sends a signal; a process that has ended does not mind.
    pub(crate) fn signal(&self, number: i32) -> Result<(), GuestError> {
        if self.exit().is_some() {
            return Ok(());
        }
        let signal = Signal::try_from(number).map_err(|_| GuestError::Invalid {
            field: "signal",
            problem: format!("{number} is no signal"),
        })?;
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(GuestError::system("send a signal")(error)),
        }
    }

    /// Whether the process would act on a signal: the first process of a pid namespace ignores what it has no handler
    /// for.
    pub(crate) fn handles(&self, number: i32) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = mask
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .unwrap_or(0);
        u32::try_from(number - 1).is_ok_and(|bit| mask.checked_shr(bit).is_some_and(|rest| rest & 1 == 1))
    }
}

fn observe(pid: i32, reaper: &Reaper) -> watch::Receiver<Option<Exit>> {
    let (ended, exit) = watch::channel(None);
    let reaper = reaper.clone();
    tokio::spawn(async move {
        let exit = reaper.wait(pid).await;
        // Nobody may be interested any more.
        let _ = ended.send(Some(exit));
    });
    exit
}

fn set_first_size(stdio: &Stdio, spec: &ProcessSpec) -> Result<(), GuestError> {
    let Some(size) = spec.console_size() else {
        return Ok(());
    };
    let cells = |count: u64| u16::try_from(count).unwrap_or(u16::MAX);
    match (cells(size.height()), cells(size.width())) {
        (0, _) | (_, 0) => Ok(()),
        (rows, columns) => stdio.resize(rows, columns),
    }
}

/// A path that fits a socket's address, whatever the process is called.
fn short_socket() -> std::path::PathBuf {
    format!("/run/console-{}", next_number()).into()
}

/// Names files by number: what a shim calls a process may be no name for a file.
fn next_number() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}
