//! A container's spec, made to fit the VM.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, Process, Spec};
use peerpods_proto::id::{ID_LIMIT_BYTES, is_id};

use super::{Cgroup, Limits, SandboxNamespaces};
use crate::{boot::POD_NAMESPACE, error::GuestError};

/// A container's id: one for which [`is_id`] holds, so that it can name a folder, and libcontainer's socket fits its path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ContainerId(String);

impl ContainerId {
    pub(crate) fn parse(text: &str) -> Result<Self, GuestError> {
        if is_id(text) {
            return Ok(Self(text.to_owned()));
        }
        let problem = format!("{text:?} is not 1 to {ID_LIMIT_BYTES} letters, digits, '-', '_' and '.'");
        Err(GuestError::Invalid {
            field: "container_id",
            problem,
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// containerd's own ids have at most 76; other shims may choose longer ones, and nobody needs more.
const PROCESS_ID_LIMIT: usize = 256;

/// What a shim calls a process that joined a container: any text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProcessId(String);

impl ProcessId {
    pub(crate) fn parse(text: &str) -> Result<Self, GuestError> {
        if (1..=PROCESS_ID_LIMIT).contains(&text.len()) {
            return Ok(Self(text.to_owned()));
        }
        Err(GuestError::Invalid {
            field: "exec_id",
            problem: format!("it has {} bytes, not 1 to {PROCESS_ID_LIMIT}", text.len()),
        })
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.0)
    }
}

/// Whose processes a container sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Processes {
    /// Its own.
    Own,
    /// Those of a pid namespace that exists: the pod's, or another container's.
    Of(PathBuf),
}

/// Puts the container into the pod's namespaces and a control group of its own, with its root at `rootfs`.
pub(crate) fn adapt(
    mut spec: Spec,
    container: &ContainerId,
    namespaces: &SandboxNamespaces,
    processes: &Processes,
    rootfs: &Path,
    limits: Limits,
) -> Result<Spec, GuestError> {
    let missing = |field| GuestError::Invalid {
        field,
        problem: "it is missing".to_owned(),
    };
    let mut root = spec.root().clone().unwrap_or_default();
    root.set_path(rootfs.to_owned());
    spec.set_root(Some(root));
    // The pod's namespace has the name already.
    spec.set_hostname(None);
    spec.set_hooks(None);
    let mut linux = spec.linux().clone().ok_or_else(|| missing("OCI.Linux"))?;
    linux.set_namespaces(Some(pod_namespaces(namespaces, processes)));
    linux.set_cgroups_path(Some(Cgroup::name(container)));
    match limits {
        Limits::Enforced => {}
        Limits::NotAvailable => {
            linux.set_resources(None);
        }
    }
    spec.set_linux(Some(linux));
    if spec.process().is_none() {
        return Err(missing("OCI.Process"));
    }
    Ok(spec)
}

/// Gives a process that joins a container what stock shims leave out of their request: the container's capabilities and
/// limits. One without capabilities in its spec would keep all of the VM's.
pub(crate) fn complete(mut joining: Process, first: &Process) -> Process {
    if joining.capabilities().is_none() {
        joining.set_capabilities(first.capabilities().clone());
    }
    if joining.rlimits().as_ref().is_none_or(Vec::is_empty) {
        joining.set_rlimits(first.rlimits().clone());
    }
    if joining.oom_score_adj().is_none() {
        joining.set_oom_score_adj(first.oom_score_adj());
    }
    // Nobody joins a container to gain what its own processes may not.
    if first.no_new_privileges() == Some(true) {
        joining.set_no_new_privileges(Some(true));
    }
    joining
}

fn pod_namespaces(shared: &SandboxNamespaces, processes: &Processes) -> Vec<LinuxNamespace> {
    let namespace = |kind, path: Option<PathBuf>| {
        let builder = LinuxNamespaceBuilder::default().typ(kind);
        let builder = match path {
            Some(path) => builder.path(path),
            None => builder,
        };
        builder.build().expect("a namespace needs no more than its kind")
    };
    let processes = match processes {
        Processes::Own => None,
        Processes::Of(path) => Some(path.clone()),
    };
    vec![
        namespace(LinuxNamespaceType::Network, Some(POD_NAMESPACE.into())),
        namespace(LinuxNamespaceType::Ipc, Some(shared.ipc.clone())),
        namespace(LinuxNamespaceType::Uts, Some(shared.uts.clone())),
        namespace(LinuxNamespaceType::Pid, processes),
        namespace(LinuxNamespaceType::Mount, None),
        namespace(LinuxNamespaceType::Cgroup, None),
    ]
}

/// Makes what bind mounts of a stock shim leave to the agent: a source that is not there is an empty folder.
pub(crate) fn make_missing_sources(spec: &Spec) -> Result<(), GuestError> {
    let mounts = spec.mounts().iter().flatten();
    let binds = mounts.filter(|mount| mount.typ().as_deref() == Some("bind"));
    for source in binds.filter_map(|mount| mount.source().as_ref()) {
        if !source.exists() {
            std::fs::create_dir_all(source).map_err(GuestError::file("make", source))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_left_out_only_where_none_can_be_set() {
        let container = ContainerId::parse("one").unwrap();
        let namespaces = SandboxNamespaces {
            ipc: "/ipc".into(),
            uts: "/uts".into(),
        };
        let resources = |limits| {
            let spec = adapt(
                Spec::default(),
                &container,
                &namespaces,
                &Processes::Own,
                Path::new("/rootfs"),
                limits,
            );
            spec.unwrap().linux().clone().unwrap().resources().clone()
        };
        assert!(Spec::default().linux().clone().unwrap().resources().is_some());
        assert!(resources(Limits::Enforced).is_some());
        assert!(resources(Limits::NotAvailable).is_none());
    }

    fn process(more: serde_json::Value) -> Process {
        let mut value = serde_json::json!({"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": ["true"]});
        let fields = value.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_a_stock_shim_leaves_out_of_an_exec_is_the_containers() {
        let first = process(serde_json::json!({
            "capabilities": {"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 64, "soft": 64}],
            "noNewPrivileges": true,
            "oomScoreAdj": 900,
        }));
        let completed = complete(process(serde_json::json!({"noNewPrivileges": false})), &first);
        assert_eq!(completed, first);
    }

    #[test]
    fn a_process_is_called_anything_but_nothing() {
        assert!(ProcessId::parse("any text: even/this").is_ok());
        assert!(ProcessId::parse("").is_err());
        assert!(ProcessId::parse(&"x".repeat(PROCESS_ID_LIMIT + 1)).is_err());
    }

    #[test]
    fn what_an_exec_brings_is_kept() {
        let own = process(serde_json::json!({
            "capabilities": {"bounding": ["CAP_KILL"]},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 32, "soft": 32}],
            "noNewPrivileges": true,
            "oomScoreAdj": 5,
        }));
        let first = process(serde_json::json!({"noNewPrivileges": false, "oomScoreAdj": 900}));
        assert_eq!(complete(own.clone(), &first), own);
    }
}
