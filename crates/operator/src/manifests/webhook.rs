//! The webhook: its backend, and its registration.

use k8s_openapi::{ByteString, jiff::Timestamp};
use peerpods_api::{
    admission::{Backend, POLICY, PodAdmission, WEBHOOK_CONFIGURATION, policy, webhook_configuration},
    names,
};
use serde_json::{Value, json};

use super::selector;
use crate::{
    installation::{Installation, Issuer},
    managed::{Kind, ManagedObject},
    names::{MANAGED_BY, MANAGER, RENEW_AFTER, WEBHOOK, WEBHOOK_SECRET, WEBHOOK_SERVICE},
    observed::Component,
};

/// Where it listens.
const PORT: u16 = 9443;
/// Where it answers probes.
const HEALTH_PORT: u16 = 8080;
/// Where the Service does.
const SERVICE_PORT: u16 = 443;
/// Where its certificate is.
const CERTIFICATES: &str = "/tmp/k8s-webhook-server/serving-certs";
/// It asks nothing of the API server.
const ACCOUNT: &str = "peer-pods-webhook";

/// The webhook's certificate, as its Secret has it; the key is not read.
pub struct Certificate {
    /// PEM text of all that clients are to trust.
    pub authority: String,
    /// When it is time for the next one; cert-manager knows by itself.
    pub renew_after: Option<Timestamp>,
}

impl Certificate {
    /// Reads a Secret; one that cannot be read is as good as none.
    pub fn of_secret(secret: &Value) -> Option<Self> {
        let data = |key: &str| serde_json::from_value::<ByteString>(secret["data"][key].clone()).ok();
        let (certificate, key) = (data("tls.crt")?, data("tls.key")?);
        if certificate.0.is_empty() || key.0.is_empty() {
            return None;
        }
        let renew_after = secret["metadata"]["annotations"][RENEW_AFTER].as_str();
        Some(Self {
            authority: String::from_utf8(data("ca.crt")?.0).ok()?,
            renew_after: renew_after.and_then(|text| text.parse().ok()),
        })
    }
}

/// The backend: two replicas on different nodes, of which one at a time may be away.
pub fn webhook(installation: &Installation) -> [ManagedObject; 3] {
    let namespace = &installation.namespace;
    let service = json!({"spec": {
        "selector": selector(Component::Webhook),
        "ports": [{"name": "https", "port": SERVICE_PORT, "targetPort": PORT, "protocol": "TCP"}],
    }});
    let budget = json!({"spec": {
        "maxUnavailable": 1,
        "selector": {"matchLabels": selector(Component::Webhook)},
    }});
    [
        ManagedObject::new(Kind::Deployment, WEBHOOK, namespace, deployment(installation)),
        ManagedObject::new(Kind::Service, WEBHOOK_SERVICE, namespace, service),
        ManagedObject::new(Kind::PodDisruptionBudget, WEBHOOK, namespace, budget),
    ]
}

fn deployment(installation: &Installation) -> Value {
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": HEALTH_PORT}, "periodSeconds": 5});
    let container = json!({
        "name": "webhook",
        "image": installation.images.webhook,
        "env": [
            {"name": "TARGET_RUNTIME_CLASS", "value": names::RUNTIME_CLASS},
            {"name": "POD_VM_EXTENDED_RESOURCE", "value": names::VM_RESOURCE},
        ],
        "ports": [{"name": "https", "containerPort": PORT, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "livenessProbe": probe("/healthz"),
        "readinessProbe": probe("/readyz"),
        "volumeMounts": [{"name": "certificate", "mountPath": CERTIFICATES, "readOnly": true}],
    });
    json!({"spec": {
        "replicas": 2,
        "selector": {"matchLabels": selector(Component::Webhook)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {
            "metadata": {"labels": selector(Component::Webhook)},
            "spec": {
                "serviceAccountName": ACCOUNT,
                "automountServiceAccountToken": false,
                "priorityClassName": "system-cluster-critical",
                "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "topologySpreadConstraints": [{
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": selector(Component::Webhook)},
                }],
                "containers": [container],
                "volumes": [{"name": "certificate", "secret": {"secretName": WEBHOOK_SECRET}}],
            },
        },
    }})
}

/// What has cert-manager issue the webhook's certificate.
pub fn certificate(installation: &Installation, issuer: &Issuer) -> ManagedObject {
    let namespace = &installation.namespace;
    let name = format!("{WEBHOOK_SERVICE}.{namespace}.svc");
    let body = json!({"spec": {
        "secretName": WEBHOOK_SECRET,
        // What has no such label is not read.
        "secretTemplate": {"labels": {(MANAGED_BY): MANAGER}},
        "dnsNames": [name, format!("{name}.cluster.local")],
        "usages": ["server auth"],
        "privateKey": {"rotationPolicy": "Always"},
        "issuerRef": {"group": "cert-manager.io", "kind": issuer.kind.name(), "name": issuer.name},
    }});
    ManagedObject::new(Kind::Certificate, WEBHOOK, namespace, body)
}

/// What makes the API server ask the webhook: for peer pods as they are created, and for nothing else.
pub fn registration(installation: &Installation, certificate: &Certificate) -> ManagedObject {
    let backend = Backend::Service {
        namespace: installation.namespace.clone(),
        name: WEBHOOK_SERVICE.to_owned(),
        port: SERVICE_PORT,
    };
    let object = webhook_configuration(&PodAdmission::default(), &backend, Some(&certificate.authority));
    let body = serde_json::to_value(object).expect("objects of Kubernetes can be written as JSON");
    ManagedObject::new(
        Kind::MutatingWebhookConfiguration,
        WEBHOOK_CONFIGURATION,
        &installation.namespace,
        body,
    )
}

/// The same without a webhook, and what makes it count.
pub fn mutation_policy() -> [ManagedObject; 2] {
    let (policy, binding) = policy(&PodAdmission::default());
    let body = |object: Result<Value, serde_json::Error>| {
        object.expect("objects of Kubernetes can be written as JSON")
    };
    let (policy, binding) = (
        body(serde_json::to_value(policy)),
        body(serde_json::to_value(binding)),
    );
    [
        ManagedObject::new(Kind::MutatingAdmissionPolicy, POLICY, "", policy),
        ManagedObject::new(Kind::MutatingAdmissionPolicyBinding, POLICY, "", binding),
    ]
}
