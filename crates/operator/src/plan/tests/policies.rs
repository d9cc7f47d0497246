//! Rules for what takes the place of the webhook, and for the namespaces of peer pods.

use std::time::Duration;

use peerpods_api::{
    PeerPodAdmission, PeerPodNamespaces,
    admission::{POLICY, WEBHOOK_CONFIGURATION},
    names::conditions,
};

use super::{World, installed};
use crate::{managed::Kind, manifests, names};

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
fn the_webhook_stays_until_api_servers_act_by_the_policy() {
    let mut world = installed(&["one"]);
    let is_registered = |world: &World| {
        let registration = world.object(Kind::MutatingWebhookConfiguration, WEBHOOK_CONFIGURATION);
        registration.is_some()
    };
    // The policy is there since this moment.
    for object in manifests::mutation_policy() {
        let mut body = object.body;
        body["metadata"]["creationTimestamp"] = world.now.to_string().into();
        world.observed.objects.insert(object.key, body);
    }
    world.config_mut().spec.peer_pod_admission = PeerPodAdmission::Policy;
    world.settle();
    assert!(is_registered(&world));
    let again = world.plan().look_again_after.unwrap();
    assert!(again <= Duration::from_secs(10), "{again:?}");
    world.now += Duration::from_secs(10);
    world.settle();
    assert!(!is_registered(&world));
    assert_eq!(world.condition(conditions::READY).status, "True");
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
