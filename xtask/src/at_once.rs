//! Several programs at once: what each printed is shown in one piece, when it has ended.

use std::{
    collections::VecDeque,
    io::{self, Seek, Write},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use anyhow::{Context, Result, bail};

use crate::process::show;

/// Runs all commands to their ends, so many of them at a time. Those that failed are named together, after all have run.
pub(crate) fn run_at_once(commands: Vec<Command>, limit: usize) -> Result<()> {
    let (waiting, failures) = (Mutex::new(VecDeque::from(commands)), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..limit {
            scope.spawn(|| {
                while let Some(mut command) = taken(&waiting) {
                    if let Err(error) = run_alone(&mut command) {
                        locked(&failures).push(format!("{error:#}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    Ok(())
}

fn taken(waiting: &Mutex<VecDeque<Command>>) -> Option<Command> {
    locked(waiting).pop_front()
}

/// A thread that panicked leaves a list as whole as it was: each use is one push or one pop.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Both of its streams go to one file, in the order in which they were written. A pipe would have no end where a process
/// is left behind that holds it.
fn run_alone(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let mut printed = tempfile::tempfile().context("cannot make a file for what a program prints")?;
    let stream = || printed.try_clone().context("cannot share a file");
    command.stdin(Stdio::null()).stdout(stream()?).stderr(stream()?);
    let status = command
        .status()
        .with_context(|| format!("cannot start `{shown}`"))?;
    printed.rewind().context("cannot go back in a file")?;
    let mut terminal = io::stdout().lock();
    writeln!(terminal, "\n$ {shown}")?;
    io::copy(&mut printed, &mut terminal)?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::run_at_once;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn all_run_and_those_that_failed_are_named() {
        let commands = vec![shell("exit 3"), shell("true"), shell("kill $$")];
        let error = run_at_once(commands, 2).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 2, "{error}");
        assert!(error.contains("`sh -c exit 3` failed: exit status: 3"), "{error}");
        assert!(error.contains("`sh -c kill $$` failed: signal: 15"), "{error}");
    }

    #[test]
    fn two_that_wait_for_each_other_both_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let meet = |mine: &str, other: &str| {
            shell(&format!(
                "touch {path}/{mine}; until [ -e {path}/{other} ]; do sleep 0.01; done"
            ))
        };
        run_at_once(vec![meet("one", "other"), meet("other", "one")], 2).unwrap();
    }
}
