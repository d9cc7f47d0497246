//! One VM, as commands show it: of its PeerPod, and of the annotations of its pod.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{Api, api::ListParams};
use peerpods_api::{
    PeerPod,
    names::annotations::{DEFAULT_MEMORY, DEFAULT_VCPUS, MACHINE_TYPE},
};
use serde::Serialize;

use super::connection::{Cluster, all};

/// A pod, by namespace and name.
pub(super) type PodKey = (String, String);

/// A VM.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Machine {
    pub(super) namespace: String,
    /// The pod that owns the PeerPod.
    pub(super) pod: String,
    pub(super) peer_pod: String,
    pub(super) node: Option<String>,
    pub(super) phase: Option<String>,
    pub(super) instance: Option<String>,
    pub(super) addresses: Vec<String>,
    /// The provider's name for it, or what the pod asks for.
    pub(super) size: Option<String>,
    pub(super) provider: Option<String>,
    pub(super) sandbox: Option<String>,
    pub(super) created: Option<Timestamp>,
    pub(super) message: Option<String>,
}

impl Machine {
    /// Of its object, and of its pod's annotations where the pod is still there.
    pub(super) fn of(object: &PeerPod, annotations: Option<&BTreeMap<String, String>>) -> Self {
        let (spec, status) = (&object.spec, object.status.clone().unwrap_or_default());
        let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Self {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            pod: pod_of(object),
            peer_pod: object.metadata.name.clone().unwrap_or_default(),
            node: said(&spec.node_name),
            phase: status.phase.map(|phase| format!("{phase:?}")),
            instance: said(&status.instance_id).or(said(&spec.instance_id)),
            addresses: status.addresses,
            size: said(&status.instance_type).or_else(|| annotations.map(size_asked_for)),
            provider: said(&spec.cloud_provider),
            sandbox: said(&spec.sandbox_id),
            created: object.metadata.creation_timestamp.as_ref().map(|time| time.0),
            message: said(&status.message),
        }
    }

    pub(super) fn key(&self) -> PodKey {
        (self.namespace.clone(), self.pod.clone())
    }
}

/// The name of the pod that owns it; today's adaptors and ours begin an object's name with it.
pub(super) fn pod_of(object: &PeerPod) -> String {
    let owners = object.metadata.owner_references.iter().flatten();
    let owner = owners.into_iter().find(|owner| owner.kind == "Pod");
    let name = object.metadata.name.as_deref().unwrap_or_default();
    owner.map_or_else(
        || {
            name.rsplit_once("-resource-")
                .map_or(name, |(pod, _)| pod)
                .to_owned()
        },
        |owner| owner.name.clone(),
    )
}

fn size_asked_for(annotations: &BTreeMap<String, String>) -> String {
    let parts = [(DEFAULT_VCPUS, "vCPU"), (DEFAULT_MEMORY, "MiB")];
    let asked = || {
        let known = parts
            .iter()
            .filter_map(|(key, unit)| Some(format!("{} {unit}", annotations.get(*key)?)));
        known.collect::<Vec<_>>().join(", ")
    };
    let size = annotations.get(MACHINE_TYPE).cloned().unwrap_or_else(asked);
    if size.is_empty() {
        "default".to_owned()
    } else {
        size
    }
}

/// The VMs of these objects. Of pods only names and annotations are read, and only in namespaces that have VMs.
pub(super) async fn machines(cluster: &Cluster, objects: &[PeerPod]) -> Result<Vec<Machine>> {
    let namespaces: BTreeSet<_> = objects
        .iter()
        .filter_map(|object| object.metadata.namespace.as_deref())
        .collect();
    let mut annotations = BTreeMap::new();
    for namespace in namespaces {
        let api: Api<Pod> = cluster.api(Some(namespace));
        let action = format!("list the pods of namespace {namespace}");
        let pods = all(&action, ListParams::default(), async |page| {
            api.list_metadata(page).await
        });
        for pod in pods.await? {
            let name = pod.metadata.name.unwrap_or_default();
            annotations.insert(
                (namespace.to_owned(), name),
                pod.metadata.annotations.unwrap_or_default(),
            );
        }
    }
    let machine = |object: &PeerPod| {
        let namespace = object.metadata.namespace.clone().unwrap_or_default();
        Machine::of(object, annotations.get(&(namespace, pod_of(object))))
    };
    let mut machines: Vec<_> = objects.iter().map(machine).collect();
    machines.sort_by_key(Machine::key);
    Ok(machines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_what_the_pod_asks_for() {
        let size = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            size_asked_for(&pairs.collect())
        };
        assert_eq!(size(&[]), "default");
        assert_eq!(size(&[(DEFAULT_VCPUS, "2")]), "2 vCPU");
        assert_eq!(
            size(&[(DEFAULT_VCPUS, "2"), (DEFAULT_MEMORY, "512")]),
            "2 vCPU, 512 MiB"
        );
        assert_eq!(
            size(&[(DEFAULT_VCPUS, "2"), (MACHINE_TYPE, "t3.large")]),
            "t3.large"
        );
    }

    #[test]
    fn the_providers_name_of_a_size_goes_first() {
        let mut object = PeerPod::new("web-resource-1a2b3c4d5e", peerpods_api::PeerPodSpec::default());
        let annotations = BTreeMap::from([(DEFAULT_VCPUS.to_owned(), "2".to_owned())]);
        let size = |object: &PeerPod| Machine::of(object, Some(&annotations)).size;
        assert_eq!(size(&object).as_deref(), Some("2 vCPU"));
        object.status = Some(peerpods_api::PeerPodStatus {
            instance_type: Some("m6a.large".to_owned()),
            ..Default::default()
        });
        assert_eq!(size(&object).as_deref(), Some("m6a.large"));
    }

    #[test]
    fn an_object_without_an_owner_tells_its_pod_by_its_name() {
        let mut object = PeerPod::new("web-0-resource-1a2b3c4d5e", peerpods_api::PeerPodSpec::default());
        assert_eq!(pod_of(&object), "web-0");
        object.metadata.name = Some("other".to_owned());
        assert_eq!(pod_of(&object), "other");
    }
}
