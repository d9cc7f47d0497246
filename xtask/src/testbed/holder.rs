//! The process that holds the bed's namespaces: found again by its pid and the time of its start.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::layout::State;

/// The kernel ends all processes of the bed at once; taking apart their network takes it a second or two.
const END_LIMIT: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_millis(20);

/// A process, told from a later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    pub(super) pid: u32,
    /// In clock ticks since the machine started.
    pub(super) started: u64,
}

/// Where the holder of this state folder is noted.
pub(super) fn record(state: &State) -> PathBuf {
    state.file("holder.json")
}

impl Holder {
    /// Starts PID 1 of the bed in namespaces of its own, and notes it.
    pub(super) fn start(state: &State) -> Result<Self> {
        let log = fs::File::create(state.log("init")).context("cannot make the log of PID 1")?;
        let arguments = [
            "unshare",
            "--mount",
            "--net",
            "--pid",
            "--ipc",
            "--uts",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation",
            "private",
        ];
        let child = Command::new("setsid")
            .args(arguments)
            .args([
                state.file("bin/xtask").as_os_str(),
                "testbed-init".as_ref(),
                state.0.as_os_str(),
            ])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start setsid; it is of the package util-linux")?;
        let (started, _) = look(child.id()).context("the bed's first process ended at once")?;
        let holder = Self {
            pid: child.id(),
            started,
        };
        // Complete or not there: PID 1 waits for it.
        let unfinished = state.file("holder.unfinished");
        fs::write(&unfinished, serde_json::to_vec(&holder)?)
            .and_then(|()| fs::rename(&unfinished, record(state)))
            .context("cannot note the bed's first process")?;
        Ok(holder)
    }

    /// The holder that was noted, if it lives.
    pub(super) fn find(state: &State) -> Option<Self> {
        let holder: Self = serde_json::from_slice(&fs::read(record(state)).ok()?).ok()?;
        holder.lives().then_some(holder)
    }

    pub(super) fn lives(self) -> bool {
        look(self.pid).is_some_and(|(started, zombie)| started == self.started && !zombie)
    }

    /// PID 1 of the bed, as the machine sees it.
    pub(super) fn init(self) -> Option<u32> {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// Ends the bed: its PID 1 dies with the holder, and with it every process of its namespaces.
    pub(super) fn kill(self) -> Result<()> {
        let namespace = self.init().and_then(pid_namespace);
        let pid = i32::try_from(self.pid)
            .ok()
            .and_then(Pid::from_raw)
            .context("the noted pid is none")?;
        ensure!(self.lives(), "the bed's first process ended by itself");
        kill_process(pid, Signal::KILL).context("cannot end the bed's first process")?;
        let start = Instant::now();
        loop {
            let left = namespace.as_deref().map(processes_of).unwrap_or_default();
            if left.is_empty() && !self.lives() {
                return Ok(());
            }
            if start.elapsed() > END_LIMIT {
                bail!("processes of the bed are left: {left:?}");
            }
            sleep(INTERVAL);
        }
    }
}

/// The time of a process's start, and whether it is only waited for any more.
fn look(pid: u32) -> Option<(u64, bool)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the name, may hold anything, also blanks and brackets.
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<_> = rest.split(' ').collect();
    Some((fields.get(19)?.parse().ok()?, *fields.first()? == "Z"))
}

fn pid_namespace(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

/// All processes of that namespace. Those that ended already and wait for their parent have none.
fn processes_of(namespace: &std::path::Path) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| pid_namespace(*pid).as_deref() == Some(namespace))
        .collect()
}
