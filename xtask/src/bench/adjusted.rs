//! The adaptor of VMs with another setting, for the time of a measurement: as an administrator sets it.

use std::{
    fs,
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{context::Context, pod::Runtime};
use crate::{process::root, testbed::kubectl};

/// What the adaptor's pod has its settings from; the operator replaces the pod when they change.
const SETTINGS: &str = "peer-pods-cm";
/// Where shims find the adaptor.
const SOCKET: &str = "/run/peerpod/hypervisor.sock";
/// What the folders of the logs of the adaptor's pods have in their names.
const LOGS: &str = "_peerpodconfig-ctrl-caa-daemon-";
const CONTAINER: &str = "cloud-api-adaptor";
/// What the adaptor says once it serves, with whatever settings.
const SERVES: &str = "shims are served";
/// A VM may have to boot, emulated, before something is ready.
const LIMIT: Duration = Duration::from_secs(120);
const INTERVAL: Duration = Duration::from_millis(50);

/// A setting that holds until this is dropped.
pub(super) struct Adjusted<'context> {
    context: &'context Context,
    name: &'static str,
}

impl<'context> Adjusted<'context> {
    /// Sets it; the adaptor serves with it when this returns.
    pub(super) fn with(context: &'context Context, name: &'static str, value: &str) -> Result<Self> {
        // From here on whatever happens undoes it.
        let adjusted = Self { context, name };
        adjusted.set(&json!(value))?;
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

    /// Changes the setting, or with `null` removes it, and waits until another adaptor serves.
    fn set(&self, value: &Value) -> Result<()> {
        let adaptor = || self.context.node.adaptor_of(Runtime::Vm);
        let before = adaptor()?;
        let patch = json!({"data": {self.name: value}}).to_string();
        kubectl(&["patch", "configmap", SETTINGS, "--type=merge", "--patch", &patch])?;
        wait(self.context, "the adaptor serves with other settings", || {
            Ok(adaptor().is_ok_and(|now| now != before) && serves()?)
        })
    }
}

impl Drop for Adjusted<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.set(&Value::Null) {
            eprintln!("bench: the adaptor keeps other settings: {error:#}");
        }
    }
}

/// Whether anybody listens for shims: a socket that an adaptor left as it ended is not among these.
fn serves() -> Result<bool> {
    let sockets = fs::read_to_string("/proc/net/unix").context("cannot read the node's sockets")?;
    Ok(sockets.lines().any(|line| line.ends_with(SOCKET)))
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

/// What the newest adaptor has said, as the node keeps it.
fn log() -> Result<String> {
    let pods = root().join("target/testbed/state/log/pods");
    let is_its = |folder: &PathBuf| folder.to_string_lossy().contains(LOGS);
    let logs = files(&pods)
        .filter(is_its)
        .flat_map(|pod| files(&pod.join(CONTAINER)));
    let newest = logs.max_by_key(|path| fs::metadata(path).and_then(|file| file.modified()).ok());
    let newest = newest.with_context(|| format!("no adaptor has a log in {}", pods.display()))?;
    fs::read_to_string(&newest).with_context(|| format!("cannot read {}", newest.display()))
}

fn files(folder: &std::path::Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}
