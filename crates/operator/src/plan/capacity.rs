//! PeerPodConfigs: how many VMs each node may have.
//!
//! `PEERPODS_LIMIT_PER_NODE` in `peer-pods-cm` wins over `limit` of the PeerPodConfig: the operator makes one with a
//! limit for every cluster, so that otherwise the setting of newer releases would never count.
//!
//! The entry is taken off every node that no PeerPodConfig selects: nobody but this operator keeps it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use peerpods_api::{PeerPodConfig, PeerPodConfigStatus, VmLimit, names};

use super::{
    action::{Action, Plan},
    conditions::{self, Said},
    events, settings,
};
use crate::{
    installation::Installation,
    names::ANY_WORKER,
    observed::{Node, NodeName, Observed},
};

/// What nodes are about to lose, or do not have yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Withheld {
    /// They take no more peer pods.
    pub(super) leaving: BTreeSet<NodeName>,
    /// The runtime is not there yet.
    pub(super) unready: BTreeSet<NodeName>,
}

/// Plans the capacity of all nodes.
pub(super) fn plan(
    observed: &Observed,
    installation: &Installation,
    withheld: &Withheld,
    now: Timestamp,
    plan: &mut Plan,
) {
    let mut owners: BTreeMap<&NodeName, String> = BTreeMap::new();
    let mut configs: Vec<_> = observed.peer_pod_configs.iter().collect();
    configs.retain(|config| config.metadata.deletion_timestamp.is_none());
    configs.sort_by_key(|config| {
        (
            config.metadata.creation_timestamp.as_ref().map(|time| time.0),
            name_of(config),
        )
    });
    for config in configs {
        let mut share = Share::default();
        for (name, _) in observed.nodes.iter().filter(|(_, node)| selects(config, node)) {
            if withheld.leaving.contains(name) {
                continue;
            }
            match owners.get(name) {
                Some(owner) => _ = share.taken.insert(owner.clone()),
                None => {
                    owners.insert(name, name_of(config));
                    share.nodes.push(name);
                }
            }
        }
        share.plan(config, observed, installation, withheld, now, plan);
    }
    let unowned = observed
        .nodes
        .iter()
        .filter(|(name, node)| node.capacity.is_some() && !owners.contains_key(name));
    for (name, node) in unowned {
        set(name, node, None, plan);
    }
}

/// Sets a node's capacity, and tells those who look at the node.
fn set(name: &NodeName, node: &Node, capacity: Option<VmLimit>, plan: &mut Plan) {
    plan.add(Action::SetCapacity {
        node: name.clone(),
        capacity,
    });
    let event = events::of_capacity(name, node.capacity.as_deref(), capacity);
    plan.add(Action::Announce(event));
}

/// The nodes that are one PeerPodConfig's.
#[derive(Default)]
struct Share<'a> {
    nodes: Vec<&'a NodeName>,
    /// Other PeerPodConfigs that have nodes which this one selects too.
    taken: BTreeSet<String>,
}

impl Share<'_> {
    fn plan(
        &self,
        config: &PeerPodConfig,
        observed: &Observed,
        installation: &Installation,
        withheld: &Withheld,
        now: Timestamp,
        plan: &mut Plan,
    ) {
        let limit = limit(config, observed, installation);
        let mut have = 0;
        if let Ok(limit) = &limit {
            let wanted = limit.to_string();
            for name in &self.nodes {
                let node = &observed.nodes[*name];
                let capacity = node.capacity.as_ref();
                if capacity == Some(&wanted) {
                    have += 1;
                } else if capacity.is_some() || !withheld.unready.contains(*name) {
                    // A node that had it keeps it while its runtime is replaced.
                    set(name, node, Some(*limit), plan);
                }
            }
        }
        let before = config.status.clone().unwrap_or_default();
        let said = vec![self.ready(&limit, have), settings_valid(&limit, observed)];
        let generation = config.metadata.generation;
        let status = PeerPodConfigStatus {
            observed_generation: generation,
            node_count: Some(have),
            conditions: conditions::merge(&before.conditions, said, generation, now),
            setup_completed: before.setup_completed,
        };
        if status != before {
            plan.add(Action::SetConfigStatus {
                namespace: config.metadata.namespace.clone().unwrap_or_default(),
                name: config.metadata.name.clone().unwrap_or_default(),
                status: Box::new(status),
            });
        }
    }

    fn ready(&self, limit: &Result<VmLimit, WrongLimit>, have: i64) -> Said {
        let kind = names::conditions::READY;
        let all = self.nodes.len();
        match limit {
            Err(wrong) => Said::no(
                kind,
                "LimitInvalid",
                format!("{}; nodes keep what they have", wrong.message),
            ),
            Ok(_) if all == 0 && !self.taken.is_empty() => {
                let taken = conditions::names(self.taken.iter().map(String::as_str));
                Said::no(
                    kind,
                    "NodesTaken",
                    format!("all nodes that it selects are of an older PeerPodConfig: {taken}"),
                )
            }
            Ok(_) if all == 0 => Said::no(kind, "NoNodes", "no node has the labels of nodeSelector"),
            Ok(_) if i64::try_from(all).is_ok_and(|all| all > have) => {
                Said::no(kind, "Publishing", format!("{have} of {all} nodes say so yet"))
            }
            Ok(limit) => Said::yes(kind, "Published", format!("every node may have {limit} VMs")),
        }
    }
}

/// A limit that is none, and where it stands.
struct WrongLimit {
    message: String,
}

fn limit(
    config: &PeerPodConfig,
    observed: &Observed,
    installation: &Installation,
) -> Result<VmLimit, WrongLimit> {
    let here = config.metadata.namespace.as_deref() == Some(&installation.namespace);
    let named = config.spec.config_map_name == names::SETTINGS_CONFIG_MAP;
    let settings = observed.settings.as_ref().filter(|_| here && named);
    if let Some(value) = settings.and_then(|settings| settings::value(settings, names::LIMIT_SETTING)) {
        return value.parse().map_err(|_| WrongLimit {
            message: format!(
                "{} in ConfigMap {} is not a non-negative integer of at most 6 digits",
                names::LIMIT_SETTING,
                names::SETTINGS_CONFIG_MAP
            ),
        });
    }
    config.spec.vm_limit().map_err(|error| WrongLimit {
        message: format!("spec.limit: {error}"),
    })
}

fn settings_valid(limit: &Result<VmLimit, WrongLimit>, observed: &Observed) -> Said {
    let kind = names::conditions::SETTINGS_VALID;
    let mut problems = settings::problems(observed);
    problems.retain(
        |problem| !matches!(problem, settings::Problem::Invalid { key, .. } if *key == names::LIMIT_SETTING),
    );
    match (limit, problems.first()) {
        (Err(wrong), _) => Said::no(kind, "LimitInvalid", wrong.message.clone()),
        (Ok(_), Some(first)) => {
            let all: Vec<_> = problems.iter().map(ToString::to_string).collect();
            Said::no(kind, first.reason(), all.join("; "))
        }
        (Ok(_), None) => Said::yes(kind, "Valid", ""),
    }
}

fn selects(config: &PeerPodConfig, node: &Node) -> bool {
    match &config.spec.node_selector {
        Some(labels) => labels
            .iter()
            .all(|(key, value)| node.labels.get(key) == Some(value)),
        None => node.labels.contains_key(ANY_WORKER),
    }
}

fn name_of(config: &PeerPodConfig) -> String {
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", of(&config.metadata.namespace), of(&config.metadata.name))
}
