//! What OpenShift's nodes are configured by.

use k8s_openapi::ByteString;
use peerpods_api::names::labels::KATA_NODE;
use serde_json::json;

use crate::{
    managed::{Kind, ManagedObject},
    names::{MACHINE_CONFIG, POOL, WORKER_POOL},
    node_runtime,
};

/// By which a pool finds its MachineConfigs.
const ROLE: &str = "machineconfiguration.openshift.io/role";
/// Every Machine Config Operator since OpenShift 4.6 takes it.
const IGNITION: &str = "3.2.0";
const FILE_MODE: u32 = 0o644;

/// CRI-O's configuration, for the nodes of a pool.
pub fn machine_config(pool: &str) -> ManagedObject {
    let (path, text) = node_runtime::crio_drop_in();
    // It writes itself in base64.
    let content = json!(ByteString(text.into_bytes()));
    let content = content.as_str().unwrap_or_default();
    let file = json!({
        "path": path,
        "mode": FILE_MODE,
        "overwrite": true,
        "contents": {"source": format!("data:text/plain;charset=utf-8;base64,{content}")},
    });
    let body = json!({
        "metadata": {"labels": {(ROLE): pool}},
        "spec": {"config": {"ignition": {"version": IGNITION}, "storage": {"files": [file]}}},
    });
    ManagedObject::new(Kind::MachineConfig, MACHINE_CONFIG, "", body)
}

/// The pool of nodes that run peer pods: workers with our configuration.
pub fn machine_config_pool() -> ManagedObject {
    let roles = json!([{"key": ROLE, "operator": "In", "values": [WORKER_POOL, POOL]}]);
    let body = json!({"spec": {
        "machineConfigSelector": {"matchExpressions": roles},
        "nodeSelector": {"matchLabels": {(KATA_NODE): ""}},
    }});
    ManagedObject::new(Kind::MachineConfigPool, POOL, "", body)
}
