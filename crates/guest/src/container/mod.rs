//! Containers: their processes, streams and ends.

mod cgroup;
mod helper;
mod namespaces;
mod process;
mod reaper;
mod spec;
mod stdio;
mod terminal;
mod unsafe_register;

pub(crate) use cgroup::{Cgroup, Limits, Usage};
pub(crate) use helper::{HELPER_ARGUMENT, helper_main};
pub(crate) use namespaces::SandboxNamespaces;
pub(crate) use process::{Process, ProcessOf};
pub(crate) use reaper::Reaper;
pub(crate) use spec::{ContainerId, adapt, make_missing_sources};
pub(crate) use stdio::{Stdio, Stream};

/// Where everything of a container is: `<id>/rootfs` is mounted there, as stock shims expect.
pub(crate) const CONTAINERS: &str = "/run/kata-containers";
/// Where libcontainer keeps its state; short, because there is a socket in it.
pub(crate) const STATE: &str = "/run/containers";
