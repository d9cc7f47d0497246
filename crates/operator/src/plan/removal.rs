//! All that was installed goes, in an order that leaves nothing half.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;
use peerpods_api::{KataConfig, names};

use super::{
    action::{Action, Plan},
    capacity::Withheld,
    conditions::names as listed,
    install,
    nodes::{self, NodeState},
    settings,
    status::{self, Situation, Uninstalling},
    way::{Membership, Way},
};
use crate::{
    installation::Installation,
    managed::{Kind, ObjectKey},
    names as ours,
    observed::{ClassUse, Observed},
};

/// What installs and removes the runtime on nodes goes last.
const ON_NODES: [&str; 4] = [
    ours::NODE_INSTALL,
    ours::NODE_REMOVE,
    ours::MACHINE_CONFIG,
    ours::POOL,
];

/// Whether there is anything that a pod of the runtime class could need.
pub(super) fn is_anything_used(observed: &Observed) -> bool {
    observed
        .objects
        .keys()
        .any(|key| !ON_NODES.contains(&key.name.as_str()))
}

pub(super) fn plan(
    config: Option<&KataConfig>,
    observed: &Observed,
    installation: &Installation,
    now: Timestamp,
    plan: &mut Plan,
) -> Withheld {
    let stage = Stage::of(observed, installation);
    stage.remove(observed, installation, plan);
    // Until it is their turn, nodes stay as they are.
    let states = match &stage {
        Stage::Nodes => nodes::plan(&BTreeSet::new(), observed, installation, now, plan),
        _ => observed
            .nodes
            .iter()
            .filter(|(_, node)| node.labels.contains_key(ours::RUNTIME))
            .map(|(name, _)| {
                (
                    name.clone(),
                    NodeState::WaitingToUninstall {
                        why: stage.to_string(),
                    },
                )
            })
            .collect(),
    };
    if let Stage::Nodes = stage
        && states.is_empty()
    {
        last(observed, plan);
    }
    let Some(config) = config else {
        return Withheld::default();
    };
    let is_deleted = config.metadata.deletion_timestamp.is_some();
    let nothing_left = states.is_empty() && observed.objects.is_empty() && matches!(stage, Stage::Nodes);
    if nothing_left && install::has_finalizer(config) {
        let mut finalizers = config.metadata.finalizers.clone().unwrap_or_default();
        finalizers.retain(|one| one != names::finalizers::KATA_CONFIG);
        plan.add(install::set_finalizers(config, finalizers));
        if is_deleted {
            return Withheld::default();
        }
    }
    let uninstalling = match stage {
        Stage::InUse(pods) => Uninstalling::Blocked(pods),
        _ if nothing_left => Uninstalling::Done,
        other => Uninstalling::Under(other.to_string()),
    };
    let problems = settings::problems(observed);
    let situation = Situation {
        problems,
        states,
        invalid_selector: None,
        missing_certificate: None,
        publication: None,
        uninstalling: Some(uninstalling),
    };
    status::say(config, &situation, observed, now, plan);
    Withheld::default()
}

/// What is being waited for; a stage is over when it is seen to be.
#[derive(Debug)]
enum Stage {
    /// Nobody knows yet who uses the runtime class.
    Unread,
    /// Pods use the runtime class.
    InUse(Vec<String>),
    /// No more pods of the class are made once it is gone.
    RuntimeClass,
    /// VMs that the adaptors have to end.
    Machines(Vec<String>),
    /// The API server still asks the webhook.
    Registration,
    /// Backends, adaptors, and the configuration that gives nodes their capacity.
    Backends,
    /// The configuration of nodes that cannot leave their pool.
    MachineConfig,
    /// The nodes themselves.
    Nodes,
}

impl Stage {
    fn of(observed: &Observed, installation: &Installation) -> Self {
        match &observed.class_use {
            ClassUse::NotRead if is_anything_used(observed) => return Self::Unread,
            ClassUse::Pods(pods) if !pods.is_empty() => return Self::InUse(pods.clone()),
            ClassUse::NotRead | ClassUse::Pods(_) => {}
        }
        let exists = |kind| observed.objects.keys().any(|key| key.kind == kind);
        if exists(Kind::RuntimeClass) {
            return Self::RuntimeClass;
        }
        let adaptor = ObjectKey::new(Kind::DaemonSet, ours::ADAPTOR);
        if !observed.peer_pods.is_empty() && observed.objects.contains_key(&adaptor) {
            let names = observed
                .peer_pods
                .iter()
                .map(|one| format!("{}/{}", one.namespace, one.name));
            return Self::Machines(names.collect());
        }
        if exists(Kind::MutatingWebhookConfiguration) {
            return Self::Registration;
        }
        let default = observed
            .peer_pod_configs
            .iter()
            .any(|config| install::is_default(config, installation));
        if is_anything_used(observed) || default {
            return Self::Backends;
        }
        if Way::of(observed, installation) == Way::MachineConfigs(Membership::Masters)
            && exists(Kind::MachineConfig)
        {
            return Self::MachineConfig;
        }
        Self::Nodes
    }

    fn remove(&self, observed: &Observed, installation: &Installation, plan: &mut Plan) {
        let mut remove = |is: &dyn Fn(&ObjectKey) -> bool| {
            let gone = observed
                .objects
                .iter()
                .filter(|(key, there)| is(key) && !is_going(there));
            plan.actions
                .extend(gone.map(|(key, _)| Action::Remove(key.clone())));
        };
        match self {
            Self::Unread | Self::InUse(_) | Self::Machines(_) | Self::Nodes => {}
            Self::RuntimeClass => remove(&|key| key.kind == Kind::RuntimeClass),
            Self::Registration => remove(&|key| key.kind == Kind::MutatingWebhookConfiguration),
            Self::MachineConfig => remove(&|key| key.kind == Kind::MachineConfig),
            Self::Backends => {
                remove(&|key| !ON_NODES.contains(&key.name.as_str()));
                let mut configs = observed.peer_pod_configs.iter();
                if configs.any(|config| install::is_default(config, installation)) {
                    plan.add(Action::RemoveConfig(names::DEFAULT_PEER_POD_CONFIG.to_owned()));
                }
            }
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unread => formatter.write_str("pods that use the runtime class are being looked for"),
            Self::InUse(pods) => write!(formatter, "pods use the runtime class: {}", shown(pods)),
            Self::RuntimeClass => write!(
                formatter,
                "RuntimeClass {} is being removed",
                names::RUNTIME_CLASS
            ),
            Self::Machines(machines) => {
                write!(formatter, "VMs are being ended: PeerPods {}", shown(machines))
            }
            Self::Registration => formatter.write_str("the webhook's registration is being removed"),
            Self::Backends => formatter.write_str("adaptor, webhook and capacity are being removed"),
            Self::MachineConfig => formatter.write_str("the configuration of nodes is being removed"),
            Self::Nodes => formatter.write_str("the runtime is being removed from nodes"),
        }
    }
}

fn shown(names: &[String]) -> String {
    listed(names.iter().map(String::as_str))
}

/// Nodes are done: so are the pods that worked on them.
fn last(observed: &Observed, plan: &mut Plan) {
    let left = observed.objects.iter().filter(|(_, there)| !is_going(there));
    plan.actions
        .extend(left.map(|(key, _)| Action::Remove(key.clone())));
}

/// It was deleted already, and something keeps it.
pub(super) fn is_going(there: &serde_json::Value) -> bool {
    !there["metadata"]["deletionTimestamp"].is_null()
}
