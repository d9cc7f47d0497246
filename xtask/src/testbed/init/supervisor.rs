//! PID 1's one task from then on: every daemon runs, and every process that ends is waited for.

use std::{
    fs::{File, OpenOptions},
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::{
    io::Errno,
    process::{Pid, WaitOptions, WaitStatus, wait},
};

use super::daemons::Daemon;
use crate::testbed::layout::State;

/// Between the end of a daemon and its next start: it does not fill its log with one reason many times a second.
const RESTART_PAUSE: Duration = Duration::from_millis(500);
/// How often the supervisor looks, while a daemon is to be started.
const INTERVAL: Duration = Duration::from_millis(20);

struct Supervised {
    daemon: Daemon,
    running: Option<Pid>,
    ran_before: bool,
    not_before: Instant,
}

/// Runs the daemons until this process is killed, which ends them all.
pub(super) fn supervise(daemons: Vec<Daemon>, path: &str, state: &State) -> Result<()> {
    let now = Instant::now();
    let mut table: Vec<_> = daemons
        .into_iter()
        .map(|daemon| Supervised {
            daemon,
            running: None,
            ran_before: false,
            not_before: now,
        })
        .collect();
    loop {
        for entry in &mut table {
            if entry.is_due() {
                entry.start(path, state)?;
            }
        }
        let all_run = table.iter().all(|entry| entry.running.is_some());
        while let Some((pid, status)) = reap(all_run)? {
            if let Some(entry) = table.iter_mut().find(|entry| entry.running == Some(pid)) {
                println!("{} ended ({status:?}) and is started again", entry.daemon.name);
                entry.running = None;
                entry.not_before = Instant::now() + RESTART_PAUSE;
                break;
            }
        }
        sleep(INTERVAL);
    }
}

impl Supervised {
    fn is_due(&self) -> bool {
        self.running.is_none()
            && Instant::now() >= self.not_before
            && self.daemon.after.as_deref().is_none_or(Path::exists)
    }

    /// A daemon that cannot even be started the first time ends the bed; later its program may be away for a moment.
    fn start(&mut self, path: &str, state: &State) -> Result<()> {
        match spawn(&self.daemon, path, state) {
            Ok(pid) => (self.running, self.ran_before) = (Some(pid), true),
            Err(error) if self.ran_before => {
                println!("{error:#}");
                self.not_before = Instant::now() + RESTART_PAUSE;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Waits for any child that ended, also for those whose parent ended before them.
fn reap(block: bool) -> Result<Option<(Pid, WaitStatus)>> {
    let options = if block {
        WaitOptions::empty()
    } else {
        WaitOptions::NOHANG
    };
    match wait(options) {
        Ok(ended) => Ok(ended),
        Err(Errno::CHILD | Errno::INTR) => Ok(None),
        Err(error) => Err(error).context("cannot wait for the node's processes"),
    }
}

fn spawn(daemon: &Daemon, path: &str, state: &State) -> Result<Pid> {
    let log = append(&state.log(daemon.name))?;
    let errors = log.try_clone().context("cannot share a log")?;
    let child = Command::new(&daemon.program)
        .args(&daemon.arguments)
        .envs(daemon.environment.iter().map(|(name, value)| (name, value)))
        .env("PATH", path)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .with_context(|| format!("cannot start {}: {}", daemon.name, daemon.program.display()))?;
    // The child itself is waited for above, with all others.
    Ok(Pid::from_child(&child))
}

/// A log goes on where the last start of its daemon ended.
pub(super) fn append(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.with_context(|| format!("cannot write {}", path.display()))
}
