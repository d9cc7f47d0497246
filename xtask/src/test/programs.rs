//! The programs of unit and component tests: built by cargo, run at once. Most of their time is waiting.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process::{cargo, command, output};

/// One program of tests.
pub(super) struct TestProgram {
    executable: PathBuf,
    /// Its package's, in which cargo runs it.
    folder: PathBuf,
}

impl TestProgram {
    /// What runs all of its tests.
    pub(super) fn command(&self) -> Command {
        let mut command = command(&self.executable.to_string_lossy(), &[]);
        command
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder);
        command
    }
}

/// What of cargo's messages says that a program was built.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds the tests of all packages, and gives those that are programs.
pub(super) fn build() -> Result<Vec<TestProgram>> {
    let format = "--message-format=json-render-diagnostics";
    let mut build = cargo(&["test", "--workspace", "--no-run", format]);
    // Progress and errors are for whoever waits.
    build.stderr(std::process::Stdio::inherit());
    let messages = output(&mut build)?;
    let mut programs = Vec::new();
    for line in messages.lines() {
        let message: Message = serde_json::from_str(line)
            .with_context(|| format!("cargo says {line:?}, which is no message"))?;
        programs.extend(program(message));
    }
    Ok(programs)
}

fn program(message: Message) -> Option<TestProgram> {
    if !message.profile?.test {
        return None;
    }
    Some(TestProgram {
        executable: message.executable?,
        folder: message.manifest_path?.parent()?.to_owned(),
    })
}
