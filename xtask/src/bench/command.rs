//! Programs that are run and timed.

use std::{
    io::{Read, Write},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::process::show;

/// Far less often than a pipe is filled: reading must not be what is measured.
const BUFFER: usize = 1 << 20;

/// The time from a program's start to its end; one that fails is an error.
pub(super) fn time(command: &mut Command) -> Result<Duration> {
    let shown = show(command);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let took = start.elapsed();
    ensure!(status.success(), "`{shown}` failed: {status}");
    Ok(took)
}

/// The same, and how many bytes it printed.
pub(super) fn time_output(command: &mut Command) -> Result<(Duration, u64)> {
    let shown = show(command);
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let mut output = child.stdout.take().context("its output is a pipe")?;
    let (mut buffer, mut bytes) = (vec![0; BUFFER], 0);
    loop {
        match output.read(&mut buffer).context("cannot read its output")? {
            0 => break,
            read => bytes += read as u64,
        }
    }
    let status = child.wait()?;
    let took = start.elapsed();
    ensure!(status.success(), "`{shown}` failed: {status}");
    Ok((took, bytes))
}

/// The same with so many bytes of input; gives what it printed.
pub(super) fn time_input(command: &mut Command, bytes: u64) -> Result<(Duration, String)> {
    let shown = show(command);
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let mut input = child.stdin.take().context("its input is a pipe")?;
    let buffer = vec![b'x'; BUFFER];
    let mut left = bytes;
    while left > 0 {
        let length = left.min(BUFFER as u64);
        let part = usize::try_from(length).unwrap_or(BUFFER);
        input
            .write_all(&buffer[..part])
            .with_context(|| format!("`{shown}` does not take its input"))?;
        left -= length;
    }
    drop(input);
    let output = child.wait_with_output()?;
    let took = start.elapsed();
    ensure!(output.status.success(), "`{shown}` failed: {}", output.status);
    Ok((took, String::from_utf8_lossy(&output.stdout).trim().to_owned()))
}

/// `kubectl exec` in a pod.
pub(super) fn kubectl_exec(options: &[&str], pod: &str, words: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command.arg("exec").args(options).args([pod, "--"]).args(words);
    command
}

/// `ctr tasks exec` in a container: what is below kubectl.
pub(super) fn ctr_exec(id: &str, container: &str, words: &[&str]) -> Command {
    let mut command = Command::new("ctr");
    command
        .args(["--namespace", "k8s.io", "tasks", "exec", "--exec-id", id])
        .arg(container)
        .args(words)
        // One warning per call that cgroup v1 will go.
        .env("CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS", "1");
    command
}
