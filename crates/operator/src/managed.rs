//! The kinds of objects that the operator makes, changes and removes.

use std::fmt;

use kube::api::{ApiResource, GroupVersionKind};
use peerpods_api::{
    admission::{POLICY, WEBHOOK_CONFIGURATION},
    names::RUNTIME_CLASS,
};
use ring::digest;
use serde_json::{Value, json};

use crate::names;

const ADMISSION: &str = "admissionregistration.k8s.io";
/// OpenShift's, where it has it.
pub(crate) const MACHINE_CONFIGURATION: &str = "machineconfiguration.openshift.io";

/// A kind of object that the operator makes. Watches, writes and permissions are all made from this table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Of the adaptor, and of what installs and removes the runtime.
    DaemonSet,
    /// It publishes the VM image.
    Job,
    /// Of the webhook.
    Deployment,
    /// Of the webhook.
    Service,
    /// Of the webhook.
    PodDisruptionBudget,
    /// The webhook's certificate.
    Secret,
    /// cert-manager: what is to be in that Secret.
    Certificate,
    /// `kata-remote`.
    RuntimeClass,
    /// The webhook's.
    MutatingWebhookConfiguration,
    /// What changes peer pods without a webhook; from Kubernetes 1.36 on.
    MutatingAdmissionPolicy,
    /// It makes that count.
    MutatingAdmissionPolicyBinding,
    /// Which namespaces may have peer pods; from Kubernetes 1.30 on.
    ValidatingAdmissionPolicy,
    /// It makes that count.
    ValidatingAdmissionPolicyBinding,
    /// OpenShift: what is configured on nodes of a pool.
    MachineConfig,
    /// OpenShift: nodes that are configured alike.
    MachineConfigPool,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::DaemonSet,
        Self::Job,
        Self::Deployment,
        Self::Service,
        Self::PodDisruptionBudget,
        Self::Secret,
        Self::Certificate,
        Self::RuntimeClass,
        Self::MutatingWebhookConfiguration,
        Self::MutatingAdmissionPolicy,
        Self::MutatingAdmissionPolicyBinding,
        Self::ValidatingAdmissionPolicy,
        Self::ValidatingAdmissionPolicyBinding,
        Self::MachineConfig,
        Self::MachineConfigPool,
    ];

    /// Group, version, name and plural.
    fn parts(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::DaemonSet => ("apps", "v1", "DaemonSet", "daemonsets"),
            Self::Job => ("batch", "v1", "Job", "jobs"),
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::PodDisruptionBudget => ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
            Self::Secret => ("", "v1", "Secret", "secrets"),
            Self::Certificate => ("cert-manager.io", "v1", "Certificate", "certificates"),
            Self::RuntimeClass => ("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses"),
            Self::MutatingWebhookConfiguration => (
                ADMISSION,
                "v1",
                "MutatingWebhookConfiguration",
                "mutatingwebhookconfigurations",
            ),
            Self::MutatingAdmissionPolicy => (
                ADMISSION,
                "v1",
                "MutatingAdmissionPolicy",
                "mutatingadmissionpolicies",
            ),
            Self::MutatingAdmissionPolicyBinding => (
                ADMISSION,
                "v1",
                "MutatingAdmissionPolicyBinding",
                "mutatingadmissionpolicybindings",
            ),
            Self::ValidatingAdmissionPolicy => (
                ADMISSION,
                "v1",
                "ValidatingAdmissionPolicy",
                "validatingadmissionpolicies",
            ),
            Self::ValidatingAdmissionPolicyBinding => (
                ADMISSION,
                "v1",
                "ValidatingAdmissionPolicyBinding",
                "validatingadmissionpolicybindings",
            ),
            Self::MachineConfig => (MACHINE_CONFIGURATION, "v1", "MachineConfig", "machineconfigs"),
            Self::MachineConfigPool => (
                MACHINE_CONFIGURATION,
                "v1",
                "MachineConfigPool",
                "machineconfigpools",
            ),
        }
    }

    /// The API group; empty for the core's.
    pub fn group(self) -> &'static str {
        self.parts().0
    }

    /// The name in URLs and in permissions.
    pub fn plural(self) -> &'static str {
        self.parts().3
    }

    /// Whether objects of this kind are in the operator's namespace, or of the whole cluster.
    pub fn namespaced(self) -> bool {
        match self {
            Self::DaemonSet
            | Self::Job
            | Self::Deployment
            | Self::Service
            | Self::PodDisruptionBudget
            | Self::Secret
            | Self::Certificate => true,
            Self::RuntimeClass
            | Self::MutatingWebhookConfiguration
            | Self::MutatingAdmissionPolicy
            | Self::MutatingAdmissionPolicyBinding
            | Self::ValidatingAdmissionPolicy
            | Self::ValidatingAdmissionPolicyBinding
            | Self::MachineConfig
            | Self::MachineConfigPool => false,
        }
    }

    /// The names of all objects of this kind that the operator makes.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::DaemonSet => &[names::ADAPTOR, names::NODE_INSTALL, names::NODE_REMOVE],
            Self::Job => &[names::IMAGE_PUBLISHER],
            Self::Deployment | Self::PodDisruptionBudget | Self::Certificate => &[names::WEBHOOK],
            Self::Service => &[names::WEBHOOK_SERVICE],
            Self::Secret => &[names::WEBHOOK_SECRET],
            Self::RuntimeClass => &[RUNTIME_CLASS],
            Self::MutatingWebhookConfiguration => &[WEBHOOK_CONFIGURATION],
            Self::MutatingAdmissionPolicy | Self::MutatingAdmissionPolicyBinding => &[POLICY],
            Self::ValidatingAdmissionPolicy | Self::ValidatingAdmissionPolicyBinding => {
                &[names::NAMESPACE_POLICY]
            }
            Self::MachineConfig => &[names::MACHINE_CONFIG],
            Self::MachineConfigPool => &[names::POOL],
        }
    }

    /// The name, where there is but one: then nothing else of this kind needs to be seen.
    pub fn only_name(self) -> Option<&'static str> {
        match self.names() {
            [name] => Some(name),
            _ => None,
        }
    }

    /// What a client needs to know of it.
    pub fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = self.parts();
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    }
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// The object of this kind and name.
    pub fn new(kind: Kind, name: &str) -> Self {
        Self {
            kind,
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} {}", self.kind, self.name)
    }
}

/// An object as it is wanted: what the operator says of it, and nothing more.
#[derive(Clone, Debug, PartialEq)]
pub struct ManagedObject {
    /// Which one.
    pub key: ObjectKey,
    /// The object, with kind and name, the operator's label and the hash of the rest.
    pub body: Value,
}

impl ManagedObject {
    /// Completes `body`, which needs neither kind nor metadata. Its content's hash is kept with it: a field that a newer
    /// version of the operator no longer asks for makes a difference too.
    pub fn new(kind: Kind, name: &str, namespace: &str, mut body: Value) -> Self {
        let (group, version, kind_name, _) = kind.parts();
        let api_version = if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        };
        body["apiVersion"] = json!(api_version);
        body["kind"] = json!(kind_name);
        let revision = revision(body.to_string().as_bytes());
        body["metadata"]["name"] = json!(name);
        if kind.namespaced() {
            body["metadata"]["namespace"] = json!(namespace);
        }
        body["metadata"]["labels"][names::MANAGED_BY] = json!(names::MANAGER);
        body["metadata"]["annotations"][names::REVISION] = json!(revision);
        Self {
            key: ObjectKey::new(kind, name),
            body,
        }
    }

    /// Whether `there` has all that is wanted; what the API server and others added is no difference.
    pub fn is_in(&self, there: &Value) -> bool {
        contains(there, &self.body)
    }
}

/// A short hash: what is different has a different one.
pub fn revision(content: &[u8]) -> String {
    /// 64 bits: differences are between the few states of one object.
    const BYTES: usize = 8;
    hex::encode(&digest::digest(&digest::SHA256, content).as_ref()[..BYTES])
}

fn contains(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => wanted.iter().all(|(name, wanted)| {
            there
                .get(name)
                .map_or_else(|| is_nothing(wanted), |there| contains(there, wanted))
        }),
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() == wanted.len()
                && there
                    .iter()
                    .zip(wanted)
                    .all(|(there, wanted)| contains(there, wanted))
        }
        _ => there == wanted,
    }
}

/// The API server leaves out what is empty.
fn is_nothing(wanted: &Value) -> bool {
    match wanted {
        Value::Object(fields) => fields.values().all(is_nothing),
        Value::Array(items) => items.is_empty(),
        Value::Null => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_added_is_no_difference_and_what_is_missing_is() {
        let wanted = ManagedObject::new(
            Kind::Service,
            "web",
            "ns",
            json!({"spec": {"ports": [{"port": 443}]}}),
        );
        let mut there = wanted.body.clone();
        there["spec"]["clusterIP"] = json!("10.0.0.1");
        there["spec"]["ports"][0]["protocol"] = json!("TCP");
        assert!(wanted.is_in(&there));
        there["spec"]["ports"][0]["port"] = json!(444);
        assert!(!wanted.is_in(&there));
    }

    #[test]
    fn a_field_that_is_no_longer_wanted_is_a_difference() {
        let of = |spec| ManagedObject::new(Kind::DaemonSet, "a", "ns", json!({ "spec": spec }));
        let (before, after) = (of(json!({"a": 1, "b": 2})), of(json!({"a": 1})));
        assert!(before.is_in(&before.body) && !after.is_in(&before.body));
    }
}
