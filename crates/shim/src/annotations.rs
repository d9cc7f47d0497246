//! Annotations of an OCI spec by which containerd and CRI-O tell what a container is.

use std::collections::HashMap;

use crate::error::Error;

const CONTAINERD_TYPE: &str = "io.kubernetes.cri.container-type";
const CRIO_TYPE: &str = "io.kubernetes.cri-o.ContainerType";
const CONTAINERD_SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";
const CRIO_SANDBOX_ID: &str = "io.kubernetes.cri-o.SandboxID";
const CONTAINERD_IMAGE: &str = "io.kubernetes.cri.image-name";
const CRIO_IMAGE: &str = "io.kubernetes.cri-o.ImageName";
const CONTAINERD_NAME: &str = "io.kubernetes.cri.container-name";
const CRIO_NAME: &str = "io.kubernetes.cri-o.ContainerName";
const SANDBOX_NAME: &str = "io.kubernetes.cri.sandbox-name";
const SANDBOX_NAMESPACE: &str = "io.kubernetes.cri.sandbox-namespace";
const SANDBOX_UID: &str = "io.kubernetes.cri.sandbox-uid";
const CRIO_KUBE_NAME: &str = "io.kubernetes.cri-o.KubeName";
const CRIO_KUBE_NAMESPACE: &str = "io.kubernetes.cri-o.Namespace";
const CPU_QUOTA: &str = "io.kubernetes.cri.sandbox-cpu-quota";
const CPU_PERIOD: &str = "io.kubernetes.cri.sandbox-cpu-period";
const MEMORY: &str = "io.kubernetes.cri.sandbox-memory";
const HYPERVISOR: &str = "io.katacontainers.config.hypervisor.";

/// Shape annotations that pass from the pod to the adaptor as they are.
const PASSED_ON: [&str; 5] = [
    "machine_type",
    "image",
    "cc_init_data",
    "default_gpus",
    "default_gpu_model",
];

/// Bytes in the unit of `default_memory`.
const MEBIBYTE: u64 = 1 << 20;

/// Annotations of one spec.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Annotations<'a>(pub(crate) &'a HashMap<String, String>);

/// What a container is to its pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContainerKind {
    /// The pod's sandbox ("pause") container, which brings up the virtual machine.
    Sandbox,
    /// A container in the sandbox of this id.
    InSandbox(String),
    /// A container outside any pod: sandbox and workload at once.
    Single,
}

impl<'a> Annotations<'a> {
    fn first(&self, names: &[&str]) -> Option<&'a str> {
        names
            .iter()
            .find_map(|name| self.0.get(*name))
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    pub(crate) fn kind(&self) -> Result<ContainerKind, Error> {
        match self.first(&[CONTAINERD_TYPE, CRIO_TYPE]) {
            None => Ok(ContainerKind::Single),
            Some("sandbox") => Ok(ContainerKind::Sandbox),
            Some("container") => match self.first(&[CONTAINERD_SANDBOX_ID, CRIO_SANDBOX_ID]) {
                Some(id) => Ok(ContainerKind::InSandbox(id.to_owned())),
                None => Err(Error::Invalid {
                    field: CONTAINERD_SANDBOX_ID,
                    problem: "missing on a container of a pod".into(),
                }),
            },
            Some(other) => Err(Error::Invalid {
                field: CONTAINERD_TYPE,
                problem: format!("{other:?} is neither sandbox nor container"),
            }),
        }
    }

    /// The image that the guest pulls for this container.
    pub(crate) fn image(&self, kind: &ContainerKind) -> Result<&'a str, Error> {
        match kind {
            ContainerKind::Sandbox => Ok("pause"),
            ContainerKind::InSandbox(_) | ContainerKind::Single => {
                self.first(&[CONTAINERD_IMAGE, CRIO_IMAGE]).ok_or(Error::Invalid {
                    field: CONTAINERD_IMAGE,
                    problem: "missing, so the image to pull is unknown".into(),
                })
            }
        }
    }

    /// The container's name in its pod, for people.
    pub(crate) fn container_name(&self) -> Option<&'a str> {
        self.first(&[CONTAINERD_NAME, CRIO_NAME])
    }

    /// The pod's namespace and name. A container outside any pod is named after itself, because the adaptor insists on a name.
    pub(crate) fn pod(&self, sandbox: &'a str) -> (&'a str, &'a str) {
        let name = self.first(&[SANDBOX_NAME, CRIO_KUBE_NAME]).unwrap_or(sandbox);
        let namespace = self.first(&[SANDBOX_NAMESPACE, CRIO_KUBE_NAMESPACE]);
        (namespace.unwrap_or("default"), name)
    }

    /// What the adaptor is told about the pod. Absent values are sent empty, as stock shims do.
    pub(crate) fn for_adaptor(&self, sandbox: &'a str) -> HashMap<String, String> {
        let mut sent = HashMap::new();
        let (namespace, name) = self.pod(sandbox);
        sent.insert(SANDBOX_NAME.to_owned(), name.to_owned());
        sent.insert(SANDBOX_NAMESPACE.to_owned(), namespace.to_owned());
        if let Some(uid) = self.first(&[SANDBOX_UID]) {
            sent.insert(SANDBOX_UID.to_owned(), uid.to_owned());
        }
        for key in PASSED_ON {
            let key = format!("{HYPERVISOR}{key}");
            let value = self.0.get(&key).cloned().unwrap_or_default();
            sent.insert(key, value);
        }
        sent.insert(
            format!("{HYPERVISOR}default_vcpus"),
            self.virtual_cpus().to_string(),
        );
        sent.insert(
            format!("{HYPERVISOR}default_memory"),
            self.memory_mebibytes().to_string(),
        );
        sent
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.0.get(key)?.trim().parse().ok()
    }

    /// What the pod asks for on top of what its annotation names as the base.
    fn virtual_cpus(&self) -> u64 {
        let base: u64 = self.number(&format!("{HYPERVISOR}default_vcpus")).unwrap_or(0);
        let quota: i64 = self.number(CPU_QUOTA).unwrap_or(0);
        let period: u64 = self.number(CPU_PERIOD).unwrap_or(0);
        let workload = match (u64::try_from(quota), period) {
            (Ok(quota), 1..) => quota.div_ceil(period),
            _ => 0,
        };
        base.saturating_add(workload)
    }

    fn memory_mebibytes(&self) -> u64 {
        let base: u64 = self.number(&format!("{HYPERVISOR}default_memory")).unwrap_or(0);
        let workload: i64 = self.number(MEMORY).unwrap_or(0);
        base.saturating_add(u64::try_from(workload).unwrap_or(0).div_ceil(MEBIBYTE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn containers_of_both_runtimes_find_their_sandbox() {
        for (kind, sandbox) in [
            (CONTAINERD_TYPE, CONTAINERD_SANDBOX_ID),
            (CRIO_TYPE, CRIO_SANDBOX_ID),
        ] {
            let map = annotations(&[(kind, "container"), (sandbox, "abc")]);
            assert_eq!(
                Annotations(&map).kind().unwrap(),
                ContainerKind::InSandbox("abc".into())
            );
        }
        assert_eq!(
            Annotations(&annotations(&[])).kind().unwrap(),
            ContainerKind::Single
        );
        assert!(
            Annotations(&annotations(&[(CONTAINERD_TYPE, "container")]))
                .kind()
                .is_err()
        );
    }

    #[test]
    fn limits_of_the_pod_size_its_machine() {
        let map = annotations(&[
            (CPU_QUOTA, "150000"),
            (CPU_PERIOD, "100000"),
            (MEMORY, "536870912"),
        ]);
        let sent = Annotations(&map).for_adaptor("abc");
        assert_eq!(sent[&format!("{HYPERVISOR}default_vcpus")], "2");
        assert_eq!(sent[&format!("{HYPERVISOR}default_memory")], "512");
        assert_eq!(sent[&format!("{HYPERVISOR}machine_type")], "");
    }

    #[test]
    fn a_pod_without_limits_asks_for_nothing() {
        let sent = Annotations(&annotations(&[(CPU_QUOTA, "-1"), (CPU_PERIOD, "0")])).for_adaptor("abc");
        assert_eq!(sent[&format!("{HYPERVISOR}default_vcpus")], "0");
        assert_eq!(sent[SANDBOX_NAME], "abc");
        assert_eq!(sent.len(), 9);
    }
}
