//! Memory and CPU of processes, as the kernel tells them.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};

/// A process of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProcessId(pub(super) u32);

/// What a process holds of the memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) resident_kibibytes: u64,
    /// What it shares with nobody.
    pub(super) private_kibibytes: u64,
}

impl ProcessId {
    /// The sums over all mappings.
    pub(super) fn memory(self) -> Result<Memory> {
        let path = format!("/proc/{}/smaps_rollup", self.0);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let field = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.unwrap_or(0)
        };
        Ok(Memory {
            resident_kibibytes: field("Rss:"),
            private_kibibytes: field("Private_Clean:") + field("Private_Dirty:"),
        })
    }

    /// The CPU time of all its threads, also of those that have ended; in steps of a clock tick.
    pub(super) fn cpu(self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.0);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        // The second field, the name, may hold anything, also blanks and brackets.
        let fields = text.rsplit_once(") ").map(|(_, rest)| rest.split(' '));
        let fields: Vec<&str> = fields.with_context(|| format!("{path} has no name"))?.collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        let (user, system) = ticks(11)
            .zip(ticks(12))
            .with_context(|| format!("{path} is too short"))?;
        let ticks_per_second = rustix::param::clock_ticks_per_second();
        Ok(Duration::from_millis((user + system) * 1000 / ticks_per_second))
    }

    /// The CPU time of each thread that it has now, to the nanosecond.
    fn threads(self) -> Result<BTreeMap<PathBuf, Duration>> {
        let path = format!("/proc/{}/task", self.0);
        let threads = fs::read_dir(&path).with_context(|| format!("cannot list {path}"))?;
        let paths = threads.flatten().map(|thread| thread.path());
        // A thread may end meanwhile.
        Ok(paths
            .filter_map(|path| {
                let text = fs::read_to_string(path.join("schedstat")).ok()?;
                let nanoseconds = text.split(' ').next()?.parse().ok()?;
                Some((path, Duration::from_nanos(nanoseconds)))
            })
            .collect())
    }

    /// Its arguments, with blanks between them.
    pub(super) fn command_line(self) -> String {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.0)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    }

    /// Whether its environment sets a variable to a value.
    pub(super) fn has_variable(self, name: &str, value: &str) -> bool {
        let bytes = fs::read(format!("/proc/{}/environ", self.0)).unwrap_or_default();
        let wanted = format!("{name}={value}");
        bytes.split(|byte| *byte == 0).any(|one| one == wanted.as_bytes())
    }
}

/// All processes that are there.
pub(super) fn all() -> Vec<ProcessId> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.map(ProcessId).collect()
}

/// How much CPU several processes use while something else goes on, in steps of a clock tick.
pub(super) struct Meter<'processes> {
    processes: &'processes [ProcessId],
    before: Vec<Duration>,
}

impl<'processes> Meter<'processes> {
    pub(super) fn start(processes: &'processes [ProcessId]) -> Result<Self> {
        let before = processes.iter().map(|process| process.cpu());
        Ok(Self {
            processes,
            before: before.collect::<Result<_>>()?,
        })
    }

    /// What each has used.
    pub(super) fn stop(self) -> Result<Vec<Duration>> {
        let used = self.processes.iter().zip(&self.before).map(|(process, before)| {
            let now = process.cpu()?;
            Ok(now.saturating_sub(*before))
        });
        used.collect()
    }
}

/// The same for processes that hardly do anything, to the nanosecond. A thread that ends between two observations takes
/// what it used since the last one with it.
pub(super) struct FineMeter<'processes> {
    processes: &'processes [ProcessId],
    before: BTreeMap<PathBuf, Duration>,
    now: BTreeMap<PathBuf, Duration>,
}

impl<'processes> FineMeter<'processes> {
    pub(super) fn start(processes: &'processes [ProcessId]) -> Result<Self> {
        let mut meter = Self {
            processes,
            before: BTreeMap::new(),
            now: BTreeMap::new(),
        };
        meter.observe()?;
        meter.before = meter.now.clone();
        Ok(meter)
    }

    pub(super) fn observe(&mut self) -> Result<()> {
        for process in self.processes {
            self.now.extend(process.threads()?);
        }
        Ok(())
    }

    /// What all together have used.
    pub(super) fn stop(mut self) -> Result<Duration> {
        self.observe()?;
        let used = self.now.iter().map(|(thread, now)| {
            let before = self.before.get(thread).copied().unwrap_or_default();
            now.saturating_sub(before)
        });
        Ok(used.sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_cpu() {
        let own = ProcessId(std::process::id());
        let memory = own.memory().unwrap();
        assert!(memory.resident_kibibytes >= memory.private_kibibytes && memory.private_kibibytes > 0);
        let own = [own];
        let meter = FineMeter::start(&own).unwrap();
        let before = meter.now.values().sum::<Duration>();
        assert!(before > Duration::ZERO);
        // The kernel counts at its ticks: a thread is busy until one was counted.
        let own_time = || {
            let mut now = FineMeter::start(&own).unwrap();
            now.observe().unwrap();
            now.now.values().sum::<Duration>()
        };
        while own_time() == before {}
        assert!(meter.stop().unwrap() > Duration::ZERO, "work takes time");
        assert!(all().contains(&own[0]));
    }
}
