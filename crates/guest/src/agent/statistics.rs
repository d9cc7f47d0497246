//! What is measured: of a container, of the VM, of a volume.

use std::fmt::Write;

use peerpods_proto::agent as api;
use protobuf::MessageField;
use rustix::fs::statvfs;

use crate::{container::Usage, error::GuestError};

const MEMORY: &str = "/proc/meminfo";
const LOAD: &str = "/proc/loadavg";
/// The names of the load's first three columns.
const LOAD_PERIODS: [&str; 3] = ["load1", "load5", "load15"];
/// What `/proc/meminfo` counts in, though it calls it `kB`.
const MEMORY_UNIT: u64 = 1024;

/// A container's use of the VM.
pub(super) fn container(usage: Usage) -> api::StatsContainerResponse {
    let cpu = api::CpuUsage {
        total_usage: usage.cpu_nanoseconds,
        usage_in_usermode: usage.cpu_user_nanoseconds,
        usage_in_kernelmode: usage.cpu_system_nanoseconds,
        ..Default::default()
    };
    let memory = api::MemoryData {
        usage: usage.memory_bytes,
        limit: usage.memory_limit_bytes,
        ..Default::default()
    };
    // The name of cgroup v2's memory.events: the protocol has no field for it.
    let kills = ("oom_kill".to_owned(), usage.out_of_memory_kills);
    let groups = api::CgroupStats {
        cpu_stats: MessageField::some(api::CpuStats {
            cpu_usage: MessageField::some(cpu),
            ..Default::default()
        }),
        memory_stats: MessageField::some(api::MemoryStats {
            usage: MessageField::some(memory),
            stats: usage.memory.into_iter().chain([kills]).collect(),
            ..Default::default()
        }),
        pids_stats: MessageField::some(api::PidsStats {
            current: usage.processes,
            limit: usage.processes_limit,
            ..Default::default()
        }),
        ..Default::default()
    };
    api::StatsContainerResponse {
        cgroup_stats: MessageField::some(groups),
        ..Default::default()
    }
}

/// The VM's load and memory, in Prometheus's text format, with the names of Kata's own agent.
pub(super) fn machine() -> Result<String, GuestError> {
    let read = |path: &'static str| std::fs::read_to_string(path).map_err(GuestError::file("read", path));
    let (load, memory) = (read(LOAD)?, read(MEMORY)?);
    Ok(load_metrics(&load) + &memory_metrics(&memory))
}

fn load_metrics(text: &str) -> String {
    let mut metrics =
        "# HELP kata_guest_load Processes that run or wait to.\n# TYPE kata_guest_load gauge\n".to_owned();
    for (period, value) in LOAD_PERIODS.iter().zip(text.split_whitespace()) {
        if value.parse::<f64>().is_ok() {
            metric(&mut metrics, "kata_guest_load", period, value);
        }
    }
    metrics
}

fn memory_metrics(text: &str) -> String {
    let mut metrics =
        "# HELP kata_guest_meminfo Memory of the VM, in bytes.\n# TYPE kata_guest_meminfo gauge\n".to_owned();
    for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
        // Lines without a unit count something else than memory.
        let kibibytes = value
            .trim()
            .strip_suffix(" kB")
            .and_then(|number| number.parse::<u64>().ok());
        if let Some(bytes) = kibibytes.and_then(|number| number.checked_mul(MEMORY_UNIT)) {
            metric(&mut metrics, "kata_guest_meminfo", &name.to_lowercase(), bytes);
        }
    }
    metrics
}

fn metric(metrics: &mut String, name: &str, item: &str, value: impl std::fmt::Display) {
    writeln!(metrics, "{name}{{item=\"{item}\"}} {value}").expect("a text takes all that is written to it");
}

/// The size and use of the file system that a volume is on.
pub(super) fn volume(path: &str) -> Result<api::VolumeStatsResponse, GuestError> {
    let status = statvfs(path).map_err(|error| GuestError::file("look at", path)(error.into()))?;
    let usage =
        |unit: api::volume_usage::Unit, size: u64, total: u64, free: u64, available: u64| api::VolumeUsage {
            unit: unit.into(),
            total: total.saturating_mul(size),
            used: total.saturating_sub(free).saturating_mul(size),
            available: available.saturating_mul(size),
            ..Default::default()
        };
    Ok(api::VolumeStatsResponse {
        usage: vec![
            usage(
                api::volume_usage::Unit::BYTES,
                status.f_frsize,
                status.f_blocks,
                status.f_bfree,
                status.f_bavail,
            ),
            usage(
                api::volume_usage::Unit::INODES,
                1,
                status.f_files,
                status.f_ffree,
                status.f_favail,
            ),
        ],
        volume_condition: MessageField::some(api::VolumeCondition::default()),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_become_metrics() {
        let memory = memory_metrics(
            "MemTotal:         227884 kB\nHugePages_Total:       0\nActive(anon):  8 kB\nodd\n",
        );
        let values: Vec<_> = memory.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            values,
            [
                r#"kata_guest_meminfo{item="memtotal"} 233353216"#,
                r#"kata_guest_meminfo{item="active(anon)"} 8192"#,
            ]
        );
        let load = load_metrics("0.25 0.10 0.03 1/88 231\n");
        assert!(load.ends_with(
            "kata_guest_load{item=\"load1\"} 0.25\nkata_guest_load{item=\"load5\"} 0.10\nkata_guest_load{item=\"load15\"} 0.03\n"
        ));
    }

    #[test]
    fn a_volume_has_bytes_and_inodes() {
        let response = volume("/").unwrap();
        assert_eq!(response.usage.len(), 2);
        let bytes = &response.usage[0];
        assert_eq!(bytes.unit, api::volume_usage::Unit::BYTES.into());
        assert!(
            bytes.total > 0 && bytes.used <= bytes.total && bytes.available <= bytes.total,
            "{bytes:?}"
        );
        assert!(
            volume("/run/no-such-volume")
                .unwrap_err()
                .chain()
                .contains("/run/no-such-volume")
        );
    }
}
