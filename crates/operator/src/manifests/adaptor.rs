//! The node daemon.

use peerpods_api::names::{self, node_folders};
use serde_json::json;

use super::selector;
use crate::{
    installation::Installation,
    managed::{Kind, ManagedObject, revision},
    names::{ADAPTOR, SETTINGS_REVISION},
    observed::{Component, Observed},
};

/// Its service account; what it may do is in `permissions`.
const ACCOUNT: &str = "cloud-api-adaptor";

/// Registry credentials for the images of all pods, as today's.
const REGISTRIES_SECRET: &str = "auth-json-secret";

/// The adaptor on every node that runs peer pods. With other settings it is another template, so that Kubernetes replaces
/// the pods: the VMs go on.
pub fn adaptor(installation: &Installation, observed: &Observed, log_level: &str) -> ManagedObject {
    let host_path = |name: &str, path: &str| json!({"name": name, "hostPath": {"path": path, "type": "DirectoryOrCreate"}});
    let container = json!({
        "name": "cloud-api-adaptor",
        "image": installation.images.adaptor,
        "env": [
            {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "CLUSTER_ID", "value": installation.cluster_id},
            {"name": "LOG_LEVEL", "value": log_level},
            // VMs of QEMU outlive this pod: a new version takes up those of the old one.
            {"name": "QEMU_PLACEMENT", "value": "node"},
        ],
        "envFrom": [
            {"configMapRef": {"name": names::SETTINGS_CONFIG_MAP}},
            // Providers that need no credentials have none.
            {"secretRef": {"name": names::CLOUD_SECRET, "optional": true}},
        ],
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}},
        // It makes network devices in pods' namespaces and, with QEMU, VMs.
        "securityContext": {"privileged": true},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "run", "mountPath": "/run/peerpod", "mountPropagation": "Bidirectional"},
            {"name": "namespaces", "mountPath": "/run/netns", "mountPropagation": "HostToContainer"},
            {"name": "journal", "mountPath": node_folders::JOURNAL},
            {"name": "registries", "mountPath": "/root/containers", "readOnly": true},
        ],
    });
    let body = json!({"spec": {
        "selector": {"matchLabels": selector(Component::Adaptor)},
        // Pods and VMs go on without it; only what starts at that moment waits.
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%"}},
        "template": {
            "metadata": {
                "labels": selector(Component::Adaptor),
                "annotations": {(SETTINGS_REVISION): settings_revision(observed)},
            },
            "spec": {
                "serviceAccountName": ACCOUNT,
                "hostNetwork": true,
                // QEMU is the node's, and what runs it is found by its process.
                "hostPID": true,
                "dnsPolicy": "ClusterFirstWithHostNet",
                "priorityClassName": "system-node-critical",
                "nodeSelector": {(names::labels::KATA_NODE): ""},
                // A peer pod that tolerates a taint needs its adaptor there.
                "tolerations": [{"operator": "Exists"}],
                "containers": [container],
                "volumes": [
                    host_path("run", "/run/peerpod"),
                    host_path("namespaces", "/run/netns"),
                    host_path("journal", node_folders::JOURNAL),
                    // Credentials for the images of all pods, in auth.json.
                    {"name": "registries", "secret": {"secretName": REGISTRIES_SECRET, "optional": true}},
                ],
            },
        },
    }});
    ManagedObject::new(Kind::DaemonSet, ADAPTOR, &installation.namespace, body)
}

/// Of all that adaptors, and what publishes images, read as they start: the limit is read by the operator alone. Of credentials it is their version,
/// for a hash of them would be a trace of them.
pub(super) fn settings_revision(observed: &Observed) -> String {
    let settings = observed
        .settings
        .iter()
        .flatten()
        .filter(|(key, _)| *key != names::LIMIT_SETTING);
    let settings: Vec<_> = settings.collect();
    let credentials = observed
        .credentials
        .as_ref()
        .map(|credentials| &credentials.version);
    revision(json!([settings, credentials]).to_string().as_bytes())
}
