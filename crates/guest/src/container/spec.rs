//! A container's spec, made to fit the VM.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, Spec};

use super::{Cgroup, Limits, SandboxNamespaces};
use crate::{boot::POD_NAMESPACE, error::GuestError};

/// What containerd gives has 64; libcontainer's socket must fit a path of 107 bytes.
const ID_LIMIT: usize = 72;

/// A container's or process's id: letters, digits, `-`, `_` and `.`, so that it can name a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ContainerId(String);

impl ContainerId {
    pub(crate) fn parse(text: &str) -> Result<Self, GuestError> {
        let first = text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric());
        let rest = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if first && rest && text.len() <= ID_LIMIT {
            return Ok(Self(text.to_owned()));
        }
        let problem = format!("{text:?} is not 1 to {ID_LIMIT} letters, digits, '-', '_' and '.'");
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
}
