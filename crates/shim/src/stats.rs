//! What a container uses, in the form that the node's cgroup version makes containerd expect.

use std::{collections::HashMap, path::Path};

use containerd_shim_protos::{cgroups::metrics as v1, cgroups_v2::metrics as v2};
use peerpods_proto::agent::{CgroupStats, MemoryData, NetworkStats, StatsContainerResponse};
use protobuf::{Message, well_known_types::any::Any};

use crate::error::Error;

/// Exists where the node has the unified hierarchy.
const UNIFIED: &str = "/sys/fs/cgroup/cgroup.controllers";
const NANOSECONDS_PER_MICROSECOND: u64 = 1000;

/// The names of the two messages.
const FIRST: &str = "io.containerd.cgroups.v1.Metrics";
const SECOND: &str = "io.containerd.cgroups.v2.Metrics";

/// The two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CgroupVersion {
    V1,
    V2,
}

impl CgroupVersion {
    pub(crate) fn of_this_node() -> Self {
        if Path::new(UNIFIED).exists() {
            Self::V2
        } else {
            Self::V1
        }
    }
}

/// Translates the agent's answer.
pub(crate) fn metrics(response: &StatsContainerResponse, version: CgroupVersion) -> Result<Any, Error> {
    let stats = response.cgroup_stats.get_or_default();
    match version {
        CgroupVersion::V1 => any(FIRST, &first(stats, &response.network_stats)),
        CgroupVersion::V2 => any(SECOND, &second(stats)),
    }
}

fn any(name: &str, message: &impl Message) -> Result<Any, Error> {
    let value = message.write_to_bytes().map_err(|error| Error::Invalid {
        field: "stats",
        problem: error.to_string(),
    })?;
    // `Any::pack` would prefix the name with a host, which containerd does not look up.
    Ok(Any {
        type_url: name.to_owned(),
        value,
        ..Any::default()
    })
}

/// Named values of memory.stat.
struct MemoryValues<'a>(&'a HashMap<String, u64>);

impl MemoryValues<'_> {
    /// The first of several names under which the two cgroup versions have the same thing.
    fn get(&self, names: &[&str]) -> u64 {
        names
            .iter()
            .find_map(|name| self.0.get(*name))
            .copied()
            .unwrap_or(0)
    }
}

fn first(stats: &CgroupStats, network: &[NetworkStats]) -> v1::Metrics {
    let usage = stats.cpu_stats.cpu_usage.get_or_default();
    let throttling = stats.cpu_stats.throttling_data.get_or_default();
    let cpu = v1::CPUStat {
        usage: Some(v1::CPUUsage {
            total: usage.total_usage,
            kernel: usage.usage_in_kernelmode,
            user: usage.usage_in_usermode,
            per_cpu: usage.percpu_usage.clone(),
            ..Default::default()
        })
        .into(),
        throttling: Some(v1::Throttle {
            periods: throttling.periods,
            throttled_periods: throttling.throttled_periods,
            throttled_time: throttling.throttled_time,
            ..Default::default()
        })
        .into(),
        ..Default::default()
    };
    v1::Metrics {
        cpu: Some(cpu).into(),
        memory: Some(first_memory(stats)).into(),
        pids: Some(v1::PidsStat {
            current: stats.pids_stats.current,
            limit: stats.pids_stats.limit,
            ..Default::default()
        })
        .into(),
        network: network.iter().map(first_network).collect(),
        ..Default::default()
    }
}

fn first_memory(stats: &CgroupStats) -> v1::MemoryStat {
    let memory = stats.memory_stats.get_or_default();
    let values = MemoryValues(&memory.stats);
    let inactive_file = values.get(&["total_inactive_file", "inactive_file"]);
    let resident = values.get(&["total_rss", "rss", "anon"]);
    v1::MemoryStat {
        cache: memory.cache,
        rss: resident,
        total_rss: resident,
        inactive_file,
        total_inactive_file: inactive_file,
        active_file: values.get(&["total_active_file", "active_file"]),
        pg_fault: values.get(&["total_pgfault", "pgfault"]),
        total_pg_fault: values.get(&["total_pgfault", "pgfault"]),
        pg_maj_fault: values.get(&["total_pgmajfault", "pgmajfault"]),
        total_pg_maj_fault: values.get(&["total_pgmajfault", "pgmajfault"]),
        usage: entry(&memory.usage).into(),
        swap: entry(&memory.swap_usage).into(),
        kernel: entry(&memory.kernel_usage).into(),
        ..Default::default()
    }
}

fn entry(data: &protobuf::MessageField<MemoryData>) -> Option<v1::MemoryEntry> {
    data.as_ref().map(|data| v1::MemoryEntry {
        limit: data.limit,
        usage: data.usage,
        max: data.max_usage,
        failcnt: data.failcnt,
        ..Default::default()
    })
}

fn first_network(stats: &NetworkStats) -> v1::NetworkStat {
    v1::NetworkStat {
        name: stats.name.clone(),
        rx_bytes: stats.rx_bytes,
        rx_packets: stats.rx_packets,
        rx_errors: stats.rx_errors,
        rx_dropped: stats.rx_dropped,
        tx_bytes: stats.tx_bytes,
        tx_packets: stats.tx_packets,
        tx_errors: stats.tx_errors,
        tx_dropped: stats.tx_dropped,
        ..Default::default()
    }
}

fn second(stats: &CgroupStats) -> v2::Metrics {
    let usage = stats.cpu_stats.cpu_usage.get_or_default();
    let throttling = stats.cpu_stats.throttling_data.get_or_default();
    let cpu = v2::CPUStat {
        usage_usec: usage.total_usage / NANOSECONDS_PER_MICROSECOND,
        user_usec: usage.usage_in_usermode / NANOSECONDS_PER_MICROSECOND,
        system_usec: usage.usage_in_kernelmode / NANOSECONDS_PER_MICROSECOND,
        nr_periods: throttling.periods,
        nr_throttled: throttling.throttled_periods,
        throttled_usec: throttling.throttled_time / NANOSECONDS_PER_MICROSECOND,
        ..Default::default()
    };
    let memory = stats.memory_stats.get_or_default();
    let values = MemoryValues(&memory.stats);
    let memory = v2::MemoryStat {
        usage: memory.usage.usage,
        usage_limit: memory.usage.limit,
        max_usage: memory.usage.max_usage,
        swap_usage: memory.swap_usage.usage,
        swap_limit: memory.swap_usage.limit,
        anon: values.get(&["anon", "total_rss", "rss"]),
        file: values.get(&["file", "total_cache", "cache"]),
        shmem: values.get(&["shmem"]),
        file_mapped: values.get(&["file_mapped", "mapped_file"]),
        inactive_anon: values.get(&["inactive_anon", "total_inactive_anon"]),
        active_anon: values.get(&["active_anon", "total_active_anon"]),
        inactive_file: values.get(&["inactive_file", "total_inactive_file"]),
        active_file: values.get(&["active_file", "total_active_file"]),
        pgfault: values.get(&["pgfault", "total_pgfault"]),
        pgmajfault: values.get(&["pgmajfault", "total_pgmajfault"]),
        ..Default::default()
    };
    v2::Metrics {
        cpu: Some(cpu).into(),
        memory: Some(memory).into(),
        pids: Some(v2::PidsStat {
            current: stats.pids_stats.current,
            limit: stats.pids_stats.limit,
            ..Default::default()
        })
        .into(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use peerpods_proto::agent::{CpuStats, CpuUsage, MemoryStats};
    use protobuf::Message;

    use super::*;

    fn response() -> StatsContainerResponse {
        let usage = CpuUsage {
            total_usage: 5_000_000,
            ..Default::default()
        };
        let memory = MemoryStats {
            usage: Some(MemoryData {
                usage: 4096,
                ..Default::default()
            })
            .into(),
            stats: HashMap::from([("inactive_file".to_owned(), 1024), ("anon".to_owned(), 512)]),
            ..Default::default()
        };
        let stats = CgroupStats {
            cpu_stats: Some(CpuStats {
                cpu_usage: Some(usage).into(),
                ..Default::default()
            })
            .into(),
            memory_stats: Some(memory).into(),
            ..Default::default()
        };
        StatsContainerResponse {
            cgroup_stats: Some(stats).into(),
            ..Default::default()
        }
    }

    #[test]
    fn names_are_those_of_the_messages() {
        use protobuf::MessageFull;

        assert_eq!(FIRST, v1::Metrics::descriptor().full_name());
        assert_eq!(SECOND, v2::Metrics::descriptor().full_name());
    }

    #[test]
    fn a_node_of_each_kind_gets_its_own_form() {
        let any = metrics(&response(), CgroupVersion::V1).unwrap();
        assert_eq!(any.type_url, "io.containerd.cgroups.v1.Metrics");
        let first = v1::Metrics::parse_from_bytes(&any.value).unwrap();
        assert_eq!(
            (first.cpu.usage.total, first.memory.usage.usage),
            (5_000_000, 4096)
        );
        assert_eq!(first.memory.total_inactive_file, 1024);

        let any = metrics(&response(), CgroupVersion::V2).unwrap();
        assert_eq!(any.type_url, "io.containerd.cgroups.v2.Metrics");
        let second = v2::Metrics::parse_from_bytes(&any.value).unwrap();
        assert_eq!(
            (second.cpu.usage_usec, second.memory.usage, second.memory.anon),
            (5_000, 4096, 512)
        );
    }
}
