//! A container's control group: limits are libcontainer's, figures and the end are ours.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use oci_spec::runtime::LinuxResources;

use super::ContainerId;
use crate::error::GuestError;

const ROOT: &str = "/sys/fs/cgroup";
/// The parent of all containers' groups.
const PARENT: &str = "/peerpods";
const MEMORY_EVENTS: &str = "memory.events";
/// The kernel's own, in microseconds.
const DEFAULT_CPU_PERIOD: u64 = 100_000;
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
    /// How many processes the kernel killed for their memory.
    pub(crate) out_of_memory_kills: u64,
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

    /// The directory of the group that all containers' groups are in.
    pub(crate) fn of_all() -> PathBuf {
        PathBuf::from(format!("{ROOT}{PARENT}"))
    }

    /// Kills every process in the group.
    pub(crate) fn kill(&self) -> Result<(), GuestError> {
        self.write("cgroup.kill", "1")
    }

    /// Stops every process, or lets all go on.
    pub(crate) fn freeze(&self, frozen: bool) -> Result<(), GuestError> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })
    }

    /// Sets new limits; what `resources` leaves out stays as it is.
    pub(crate) fn update(&self, resources: &LinuxResources) -> Result<(), GuestError> {
        if let Some(limit) = resources.memory().as_ref().and_then(|memory| memory.limit()) {
            self.write("memory.max", &or_max(limit))?;
        }
        if let Some(cpu) = resources.cpu() {
            if let Some(quota) = cpu.quota() {
                let period = cpu.period().unwrap_or(DEFAULT_CPU_PERIOD);
                self.write("cpu.max", &format!("{} {period}", or_max(quota)))?;
            }
            if let Some(shares) = cpu.shares() {
                self.write("cpu.weight", &weight(shares).to_string())?;
            }
        }
        Ok(())
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
            out_of_memory_kills: find(&table(&self.read(MEMORY_EVENTS)), "oom_kill"),
        }
    }

    /// The file that changes when the group reaches its memory limit.
    pub(crate) fn memory_events(&self) -> PathBuf {
        self.path.join(MEMORY_EVENTS)
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

/// A limit as cgroup v2 writes it; a negative one, and none, is no limit.
fn or_max(limit: i64) -> String {
    if limit > 0 {
        limit.to_string()
    } else {
        "max".to_owned()
    }
}

/// CPU shares (2 to 262144) as a weight (1 to 10000), as the OCI runtimes convert them.
fn weight(shares: u64) -> u64 {
    1 + shares.clamp(2, 262_144).saturating_sub(2) * 9999 / 262_142
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
    fn limits_are_written_as_the_kernel_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let cgroup = Cgroup {
            path: folder.path().to_owned(),
        };
        let update = |json| cgroup.update(&serde_json::from_value(json).unwrap()).unwrap();
        update(serde_json::json!({"memory": {"limit": 1 << 20}, "cpu": {"quota": 50_000, "shares": 1024}}));
        let read = |file| fs::read_to_string(folder.path().join(file)).unwrap();
        assert_eq!(
            (read("memory.max"), read("cpu.max")),
            ("1048576".to_owned(), "50000 100000".to_owned())
        );
        assert_eq!(read("cpu.weight"), "39");
        update(serde_json::json!({"memory": {"limit": -1}}));
        assert_eq!(read("memory.max"), "max");
    }

    #[test]
    fn figures_are_read_from_the_kernels_files() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
        write("cpu.stat", "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n");
        write("memory.current", "4096\n");
        write("memory.max", "max\n");
        write("memory.stat", "anon 1024\nfile 2048\n");
        write("memory.events", "low 0\noom 2\noom_kill 1\n");
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
        assert_eq!(usage.out_of_memory_kills, 1);
        assert_eq!(usage.memory[1], ("file".to_owned(), 2048));
    }
}
