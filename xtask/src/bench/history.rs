//! The result on disk: the latest one, and a line per run to compare it with.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use serde::Serialize;

use super::row::Row;
use crate::{
    process::{command, output, root},
    testbed::Profile,
};

/// All figures of one run, and what they are of.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// When it was taken, in seconds of the Unix epoch.
    taken_at_seconds: u64,
    /// What was measured: a commit, and whether files differ from it.
    commit: String,
    profile: Profile,
    /// Taken with few samples.
    quick: bool,
    machine: Machine,
    pub(super) rows: Vec<Row>,
}

/// Figures of different machines do not compare.
#[derive(Debug, Serialize)]
struct Machine {
    kernel: String,
    processors: usize,
    /// Of the last minute: what else the machine did.
    load: String,
}

impl Report {
    pub(super) fn new(quick: bool, profile: Profile) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let kernel = rustix::system::uname();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Ok(Self {
            taken_at_seconds: now.as_secs(),
            commit: output(&mut command(
                "git",
                &["describe", "--always", "--dirty", "--abbrev=12"],
            ))
            .unwrap_or_else(|_| "unknown".to_owned()),
            profile,
            quick,
            machine: Machine {
                kernel: kernel.release().to_string_lossy().into_owned(),
                processors: std::thread::available_parallelism()?.get(),
                load: load.split(' ').next().unwrap_or_default().to_owned(),
            },
            rows: Vec::new(),
        })
    }

    pub(super) fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).context("a report is plain data")
    }

    /// Writes `latest.json` and appends to `history.jsonl`, both in `target/bench`.
    pub(super) fn save(&self) -> Result<()> {
        let folder = root().join("target/bench");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let latest = folder.join("latest.json");
        fs::write(&latest, self.to_json()?).with_context(|| format!("cannot write {}", latest.display()))?;
        let path = folder.join("history.jsonl");
        let line = serde_json::to_string(self)? + "\n";
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}
