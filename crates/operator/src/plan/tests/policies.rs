//! Rules for what takes the place of the webhook, and for the namespaces of peer pods.

use peerpods_api::{
    PeerPodAdmission, PeerPodNamespaces,
    admission::{POLICY, WEBHOOK_CONFIGURATION},
    names::conditions,
};

use super::{World, installed};
use crate::{managed::Kind, names};

#[test]
fn the_policy_takes_the_place_of_the_webhook_and_the_other_way_round() {
    let mut world = installed(&["one"]);
    let changed = |world: &World| {
        (
            world
                .object(Kind::MutatingWebhookConfiguration, WEBHOOK_CONFIGURATION)
                .is_some(),
            world.object(Kind::Deployment, names::WEBHOOK).is_some(),
            world
                .object(Kind::MutatingAdmissionPolicyBinding, POLICY)
                .is_some(),
        )
    };
    assert_eq!(changed(&world), (true, true, false));
    world.config_mut().spec.peer_pod_admission = PeerPodAdmission::Policy;
    world.log.clear();
    world.settle();
    assert_eq!(changed(&world), (false, false, true));
    let at = |what: &str| world.log.iter().position(|line| line.starts_with(what)).unwrap();
    assert!(at("apply MutatingAdmissionPolicyBinding") < at("remove MutatingWebhookConfiguration"));
    assert!(at("remove MutatingWebhookConfiguration") < at("remove Deployment"));
    assert_eq!(world.condition(conditions::READY).status, "True");
    world.config_mut().spec.peer_pod_admission = PeerPodAdmission::Webhook;
    world.settle();
    assert_eq!(changed(&world), (true, true, false));
    // An API server that has no policies.
    world.observed.unserved.insert(Kind::MutatingAdmissionPolicy);
    world.config_mut().spec.peer_pod_admission = PeerPodAdmission::Policy;
    world.settle();
    assert_eq!(changed(&world), (true, true, false));
    assert_eq!(world.condition(conditions::READY).reason, "PolicyNotServed");
}

#[test]
fn namespaces_are_enforced_while_they_are_named() {
    let mut world = installed(&["one"]);
    let exists = |world: &World| {
        world
            .object(Kind::ValidatingAdmissionPolicyBinding, names::NAMESPACE_POLICY)
            .is_some()
    };
    let allowed = PeerPodNamespaces {
        names: vec!["team".to_owned()],
        selector: None,
    };
    world.config_mut().spec.peer_pod_namespaces = Some(allowed);
    world.settle();
    assert!(exists(&world));
    world.config_mut().spec.peer_pod_namespaces = None;
    world.settle();
    assert!(!exists(&world));
}
