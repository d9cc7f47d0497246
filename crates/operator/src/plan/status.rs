//! What a KataConfig says of itself.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use peerpods_api::{KataConfig, KataConfigStatus, KataNodes, NodeFailure, names};

use super::{
    action::{Action, Plan},
    admission::{self, NotChanged},
    conditions::{self, Said},
    events,
    image::{self, Publication},
    install,
    nodes::NodeState,
    settings::Problem,
};
use crate::{
    names::POOL,
    observed::{Component, NodeName, Observed, PodState},
};

/// What there is to say.
pub(super) struct Situation {
    pub(super) problems: Vec<Problem>,
    pub(super) states: BTreeMap<NodeName, NodeState>,
    pub(super) invalid_selector: Option<String>,
    /// Its reason, and more.
    pub(super) missing_certificate: Option<(&'static str, String)>,
    /// Of the VM image, where that is the operator's to publish.
    pub(super) publication: Option<Publication>,
    /// Absent while it is to be installed.
    pub(super) uninstalling: Option<Uninstalling>,
}

/// How far the removal is.
pub(super) enum Uninstalling {
    /// Pods use the class.
    Blocked(Vec<String>),
    /// It goes on; what is being waited for.
    Under(String),
    /// Nothing of ours is left.
    Done,
}

/// Plans the status, and events for what changed in it.
pub(super) fn say(
    config: &KataConfig,
    situation: &Situation,
    observed: &Observed,
    now: Timestamp,
    plan: &mut Plan,
) {
    let before = config.status.clone().unwrap_or_default();
    let kata_nodes = nodes(&situation.states);
    let mut said = vec![
        in_progress(situation, &kata_nodes),
        ready(config, situation, &kata_nodes, observed, now),
        settings(situation),
    ];
    said.extend(situation.publication.as_ref().map(Publication::said));
    let mut known = before.conditions.clone();
    if situation.publication.is_none() && !image::is_still_said(config, observed) {
        known.retain(|one| one.type_ != names::conditions::IMAGE_PUBLISHED);
    }
    let generation = config.metadata.generation;
    let class = observed
        .objects
        .keys()
        .any(|key| key.kind == crate::managed::Kind::RuntimeClass);
    let status = KataConfigStatus {
        observed_generation: generation,
        runtime_classes: class
            .then(|| names::RUNTIME_CLASS.to_owned())
            .into_iter()
            .collect(),
        kata_nodes,
        conditions: conditions::merge(&known, said, generation, now),
        waiting_for_mco_to_start: false,
    };
    write(config, before, status, plan);
}

/// Every KataConfig but the one that counts says so; nothing is refused, so that nothing can be in the way.
pub(super) fn refuse_others(
    acting: Option<&KataConfig>,
    all: &[KataConfig],
    now: Timestamp,
    plan: &mut Plan,
) {
    let Some(name) = acting.and_then(|acting| acting.metadata.name.as_deref()) else {
        return;
    };
    for config in all
        .iter()
        .filter(|config| config.metadata.name.as_deref() != Some(name))
    {
        let before = config.status.clone().unwrap_or_default();
        let message = format!("only one KataConfig can be in force, and it is {name}: delete one of them");
        let said = vec![
            Said::no(names::conditions::READY, "AnotherExists", message.clone()),
            Said::no(names::conditions::IN_PROGRESS, "AnotherExists", message),
        ];
        let generation = config.metadata.generation;
        let status = KataConfigStatus {
            observed_generation: generation,
            conditions: conditions::merge(&before.conditions, said, generation, now),
            ..KataConfigStatus::default()
        };
        write(config, before, status, plan);
        if config.metadata.deletion_timestamp.is_some() && install::has_finalizer(config) {
            let mut finalizers = config.metadata.finalizers.clone().unwrap_or_default();
            finalizers.retain(|one| one != names::finalizers::KATA_CONFIG);
            plan.add(install::set_finalizers(config, finalizers));
        }
    }
}

fn write(config: &KataConfig, before: KataConfigStatus, status: KataConfigStatus, plan: &mut Plan) {
    if status == before {
        return;
    }
    plan.actions.extend(
        events::of_changes(config, &before, &status)
            .into_iter()
            .map(Action::Announce),
    );
    plan.add(Action::SetKataStatus {
        kata_config: config.metadata.name.clone().unwrap_or_default(),
        status: Box::new(status),
    });
}

fn nodes(states: &BTreeMap<NodeName, NodeState>) -> KataNodes {
    let mut nodes = KataNodes::default();
    for (name, state) in states {
        let name = name.0.clone();
        let mut failed = |reason: &String, message: &String| {
            nodes.failures.push(NodeFailure {
                node: name.clone(),
                reason: reason.clone(),
                message: message.clone(),
            });
        };
        match state {
            NodeState::FailedToInstall { reason, message }
            | NodeState::FailedToUninstall { reason, message } => {
                failed(reason, message);
            }
            NodeState::WaitingToUninstall { why } => failed(&"Waiting".to_owned(), why),
            NodeState::WaitingToInstall
            | NodeState::Installing
            | NodeState::Installed
            | NodeState::Uninstalling => {}
        }
        match state {
            NodeState::WaitingToInstall => nodes.waiting_to_install.push(name),
            NodeState::Installing => nodes.installing.push(name),
            NodeState::Installed => nodes.installed.push(name),
            NodeState::FailedToInstall { .. } => nodes.failed_to_install.push(name),
            NodeState::WaitingToUninstall { .. } => nodes.waiting_to_uninstall.push(name),
            NodeState::Uninstalling => nodes.uninstalling.push(name),
            NodeState::FailedToUninstall { .. } => nodes.failed_to_uninstall.push(name),
        }
    }
    nodes.node_count = count(states.values().filter(|state| !state.is_leaving()).count());
    nodes.ready_node_count = count(nodes.installed.len());
    nodes
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn in_progress(situation: &Situation, nodes: &KataNodes) -> Said {
    let kind = names::conditions::IN_PROGRESS;
    match &situation.uninstalling {
        Some(Uninstalling::Blocked(pods)) => {
            let pods = conditions::names(pods.iter().map(String::as_str));
            Said::no(
                kind,
                "BlockedByExistingKataPods",
                format!("delete these pods, which use it, first: {pods}"),
            )
        }
        Some(Uninstalling::Under(what)) => Said::yes(kind, "Uninstalling", what.clone()),
        Some(Uninstalling::Done) => Said::no(kind, "", ""),
        None => {
            let changing = nodes.installing.len() + nodes.waiting_to_install.len();
            let leaving = nodes.uninstalling.len() + nodes.waiting_to_uninstall.len();
            if changing > 0 {
                let all = nodes.node_count;
                Said::yes(
                    kind,
                    "Installing",
                    format!("{changing} of {all} nodes do not have the runtime yet"),
                )
            } else if leaving > 0 {
                Said::yes(
                    kind,
                    "Updating",
                    format!("{leaving} nodes are no longer selected and lose the runtime"),
                )
            } else if nodes.failures.is_empty() {
                Said::no(kind, "", "")
            } else {
                Said::no(kind, "Failed", failures(nodes))
            }
        }
    }
}

fn failures(nodes: &KataNodes) -> String {
    let failed = nodes.failed_to_install.iter().chain(&nodes.failed_to_uninstall);
    let why = nodes.failures.iter().find(|failure| failure.reason != "Waiting");
    let why = why
        .map(|one| format!(": on {}, {}: {}", one.node, one.reason, one.message))
        .unwrap_or_default();
    format!("failed on {}{why}", conditions::names(failed.map(String::as_str)))
}

/// Everything that keeps pods from running, the first cause first; its reason is the condition's.
fn ready(
    config: &KataConfig,
    situation: &Situation,
    nodes: &KataNodes,
    observed: &Observed,
    now: Timestamp,
) -> Said {
    let kind = names::conditions::READY;
    if situation.uninstalling.is_some() {
        return Said::no(
            kind,
            "NotWanted",
            "peer pods are off: the KataConfig goes, or enablePeerPods is false",
        );
    }
    let mut causes: Vec<(&'static str, String)> = Vec::new();
    if let Some(error) = &situation.invalid_selector {
        causes.push((
            "SelectorInvalid",
            format!("kataConfigPoolSelector cannot be read: {error}"),
        ));
    }
    causes.extend(
        observed
            .failures
            .iter()
            .map(|failure| ("ActionFailed", failure.clone())),
    );
    causes.extend(
        situation
            .problems
            .iter()
            .map(|problem| (problem.reason(), problem.to_string())),
    );
    causes.extend(situation.publication.as_ref().map(Publication::cause));
    if nodes.node_count == 0 {
        causes.push((
            "NoNodes",
            "no node is selected: look at kataConfigPoolSelector and checkNodeEligibility".into(),
        ));
    }
    if !nodes.failed_to_install.is_empty() {
        causes.push(("NodesFailed", failures(nodes)));
    }
    if nodes.installed.len() + nodes.failed_to_install.len()
        < usize::try_from(nodes.node_count).unwrap_or_default()
    {
        causes.push(("Installing", "nodes do not have the runtime yet".into()));
    }
    causes.extend(pool(observed));
    causes.extend(adaptors(nodes, observed));
    causes.extend(admission::problem(config, observed));
    causes.extend(situation.missing_certificate.clone());
    match admission::missing(observed, now) {
        None => {}
        Some(NotChanged::PolicyNotInForce) => causes.push((
            "PolicyNotInForce",
            "pods are not changed yet: API servers take up the policy in seconds".into(),
        )),
        Some(NotChanged::WebhookNotReady) => {
            let why = failing(observed, Component::Webhook).unwrap_or("no pod of it is ready yet".into());
            causes.push(("WebhookNotReady", format!("pods are not changed yet: {why}")));
        }
    }
    match causes.first() {
        None => Said::yes(
            kind,
            "Ready",
            format!("pods of class {} can run", names::RUNTIME_CLASS),
        ),
        Some((reason, _)) => {
            let all: Vec<_> = causes.iter().map(|(_, message)| message.as_str()).collect();
            Said::no(kind, reason, all.join("; "))
        }
    }
}

/// The pool of ours, where it cannot be made what it is to be.
fn pool(observed: &Observed) -> Option<(&'static str, String)> {
    let why = observed.pools.get(POOL)?.degraded.as_ref()?;
    Some(("PoolDegraded", format!("MachineConfigPool {POOL}: {why}")))
}

/// Installed nodes on which no adaptor is ready.
fn adaptors(nodes: &KataNodes, observed: &Observed) -> Option<(&'static str, String)> {
    let pods = observed
        .components
        .iter()
        .filter(|pod| pod.component == Component::Adaptor);
    let ready: Vec<_> = pods
        .filter(|pod| pod.state == PodState::Ready)
        .filter_map(|pod| pod.node.as_ref())
        .collect();
    let without = nodes
        .installed
        .iter()
        .filter(|name| !ready.iter().any(|ready| ready.0 == **name));
    let without: Vec<_> = without.map(String::as_str).collect();
    if without.is_empty() {
        return None;
    }
    let why = failing(observed, Component::Adaptor)
        .map(|why| format!(": {why}"))
        .unwrap_or_default();
    Some((
        "AdaptorNotReady",
        format!("no adaptor is ready on {}{why}", conditions::names(without)),
    ))
}

/// Why the first failing pod of a component fails.
fn failing(observed: &Observed, component: Component) -> Option<String> {
    observed
        .components
        .iter()
        .filter(|pod| pod.component == component)
        .find_map(|pod| match &pod.state {
            PodState::Failing { reason, message } => Some(format!("{reason}: {message}")),
            PodState::Starting | PodState::Ready | PodState::Finished { .. } => None,
        })
}

fn settings(situation: &Situation) -> Said {
    let kind = names::conditions::SETTINGS_VALID;
    match situation.problems.first() {
        None => Said::yes(kind, "Valid", ""),
        Some(first) => {
            let all: Vec<_> = situation.problems.iter().map(ToString::to_string).collect();
            Said::no(kind, first.reason(), all.join("; "))
        }
    }
}
