//! What installs the runtime on nodes, and what removes it: this same program, with the node's root in a folder.

use serde_json::json;

use super::selector;
use crate::{
    installation::Installation,
    managed::{Kind, ManagedObject},
    names::{NODE_INSTALL, NODE_REMOVE, RUNTIME, RUNTIME_INSTALL, RUNTIME_REMOVE},
    node_runtime::Extent,
    observed::Component,
};

/// Where the node's root is in these pods.
pub(crate) const NODE_ROOT: &str = "/host";
/// Where they answer that the work is done.
pub(crate) const READY_PORT: u16 = 8080;
/// It needs nothing of the API server, and may do nothing there.
const ACCOUNT: &str = "peerpods-node-runtime";

/// The two DaemonSets: a node's label says which of them it has a pod of.
pub fn node_runtime(installation: &Installation, extent: Extent) -> [ManagedObject; 2] {
    [
        daemon_set(
            installation,
            Component::NodeInstall,
            NODE_INSTALL,
            RUNTIME_INSTALL,
            "install-node",
            extent,
        ),
        daemon_set(
            installation,
            Component::NodeRemove,
            NODE_REMOVE,
            RUNTIME_REMOVE,
            "clean-node",
            extent,
        ),
    ]
}

fn daemon_set(
    installation: &Installation,
    component: Component,
    name: &str,
    wanted: &str,
    subcommand: &str,
    extent: Extent,
) -> ManagedObject {
    let mut arguments = vec![subcommand, "--root", NODE_ROOT];
    if extent == Extent::Shim {
        arguments.push("--shim-only");
    }
    let container = json!({
        "name": subcommand,
        "image": installation.images.node_runtime,
        "args": arguments,
        "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}},
        // It writes to the node and restarts its container runtime.
        "securityContext": {"privileged": true},
        // What it printed last is why it failed.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": READY_PORT}, "periodSeconds": 5},
        "volumeMounts": [{"name": "node", "mountPath": NODE_ROOT, "mountPropagation": "HostToContainer"}],
    });
    let body = json!({"spec": {
        "selector": {"matchLabels": selector(component)},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%"}},
        "template": {
            "metadata": {"labels": selector(component)},
            "spec": {
                "serviceAccountName": ACCOUNT,
                "automountServiceAccountToken": false,
                // To tell the container runtime from its own pod's processes.
                "hostPID": true,
                "priorityClassName": "system-node-critical",
                "nodeSelector": {(RUNTIME): wanted},
                "tolerations": [{"operator": "Exists"}],
                "containers": [container],
                "volumes": [{"name": "node", "hostPath": {"path": "/", "type": "Directory"}}],
            },
        },
    }});
    ManagedObject::new(Kind::DaemonSet, name, &installation.namespace, body)
}
