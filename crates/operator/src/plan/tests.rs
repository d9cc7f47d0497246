//! Rules of the plan, one by one.

mod certificates;
mod image;
mod policies;
mod settings;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use peerpods_api::{
    admission::WEBHOOK_CONFIGURATION,
    names::{DEFAULT_PEER_POD_CONFIG, RUNTIME_CLASS, conditions, labels},
};

use super::{Action, RUNTIME_LIMIT, world::World};
use crate::{
    installation::{NodeRuntime, Patience},
    managed::Kind,
    names,
    observed::{NodeName, PeerPodSummary, PodState},
};

fn installed(workers: &[&str]) -> World {
    let mut world = World::with_workers(workers);
    world.create_kata_config("kata");
    world.settle();
    world
}

fn peer_pod(name: &str, node: &str) -> PeerPodSummary {
    PeerPodSummary {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        provider: Some("qemu".to_owned()),
        instance: Some("i-1".to_owned()),
        node: Some(NodeName(node.to_owned())),
        sandbox: Some("sandbox".to_owned()),
        deleted_at: None,
        finalizers: vec!["peer.pod/finalizer".to_owned()],
        message: None,
        resource_version: None,
    }
}

#[test]
fn a_kata_config_brings_all_nodes_to_run_peer_pods() {
    let world = installed(&["one", "two"]);
    let status = world.observed.kata_configs[0].status.clone().unwrap();
    assert_eq!(status.kata_nodes.installed, ["one", "two"]);
    assert_eq!(
        (status.kata_nodes.node_count, status.kata_nodes.ready_node_count),
        (2, 2)
    );
    assert_eq!(status.runtime_classes, [RUNTIME_CLASS]);
    let (ready, in_progress) = (
        world.condition(conditions::READY),
        world.condition(conditions::IN_PROGRESS),
    );
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", "Ready"));
    assert_eq!(
        (in_progress.status.as_str(), in_progress.reason.as_str()),
        ("False", "")
    );
    assert_eq!(world.capacity("one").as_deref(), Some("10"));
    let node = &world.observed.nodes[&NodeName("two".to_owned())];
    assert_eq!(node.labels.get(labels::KATA_NODE).map(String::as_str), Some(""));
}

#[test]
fn nothing_is_made_before_the_finalizer_is_there() {
    let mut world = World::with_workers(&["one"]);
    world.create_kata_config("kata");
    let actions = world.plan().actions;
    assert!(
        matches!(&actions[..], [Action::SetFinalizers { .. }]),
        "{actions:?}"
    );
}

#[test]
fn the_webhook_is_registered_once_a_replica_answers() {
    let mut world = World::with_workers(&["one"]);
    world.create_kata_config("kata");
    for _ in 0..10 {
        let actions = world.plan().actions;
        actions.iter().for_each(|action| world.perform(action));
    }
    let name = WEBHOOK_CONFIGURATION;
    assert!(world.object(Kind::MutatingWebhookConfiguration, name).is_none());
    assert!(
        world
            .condition(conditions::READY)
            .message
            .contains("pods are not changed yet")
    );
    world.settle();
    assert!(world.object(Kind::MutatingWebhookConfiguration, name).is_some());
}

#[test]
fn capacity_follows_the_limit_and_the_setting_wins() {
    let mut world = installed(&["one"]);
    world.peer_pod_config().spec.limit = Some("2".to_owned());
    world.settle();
    assert_eq!(world.capacity("one").as_deref(), Some("2"));
    let events = world.log.iter().filter(|line| line.starts_with("event Capacity"));
    assert_eq!(
        events.collect::<Vec<_>>(),
        ["event CapacitySet", "event CapacityChanged"]
    );
    world.set("PEERPODS_LIMIT_PER_NODE", "7");
    world.settle();
    assert_eq!(world.capacity("one").as_deref(), Some("7"));
    world.set("PEERPODS_LIMIT_PER_NODE", "");
    world.settle();
    assert_eq!(world.capacity("one").as_deref(), Some("2"));
}

#[test]
fn an_invalid_limit_names_its_key_and_changes_no_node() {
    let mut world = installed(&["one"]);
    world.set("PEERPODS_LIMIT_PER_NODE", "many");
    world.settle();
    assert_eq!(world.capacity("one").as_deref(), Some("10"));
    let status = world.peer_pod_config().status.clone().unwrap();
    for kind in [conditions::READY, conditions::SETTINGS_VALID] {
        let said = status.conditions.iter().find(|one| one.type_ == kind).unwrap();
        assert_eq!(
            (said.status.as_str(), said.reason.as_str()),
            ("False", "LimitInvalid")
        );
        assert!(
            said.message.contains("PEERPODS_LIMIT_PER_NODE"),
            "{}",
            said.message
        );
    }
    world.set("PEERPODS_LIMIT_PER_NODE", "");
    world.peer_pod_config().spec.limit = Some("ten".to_owned());
    world.settle();
    let status = world.peer_pod_config().status.clone().unwrap();
    assert!(
        status
            .conditions
            .iter()
            .any(|one| one.message.contains("spec.limit"))
    );
}

#[test]
fn a_node_that_lost_its_capacity_gets_it_again_and_no_other_is_touched() {
    let mut world = installed(&["one", "two"]);
    for lost in [None, Some("0".to_owned())] {
        world
            .observed
            .nodes
            .get_mut(&NodeName("two".to_owned()))
            .unwrap()
            .capacity = lost;
        let touched = world
            .plan()
            .actions
            .into_iter()
            .filter_map(|action| match action {
                Action::SetCapacity { node, .. } => Some(node.0),
                _ => None,
            });
        assert_eq!(touched.collect::<Vec<_>>(), ["two"]);
        world.settle();
        assert_eq!(world.capacity("two").as_deref(), Some("10"));
    }
}

#[test]
fn capacity_waits_for_the_runtime() {
    let mut world = World::with_workers(&["one"]);
    world.installer = PodState::Starting;
    world.create_kata_config("kata");
    world.settle();
    assert_eq!(world.capacity("one"), None);
    assert_eq!(world.condition(conditions::IN_PROGRESS).reason, "Installing");
    world.installer = PodState::Ready;
    world.settle();
    assert_eq!(world.capacity("one").as_deref(), Some("10"));
    // While it is replaced, running pods stay counted.
    world.installer = PodState::Starting;
    world.settle();
    assert_eq!(world.capacity("one").as_deref(), Some("10"));
}

#[test]
fn a_failing_installation_says_why_and_does_not_last_for_ever() {
    let mut world = World::with_workers(&["one"]);
    world.installer = PodState::Failing {
        reason: "ImagePullBackOff".to_owned(),
        message: "no such image".to_owned(),
    };
    world.create_kata_config("kata");
    world.settle();
    let in_progress = world.condition(conditions::IN_PROGRESS);
    assert_eq!(
        (in_progress.status.as_str(), in_progress.reason.as_str()),
        ("False", "Failed")
    );
    assert!(
        in_progress
            .message
            .contains("one, ImagePullBackOff: no such image"),
        "{}",
        in_progress.message
    );
    world.installer = PodState::Starting;
    world.settle();
    assert_eq!(world.condition(conditions::IN_PROGRESS).reason, "Installing");
    let again = world
        .plan()
        .look_again_after
        .expect("the clock makes a difference");
    assert!(again <= RUNTIME_LIMIT);
    world.now += again;
    world.settle();
    assert_eq!(world.condition(conditions::IN_PROGRESS).reason, "Failed");
    assert_eq!(
        world.observed.kata_configs[0]
            .status
            .clone()
            .unwrap()
            .kata_nodes
            .failures[0]
            .reason,
        "TimedOut"
    );
}

#[test]
fn what_others_changed_is_changed_back_but_users_keep_their_limit() {
    let mut world = installed(&["one"]);
    let key = crate::managed::ObjectKey::new(Kind::RuntimeClass, RUNTIME_CLASS);
    world.observed.objects.get_mut(&key).unwrap()["handler"] = "runc".into();
    world.peer_pod_config().spec.limit = Some("1".to_owned());
    world.settle();
    assert_eq!(
        world.object(Kind::RuntimeClass, RUNTIME_CLASS).unwrap()["handler"],
        RUNTIME_CLASS
    );
    assert_eq!(world.peer_pod_config().spec.limit.as_deref(), Some("1"));
}

#[test]
fn without_a_selector_workers_are_selected() {
    let mut world = World::with_workers(&["one", "two"]);
    let two = world.observed.nodes.get_mut(&NodeName("two".to_owned())).unwrap();
    two.labels.clear();
    two.labels
        .insert(names::CONTROL_PLANE[0].to_owned(), String::new());
    world.create_kata_config("kata");
    world.settle();
    assert_eq!(
        (world.capacity("one").as_deref(), world.capacity("two")),
        (Some("10"), None)
    );
    // A cluster that labels no workers.
    let mut world = World::with_workers(&["one", "two"]);
    for (name, node) in &mut world.observed.nodes {
        node.labels.clear();
        if name.0 == "two" {
            node.labels
                .insert(names::CONTROL_PLANE[1].to_owned(), String::new());
        }
    }
    world.create_kata_config("kata");
    world.settle();
    assert_eq!(
        (world.capacity("one").as_deref(), world.capacity("two")),
        (Some("10"), None)
    );
}

#[test]
fn the_selector_and_eligibility_choose_nodes() {
    let mut world = World::with_workers(&["one", "two", "three"]);
    let mut label = |node: &str, key: &str, value: &str| {
        let node = world.observed.nodes.get_mut(&NodeName(node.to_owned())).unwrap();
        node.labels.insert(key.to_owned(), value.to_owned());
    };
    label("one", "pool", "kata");
    label("two", "pool", "kata");
    label("two", labels::KATA_CAPABLE, "true");
    let config = world.create_kata_config("kata");
    let match_labels = Some([("pool".to_owned(), "kata".to_owned())].into());
    config.spec.kata_config_pool_selector = Some(LabelSelector {
        match_labels,
        ..LabelSelector::default()
    });
    config.spec.check_node_eligibility = true;
    world.settle();
    let status = world.observed.kata_configs[0].status.clone().unwrap();
    assert_eq!(status.kata_nodes.installed, ["two"]);
}

#[test]
fn a_node_that_leaves_takes_no_more_pods_and_keeps_those_it_has() {
    let mut world = installed(&["one", "two"]);
    world.observed.peer_pods.push(peer_pod("web", "two"));
    world
        .observed
        .nodes
        .get_mut(&NodeName("two".to_owned()))
        .unwrap()
        .labels
        .remove(names::WORKER);
    world.settle();
    assert_eq!(
        (world.capacity("one").as_deref(), world.capacity("two")),
        (Some("10"), None)
    );
    let nodes = world.observed.kata_configs[0].status.clone().unwrap().kata_nodes;
    assert_eq!(
        (nodes.node_count, &nodes.waiting_to_uninstall[..]),
        (1, &["two".to_owned()][..])
    );
    assert_eq!(nodes.failures[0].message, "its peer pods still run: web");
    world.observed.peer_pods.clear();
    world.settle();
    let two = &world.observed.nodes[&NodeName("two".to_owned())];
    assert!(!two.labels.contains_key(labels::KATA_NODE) && !two.labels.contains_key(names::RUNTIME));
    assert_eq!(world.condition(conditions::IN_PROGRESS).reason, "");
}

#[test]
fn a_second_kata_config_says_which_is_in_force_and_takes_over_when_that_goes() {
    let mut world = installed(&["one"]);
    world.now += Duration::from_secs(1);
    world.create_kata_config("other");
    world.settle();
    let other = world.observed.kata_configs[1].status.clone().unwrap();
    let ready = other
        .conditions
        .iter()
        .find(|one| one.type_ == conditions::READY)
        .unwrap();
    assert_eq!(ready.reason, "AnotherExists");
    assert!(ready.message.contains("it is kata"), "{}", ready.message);
    world.delete_kata_config();
    world.settle();
    assert_eq!(
        world.observed.kata_configs[0].metadata.name.as_deref(),
        Some("other")
    );
    assert_eq!(world.condition(conditions::READY).status, "True");
}

#[test]
fn deletion_waits_for_pods_that_use_the_class_and_names_them() {
    let mut world = installed(&["one"]);
    world.pods.push("default/web".to_owned());
    world.delete_kata_config();
    world.settle();
    let said = world.condition(conditions::IN_PROGRESS);
    assert_eq!(
        (said.status.as_str(), said.reason.as_str()),
        ("False", "BlockedByExistingKataPods")
    );
    assert!(said.message.contains("default/web"), "{}", said.message);
    assert!(world.object(Kind::RuntimeClass, RUNTIME_CLASS).is_some());
    assert_eq!(world.capacity("one").as_deref(), Some("10"));
    world.pods.clear();
    world.settle();
    assert!(world.observed.kata_configs.is_empty());
    world.assert_clean();
}

#[test]
fn removal_leaves_no_registration_without_a_backend_and_no_machine_without_an_adaptor() {
    let mut world = installed(&["one"]);
    world.observed.peer_pods.push(peer_pod("web", "one"));
    world.delete_kata_config();
    world.log.clear();
    world.settle();
    assert!(world.object(Kind::DaemonSet, names::ADAPTOR).is_some());
    assert!(
        world
            .condition(conditions::IN_PROGRESS)
            .message
            .contains("default/web")
    );
    world.observed.peer_pods.clear();
    world.settle();
    let at = |what: &str| world.log.iter().position(|line| line.starts_with(what)).unwrap();
    assert!(at("remove RuntimeClass") < at("remove MutatingWebhookConfiguration"));
    assert!(at("remove MutatingWebhookConfiguration") < at("remove Deployment peer-pods-webhook"));
    assert!(
        at("remove DaemonSet peerpodconfig-ctrl-caa-daemon") < at("remove DaemonSet peerpods-node-remove")
    );
    assert!(at("remove DaemonSet peerpods-node-remove") < at("finalizers []"));
    world.assert_clean();
}

#[test]
fn peer_pods_turned_off_are_removed_and_turned_on_are_there_again() {
    let mut world = installed(&["one"]);
    world.config_mut().spec.enable_peer_pods = false;
    world.settle();
    world.assert_clean();
    assert_eq!(world.condition(conditions::READY).reason, "NotWanted");
    world.config_mut().spec.enable_peer_pods = true;
    world.settle();
    assert_eq!(world.condition(conditions::READY).status, "True");
}

#[test]
fn a_node_that_cannot_be_cleaned_does_not_keep_the_others() {
    let mut world = installed(&["one"]);
    world.delete_kata_config();
    for _ in 0..20 {
        // No pod ever answers.
        let actions = world.plan().actions;
        actions.iter().for_each(|action| world.perform(action));
    }
    assert_eq!(world.condition(conditions::IN_PROGRESS).reason, "Uninstalling");
    world.now += RUNTIME_LIMIT;
    world.settle();
    world.assert_clean();
    assert!(world.log.contains(&"event RuntimeNotRemoved".to_owned()));
}

#[test]
fn a_preinstalled_runtime_needs_no_pods_on_nodes() {
    let mut world = World::with_workers(&["one"]);
    world.installation.node_runtime = NodeRuntime::Preinstalled;
    world.create_kata_config("kata");
    world.settle();
    assert!(world.object(Kind::DaemonSet, names::NODE_INSTALL).is_none());
    assert_eq!(world.condition(conditions::READY).status, "True");
    world.delete_kata_config();
    world.settle();
    world.assert_clean();
}

#[test]
fn a_peer_pod_that_nobody_lets_go_is_reaped() {
    let mut world = installed(&["one"]);
    let mut here = peer_pod("here", "one");
    here.deleted_at = Some(world.now);
    let mut away = peer_pod("away", "gone");
    away.deleted_at = Some(world.now);
    let alive = peer_pod("alive", "gone");
    world.observed.peer_pods = vec![here, away, alive];
    let reaped = |world: &mut World| {
        let actions = world.plan().actions.into_iter();
        let names = actions.filter_map(|action| match action {
            Action::Reap(one) => Some(one.name),
            _ => None,
        });
        names.collect::<Vec<_>>()
    };
    assert_eq!(reaped(&mut world), Vec::<String>::new());
    world.now += Patience::default().node;
    assert_eq!(reaped(&mut world), ["away"]);
    world.now += Patience::default().adaptor;
    assert_eq!(reaped(&mut world), ["here", "away"]);
}

#[test]
fn older_peer_pod_configs_keep_their_nodes() {
    let mut world = installed(&["one"]);
    let mut other = world.peer_pod_config().clone();
    other.metadata.name = Some("other".to_owned());
    other.metadata.creation_timestamp.as_mut().unwrap().0 += Duration::from_secs(9);
    other.spec.limit = Some("99".to_owned());
    world.observed.peer_pod_configs.push(other);
    world.settle();
    assert_eq!(world.capacity("one").as_deref(), Some("10"));
    let status = world.observed.peer_pod_configs[1].status.clone().unwrap();
    let ready = status
        .conditions
        .iter()
        .find(|one| one.type_ == conditions::READY)
        .unwrap();
    assert_eq!(ready.reason, "NodesTaken");
    assert!(
        ready.message.contains(DEFAULT_PEER_POD_CONFIG),
        "{}",
        ready.message
    );
}

#[test]
fn labels_of_clusters_without_a_kata_config_are_let_alone() {
    let mut world = World::with_workers(&["one"]);
    let one = world.observed.nodes.get_mut(&NodeName("one".to_owned())).unwrap();
    one.labels.insert(labels::KATA_NODE.to_owned(), String::new());
    assert!(world.plan().actions.is_empty());
}
