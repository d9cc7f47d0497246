//! Containers: their processes, streams and ends.

mod cgroup;
mod confined;
mod helper;
mod namespaces;
mod out_of_memory;
mod pod_init;
mod process;
mod reaper;
mod spec;
mod stdio;
mod sysctl;
mod terminal;

pub(crate) use cgroup::{Cgroup, Limits, Usage};
pub(crate) use helper::{HELPER_ARGUMENT, helper_main};
pub(crate) use namespaces::SandboxNamespaces;
pub(crate) use out_of_memory::OutOfMemory;
pub(crate) use pod_init::{POD_INIT_ARGUMENT, pod_init_main, start as start_pod_init};
pub(crate) use process::{Process, ProcessOf};
pub(crate) use reaper::Reaper;
pub(crate) use spec::{ContainerId, ProcessId, Processes, adapt, complete, make_missing_sources};
pub(crate) use stdio::{Stdio, Stream};
pub(crate) use sysctl::apply as apply_sysctls;

/// Where everything of a container is: `<id>/rootfs` is mounted there, as stock shims expect.
pub(crate) const CONTAINERS: &str = "/run/kata-containers";
/// Where libcontainer keeps its state; short, because there is a socket in it.
pub(crate) const STATE: &str = "/run/containers";
