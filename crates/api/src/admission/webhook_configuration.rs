//! The registration of the webhook.

use k8s_openapi::{ByteString, api::admissionregistration::v1::MutatingWebhookConfiguration};
use serde_json::json;

use super::PodAdmission;

/// The registration's name, which is today's.
pub const WEBHOOK_CONFIGURATION: &str = "mutating-webhook-configuration";
/// The webhook's name in it, and in the API server's messages.
pub const WEBHOOK_NAME: &str = "mwebhook.peerpods.io";
/// Where the webhook answers.
pub const WEBHOOK_PATH: &str = "/mutate-v1-pod";
/// How long the API server waits for an answer, in seconds. An answer takes a millisecond; a peer pod that cannot have
/// one is better refused soon, so that its controller tries again.
const TIMEOUT_SECONDS: i32 = 5;

/// Where the API server finds the webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A Service of the cluster.
    Service {
        /// The service's namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its port.
        port: u16,
    },
    /// A URL, for tests: `https://127.0.0.1:9443/mutate-v1-pod`.
    Url(String),
}

/// The object that makes the API server ask the webhook: for peer pods as they are created, and for nothing else, so that
/// while the webhook is down every other pod is created. `authority` is the PEM text of who signed the webhook's
/// certificate; where it is absent somebody else fills it in (cert-manager, service-ca).
pub fn webhook_configuration(
    admission: &PodAdmission,
    backend: &Backend,
    authority: Option<&str>,
) -> MutatingWebhookConfiguration {
    let mut client = match backend {
        Backend::Service {
            namespace,
            name,
            port,
        } => json!({
            "service": {"namespace": namespace, "name": name, "port": port, "path": WEBHOOK_PATH},
        }),
        Backend::Url(url) => json!({"url": url}),
    };
    if let Some(authority) = authority {
        client["caBundle"] = json!(ByteString(authority.as_bytes().to_vec()));
    }
    let object = json!({
        "metadata": {"name": WEBHOOK_CONFIGURATION},
        "webhooks": [{
            "name": WEBHOOK_NAME,
            "clientConfig": client,
            // A running pod's resources cannot be changed: an update of one has nothing to ask.
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"],
                       "scope": "Namespaced"}],
            "namespaceSelector": admission.namespace_selector(),
            "matchConditions": [admission.match_condition()],
            // A peer pod that nobody changed would be counted as if it ran on the node.
            "failurePolicy": "Fail",
            // Another webhook may add a container after this one.
            "reinvocationPolicy": "IfNeeded",
            "matchPolicy": "Equivalent",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": TIMEOUT_SECONDS,
        }],
    });
    serde_json::from_value(object).expect("the object above is a registration")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::EXCLUDED_NAMES;

    #[test]
    fn the_server_is_asked_for_peer_pods_alone() {
        let backend = Backend::Service {
            namespace: "ns".into(),
            name: "webhook".into(),
            port: 443,
        };
        let object = webhook_configuration(&PodAdmission::default(), &backend, Some("PEM"));
        let webhook = &object.webhooks.as_deref().unwrap()[0];
        let condition = &webhook.match_conditions.as_deref().unwrap()[0].expression;
        assert!(condition.ends_with(r#"== "kata-remote""#), "{condition}");
        let selector = webhook.namespace_selector.as_ref().unwrap();
        let excluded = selector.match_expressions.as_deref().unwrap()[0]
            .values
            .as_deref()
            .unwrap();
        assert_eq!(excluded.len(), EXCLUDED_NAMES);
        assert!(excluded.contains(&"openshift-vsphere-infra".to_owned()));
        assert!(!excluded.contains(&"default".to_owned()));
    }
}
