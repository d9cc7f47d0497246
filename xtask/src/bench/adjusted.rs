//! The adaptor of VMs with other settings, for the time of a measurement: as an administrator sets them, by a restart.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::{context::Context, pod::Runtime};
use crate::process::root;

/// Settings that a daemon of the bed takes when it starts again.
const FILE: &str = "/run/testbed-settings/cloud-api-adaptor.env";
/// What the adaptor says once it serves, with whatever settings.
const SERVES: &str = "shims are served";
/// A VM may have to boot, emulated, before something is ready.
const LIMIT: Duration = Duration::from_secs(120);
const INTERVAL: Duration = Duration::from_millis(50);

/// Settings that hold until this is dropped.
pub(super) struct Adjusted<'context> {
    context: &'context Context,
}

impl<'context> Adjusted<'context> {
    /// Sets the variables, one per line.
    pub(super) fn with(context: &'context Context, settings: &str) -> Result<Self> {
        let file = Path::new(FILE);
        let folder = file.parent().context("a file has a folder")?;
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(file, settings))
            .with_context(|| format!("cannot write {FILE}"))?;
        // From here on whatever happens undoes it.
        let adjusted = Self { context };
        restart(context)?;
        Ok(adjusted)
    }

    /// Waits until the adaptor has said `line` since its last start, after everything that it says of `before`.
    pub(super) fn wait_for(&self, line: &str, before: &[&str]) -> Result<()> {
        wait(self.context, &format!("the adaptor says {line:?}"), || {
            let log = log()?;
            let news = log.lines().rev().find(|said| {
                [line, SERVES]
                    .iter()
                    .chain(before)
                    .any(|word| said.contains(word))
            });
            Ok(news.is_some_and(|said| said.contains(line)))
        })
    }
}

impl Drop for Adjusted<'_> {
    fn drop(&mut self) {
        let undone = match fs::remove_file(FILE) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            Ok(()) | Err(_) => restart(self.context),
        };
        if let Err(error) = undone {
            eprintln!("bench: the adaptor keeps other settings: {error:#}");
        }
    }
}

/// Restarts the adaptor, and waits until the new one serves.
fn restart(context: &Context) -> Result<()> {
    let starts = || -> Result<usize> { Ok(log()?.matches(SERVES).count()) };
    let before = starts()?;
    let process = context.node.adaptor_of(Runtime::Vm)?;
    let number = process.0.try_into().context("a process number fits")?;
    let pid = Pid::from_raw(number).context("a process has a number")?;
    kill_process(pid, Signal::TERM).context("cannot end the adaptor")?;
    wait(context, "the adaptor serves again", || Ok(starts()? > before))
}

fn wait(context: &Context, what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !condition()? {
        context.check()?;
        ensure!(start.elapsed() < LIMIT, "waited {LIMIT:?} in vain until {what}");
        sleep(INTERVAL);
    }
    Ok(())
}

fn log() -> Result<String> {
    let path: PathBuf = root().join("target/testbed/state/log/cloud-api-adaptor.log");
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}
