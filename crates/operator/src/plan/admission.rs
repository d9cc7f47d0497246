//! What changes peer pods as they are created, and which namespaces may have them.
//!
//! One of two ways is in force, the webhook or the policy; whichever is wanted is in force before the other goes. Both at once
//! do what one does: what was changed once is not changed again.

use std::time::Duration;

use k8s_openapi::{ByteString, jiff::Timestamp};
use peerpods_api::{KataConfig, PeerPodAdmission, admission::POLICY, admission::WEBHOOK_CONFIGURATION};

use super::action::{Action, Plan};
use crate::{
    certificate::with_previous,
    installation::Installation,
    managed::{Kind, ManagedObject, ObjectKey},
    manifests::{self, Certificate},
    names,
    observed::Observed,
};

/// The backend of the webhook: it goes when the API server no longer asks for it.
const BACKEND: [(Kind, &str); 5] = [
    (Kind::Deployment, names::WEBHOOK),
    (Kind::Service, names::WEBHOOK_SERVICE),
    (Kind::PodDisruptionBudget, names::WEBHOOK),
    ISSUED_CERTIFICATE,
    (Kind::Secret, names::WEBHOOK_SECRET),
];
const ISSUED_CERTIFICATE: (Kind, &str) = (Kind::Certificate, names::WEBHOOK);
const REGISTRATION: (Kind, &str) = (Kind::MutatingWebhookConfiguration, WEBHOOK_CONFIGURATION);
const MUTATION_POLICY: [(Kind, &str); 2] = [
    (Kind::MutatingAdmissionPolicyBinding, POLICY),
    (Kind::MutatingAdmissionPolicy, POLICY),
];
const NAMESPACE_POLICY: [(Kind, &str); 2] = [
    (Kind::ValidatingAdmissionPolicyBinding, names::NAMESPACE_POLICY),
    (Kind::ValidatingAdmissionPolicy, names::NAMESPACE_POLICY),
];

/// How long API servers may take until they act by a policy that is there. Each looks for new ones by itself, once a second; a
/// busy one is late.
const POLICY_DELAY: Duration = Duration::from_secs(10);

/// How far the policy is that changes pods.
enum MutationPolicy {
    Absent,
    /// It is there; this much later it is in force.
    TakenUp(Duration),
    InForce,
}

fn mutation_policy(observed: &Observed, now: Timestamp) -> MutationPolicy {
    let mut longest = Duration::ZERO;
    for (kind, name) in MUTATION_POLICY {
        let Some(object) = observed.objects.get(&ObjectKey::new(kind, name)) else {
            return MutationPolicy::Absent;
        };
        let made = object["metadata"]["creationTimestamp"].as_str();
        // The API server gives every object one.
        let Some(made) = made.and_then(|made| made.parse::<Timestamp>().ok()) else {
            continue;
        };
        // Nothing has passed for a clock that is behind the API server's.
        let passed = Duration::try_from(now.duration_since(made)).unwrap_or_default();
        longest = longest.max(POLICY_DELAY.saturating_sub(passed));
    }
    if longest.is_zero() {
        MutationPolicy::InForce
    } else {
        MutationPolicy::TakenUp(longest)
    }
}

/// The way that can be had: without the API server's help it is the webhook, whatever is asked for.
fn way(config: &KataConfig, observed: &Observed) -> PeerPodAdmission {
    if observed.unserved.contains(&Kind::MutatingAdmissionPolicy) {
        return PeerPodAdmission::Webhook;
    }
    config.spec.peer_pod_admission
}

/// The objects that are to be there now.
pub(super) fn wanted(
    config: &KataConfig,
    observed: &Observed,
    installation: &Installation,
) -> Vec<ManagedObject> {
    let mut wanted = Vec::new();
    match way(config, observed) {
        PeerPodAdmission::Policy => wanted.extend(manifests::mutation_policy()),
        PeerPodAdmission::Webhook => {
            wanted.extend(manifests::webhook(installation));
            let issued = installation.issuer.as_ref().filter(|_| is_issuer_there(observed));
            wanted.extend(issued.map(|issuer| manifests::certificate(installation, issuer)));
            if is_webhook_ready(observed)
                && let Some(mut certificate) = certificate_of(observed)
            {
                let registered = registered_authority(observed);
                certificate.authority = with_previous(&certificate.authority, registered.as_deref());
                wanted.push(manifests::registration(installation, &certificate));
            }
        }
    }
    let namespaces = config.spec.peer_pod_namespaces.as_ref();
    let enforced = namespaces.filter(|_| !observed.unserved.contains(&Kind::ValidatingAdmissionPolicy));
    // One that cannot be read changes nothing, and `problem` says so.
    wanted.extend(
        enforced
            .and_then(|allowed| manifests::namespace_policy(allowed).ok())
            .into_iter()
            .flatten(),
    );
    wanted
}

/// Removes what is no longer wanted, once what is wanted instead is in force.
pub(super) fn remove_unwanted(
    config: &KataConfig,
    observed: &Observed,
    installation: &Installation,
    now: Timestamp,
    plan: &mut Plan,
) {
    let policy = mutation_policy(observed, now);
    if let (PeerPodAdmission::Policy, MutationPolicy::TakenUp(left)) = (way(config, observed), &policy) {
        plan.look_again(*left);
    }
    let mut remove = |objects: &[(Kind, &str)]| {
        let there = objects.iter().filter(|object| is_there(observed, **object));
        plan.actions
            .extend(there.map(|(kind, name)| Action::Remove(ObjectKey::new(*kind, name))));
    };
    match (way(config, observed), policy) {
        (PeerPodAdmission::Webhook, _) if is_there(observed, REGISTRATION) => remove(&MUTATION_POLICY),
        (PeerPodAdmission::Policy, MutationPolicy::InForce) if is_there(observed, REGISTRATION) => {
            remove(&[REGISTRATION])
        }
        (PeerPodAdmission::Policy, MutationPolicy::InForce) => remove(&BACKEND),
        (PeerPodAdmission::Policy, MutationPolicy::Absent | MutationPolicy::TakenUp(_))
        | (PeerPodAdmission::Webhook, _) => {}
    }
    if installation.issuer.is_none() && is_there(observed, ISSUED_CERTIFICATE) {
        // With the Secret: the operator's own has another time, and nobody else's annotations.
        remove(&[ISSUED_CERTIFICATE, (Kind::Secret, names::WEBHOOK_SECRET)]);
    }
    if config.spec.peer_pod_namespaces.is_none() {
        remove(&NAMESPACE_POLICY);
    }
}

/// Issues the webhook's certificate, in time.
pub(super) fn certificate(
    config: &KataConfig,
    observed: &Observed,
    installation: &Installation,
    now: Timestamp,
    plan: &mut Plan,
) {
    let is_anothers = installation.issuer.is_some() || is_there(observed, ISSUED_CERTIFICATE);
    if way(config, observed) == PeerPodAdmission::Policy || is_anothers {
        return;
    }
    let current = certificate_of(observed);
    let renew_after = current.as_ref().and_then(|current| current.renew_after);
    let left = renew_after.and_then(|renew_after| renew_after.duration_since(now).try_into().ok());
    match left {
        Some(left) => plan.look_again(left),
        None => plan.add(Action::IssueCertificate {
            previous_authority: current.map(|current| current.authority),
        }),
    }
}

/// What keeps peer pods from being changed as they should be, or where they should not be from being refused.
pub(super) fn problem(config: &KataConfig, observed: &Observed) -> Option<(&'static str, String)> {
    if way(config, observed) != config.spec.peer_pod_admission {
        let why = "this API server has no MutatingAdmissionPolicy: the webhook is used; set peerPodAdmission to Webhook";
        return Some(("PolicyNotServed", why.to_owned()));
    }
    let allowed = config.spec.peer_pod_namespaces.as_ref()?;
    if observed.unserved.contains(&Kind::ValidatingAdmissionPolicy) {
        let why = "this API server has no ValidatingAdmissionPolicy: peerPodNamespaces is not enforced";
        return Some(("NamespacesNotEnforced", why.to_owned()));
    }
    let error = manifests::namespace_policy(allowed).err()?;
    Some((
        "NamespacesInvalid",
        format!("peerPodNamespaces cannot be read: {error}"),
    ))
}

/// What keeps cert-manager from issuing the webhook's certificate.
pub(super) fn missing_certificate(
    config: &KataConfig,
    observed: &Observed,
    installation: &Installation,
) -> Option<(&'static str, String)> {
    let issuer = installation.issuer.as_ref()?;
    if way(config, observed) == PeerPodAdmission::Policy || certificate_of(observed).is_some() {
        return None;
    }
    let (kind, name) = (issuer.kind.name(), &issuer.name);
    Some(if is_issuer_there(observed) {
        let why = format!(
            "{kind} {name} has issued no certificate with its authority (ca.crt) for the webhook: see Certificate {}",
            names::WEBHOOK
        );
        ("CertificateMissing", why)
    } else {
        let why = format!(
            "the webhook's certificate is to be issued by {kind} {name}, and cert-manager is not installed: install it, or unset WEBHOOK_ISSUER"
        );
        ("CertManagerMissing", why)
    })
}

fn is_issuer_there(observed: &Observed) -> bool {
    !observed.unserved.contains(&Kind::Certificate)
}

/// What the API server trusts now.
fn registered_authority(observed: &Observed) -> Option<String> {
    let key = ObjectKey::new(REGISTRATION.0, REGISTRATION.1);
    let bundle = &observed.objects.get(&key)?["webhooks"][0]["clientConfig"]["caBundle"];
    let bundle: ByteString = serde_json::from_value(bundle.clone()).ok()?;
    String::from_utf8(bundle.0).ok()
}

/// Why peer pods may not be changed as they are created; none where they are.
pub(super) fn missing(observed: &Observed, now: Timestamp) -> Option<NotChanged> {
    if is_there(observed, REGISTRATION) {
        return None;
    }
    match mutation_policy(observed, now) {
        MutationPolicy::InForce => None,
        MutationPolicy::TakenUp(_) => Some(NotChanged::PolicyNotInForce),
        MutationPolicy::Absent => Some(NotChanged::WebhookNotReady),
    }
}

/// What keeps peer pods from being changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotChanged {
    /// API servers may not act by the policy yet.
    PolicyNotInForce,
    /// No replica of the webhook answers yet.
    WebhookNotReady,
}

fn is_there(observed: &Observed, (kind, name): (Kind, &str)) -> bool {
    observed.objects.contains_key(&ObjectKey::new(kind, name))
}

fn certificate_of(observed: &Observed) -> Option<Certificate> {
    let secret = observed
        .objects
        .get(&ObjectKey::new(Kind::Secret, names::WEBHOOK_SECRET))?;
    Certificate::of_secret(secret)
}

/// Whether a replica answers: from then on the API server may ask for it.
fn is_webhook_ready(observed: &Observed) -> bool {
    let deployment = observed
        .objects
        .get(&ObjectKey::new(Kind::Deployment, names::WEBHOOK));
    deployment.is_some_and(|deployment| deployment["status"]["availableReplicas"].as_i64() > Some(0))
}
