//! What happens to peer pods as they are created: what both the webhook and the policy are told, and the objects that
//! register them with the API server.

mod excluded;
mod expressions;
mod policy;
mod webhook_configuration;

pub use self::{
    excluded::{EXCLUDED_NAMES, excluded_namespaces},
    policy::{POLICY, policy},
    webhook_configuration::{
        Backend, WEBHOOK_CONFIGURATION, WEBHOOK_NAME, WEBHOOK_PATH, webhook_configuration,
    },
};

use std::collections::BTreeSet;

use serde_json::json;

use crate::names;

/// Which pods are changed, and what they get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodAdmission {
    /// The `runtimeClassName` of peer pods; all others are left alone.
    pub runtime_class: String,
    /// The extended resource of which every peer pod takes one.
    pub vm_resource: String,
    /// Namespaces whose pods are left alone: the cluster's own, which must start when nothing else runs yet.
    pub excluded_namespaces: BTreeSet<String>,
}

impl Default for PodAdmission {
    fn default() -> Self {
        Self {
            runtime_class: names::RUNTIME_CLASS.to_owned(),
            vm_resource: names::VM_RESOURCE.to_owned(),
            excluded_namespaces: excluded_namespaces(),
        }
    }
}

impl PodAdmission {
    /// Takes all namespaces but the excluded ones.
    fn namespace_selector(&self) -> serde_json::Value {
        if self.excluded_namespaces.is_empty() {
            return json!({});
        }
        json!({"matchExpressions": [{
            "key": names::labels::NAMESPACE_NAME, "operator": "NotIn", "values": self.excluded_namespaces,
        }]})
    }

    /// CEL: whether a pod is one of ours.
    fn match_condition(&self) -> serde_json::Value {
        let class = cel_text(&self.runtime_class);
        json!({
            "name": "is-a-peer-pod",
            "expression": format!("has(object.spec.runtimeClassName) && object.spec.runtimeClassName == {class}"),
        })
    }
}

/// A text as CEL writes it.
fn cel_text(text: &str) -> String {
    // JSON's escapes are CEL's.
    serde_json::Value::from(text).to_string()
}
