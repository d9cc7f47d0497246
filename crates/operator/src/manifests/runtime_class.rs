//! The runtime class, and the PeerPodConfig of a new cluster.

use peerpods_api::{PeerPodConfig, PeerPodConfigSpec, names};
use serde_json::json;

use crate::{
    installation::Installation,
    managed::{Kind, ManagedObject},
    names::{MANAGED_BY, MANAGER},
};

/// Memory of the worker node that a peer pod takes. `make bench` measures 5.7 MiB resident for the shim and at most 30 KiB
/// in the adaptor; the rest is room for the pod's network namespace and devices, which the kernel keeps outside of every
/// process, and for streams of logs and execs, whose buffers come and go.
const MEMORY: &str = "16Mi";
/// CPU of the worker node that a peer pod takes: 12.9 ms a minute at rest, measured, which is 0.2m; the rest is room for
/// streams, which cost 3 ms for each MiB at most.
const CPU: &str = "10m";

/// `kata-remote`.
pub fn runtime_class(namespace: &str) -> ManagedObject {
    let body = json!({
        "handler": names::RUNTIME_CLASS,
        "overhead": {"podFixed": {"cpu": CPU, "memory": MEMORY}},
        "scheduling": {"nodeSelector": {(names::labels::KATA_NODE): ""}},
    });
    ManagedObject::new(Kind::RuntimeClass, names::RUNTIME_CLASS, namespace, body)
}

/// What a cluster starts with: `peerpodconfig-openshift`, as today's.
pub fn peer_pod_config(installation: &Installation) -> PeerPodConfig {
    let spec = PeerPodConfigSpec {
        limit: Some(names::DEFAULT_LIMIT.to_owned()),
        node_selector: Some([(names::labels::KATA_NODE.to_owned(), String::new())].into()),
        ..PeerPodConfigSpec::default()
    };
    let mut config = PeerPodConfig::new(names::DEFAULT_PEER_POD_CONFIG, spec);
    config.metadata.namespace = Some(installation.namespace.clone());
    config.metadata.labels = Some([(MANAGED_BY.to_owned(), MANAGER.to_owned())].into());
    config
}
