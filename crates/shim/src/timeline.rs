//! The pod's timeline: when each stage of its start was reached, one line per stage.
//!
//! The adaptor and the shim append to the same file in the pod directory. It is an aid for people and
//! benchmarks, so a failure to write it is never an error of the pod.

use std::{
    fs::OpenOptions,
    io::Write,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

/// The file in the pod directory.
const FILE: &str = "timeline";

/// Writes the stages of one pod.
#[derive(Debug, Clone)]
pub(crate) struct Timeline {
    path: PathBuf,
}

impl Timeline {
    pub(crate) fn in_directory(pod_directory: PathBuf) -> Self {
        Self {
            path: pod_directory.join(FILE),
        }
    }

    pub(crate) fn mark(&self, stage: &str) {
        self.mark_at(SystemTime::now(), stage);
    }

    /// Records a stage that was reached before the file could exist.
    pub(crate) fn mark_at(&self, at: SystemTime, stage: &str) {
        let nanoseconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let written = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.path)
            .and_then(|mut file| file.write_all(format!("{nanoseconds} {stage}\n").as_bytes()));
        if let Err(error) = written {
            tracing::debug!(path = %self.path.display(), stage, %error, "timeline not written");
        }
    }
}
