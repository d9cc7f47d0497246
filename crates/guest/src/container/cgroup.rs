//! A container's control group: limits are libcontainer's, figures and the end are ours.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::ContainerId;
use crate::error::GuestError;

const ROOT: &str = "/sys/fs/cgroup";
/// The parent of all containers' groups.
const PARENT: &str = "/peerpods";
/// Killed processes leave their group as soon as they were reaped.
const EMPTY_LIMIT: Duration = Duration::from_secs(5);
const EMPTY_INTERVAL: Duration = Duration::from_millis(5);

/// The control group of one container.
pub(crate) struct Cgroup {
    path: PathBuf,
}

/// Whether containers' limits can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limits {
    /// They are set, and a container whose limits cannot be set is not created.
    Enforced,
    /// The hierarchy has no controllers: limits are left out.
    NotAvailable,
}

/// What the container has used and may use; zero where the kernel does not say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) cpu_nanoseconds: u64,
    pub(crate) cpu_user_nanoseconds: u64,
    pub(crate) cpu_system_nanoseconds: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) memory_limit_bytes: u64,
    /// The lines of `memory.stat`.
    pub(crate) memory: Vec<(String, u64)>,
    pub(crate) processes: u64,
    pub(crate) processes_limit: u64,
}

impl Cgroup {
    /// The path that libcontainer is told.
    pub(crate) fn name(container: &ContainerId) -> PathBuf {
        Path::new(PARENT).join(container.as_str())
    }

    pub(crate) fn of(container: &ContainerId) -> Self {
        Self {
            path: PathBuf::from(format!("{ROOT}{PARENT}/{}", container.as_str())),
        }
    }

    /// Kills every process in the group.
    pub(crate) fn kill(&self) -> Result<(), GuestError> {
        self.write("cgroup.kill", "1")
    }

    /// Stops every process, or lets all go on.
    pub(crate) fn freeze(&self, frozen: bool) -> Result<(), GuestError> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })
    }

    /// Removes the group once it is empty.
    pub(crate) async fn remove(&self) -> Result<(), GuestError> {
        let end = tokio::time::Instant::now() + EMPTY_LIMIT;
        loop {
            match remove_tree(&self.path) {
                Ok(()) => return Ok(()),
                Err(error) if tokio::time::Instant::now() >= end => {
                    return Err(GuestError::file("remove the control group", &self.path)(error));
                }
                Err(_) => tokio::time::sleep(EMPTY_INTERVAL).await,
            }
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        let cpu = table(&self.read("cpu.stat"));
        let microseconds = |key: &str| find(&cpu, key).saturating_mul(1000);
        Usage {
            cpu_nanoseconds: microseconds("usage_usec"),
            cpu_user_nanoseconds: microseconds("user_usec"),
            cpu_system_nanoseconds: microseconds("system_usec"),
            memory_bytes: number(&self.read("memory.current")),
            memory_limit_bytes: number(&self.read("memory.max")),
            memory: table(&self.read("memory.stat")),
            processes: number(&self.read("pids.current")),
            processes_limit: number(&self.read("pids.max")),
        }
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path.join(file)).unwrap_or_default()
    }

    fn write(&self, file: &str, text: &str) -> Result<(), GuestError> {
        let path = self.path.join(file);
        match fs::write(&path, text) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(GuestError::file("write", path)),
        }
    }
}

fn remove_tree(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

fn table(text: &str) -> Vec<(String, u64)> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines
        .filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?)))
        .collect()
}

fn find(table: &[(String, u64)], key: &str) -> u64 {
    table
        .iter()
        .find(|(of, _)| of == key)
        .map_or(0, |(_, value)| *value)
}

/// A figure of one file; `max` is no limit, which the wire writes as 0.
fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_kernels_files() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
        write("cpu.stat", "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n");
        write("memory.current", "4096\n");
        write("memory.max", "max\n");
        write("memory.stat", "anon 1024\nfile 2048\n");
        let usage = Cgroup {
            path: folder.path().to_owned(),
        }
        .usage();
        assert_eq!(
            (usage.cpu_nanoseconds, usage.cpu_system_nanoseconds),
            (1_500_000, 500_000)
        );
        assert_eq!(
            (usage.memory_bytes, usage.memory_limit_bytes, usage.processes),
            (4096, 0, 0)
        );
        assert_eq!(usage.memory[1], ("file".to_owned(), 2048));
    }
}
