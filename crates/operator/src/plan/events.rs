//! Events: what changed in a status, and on nodes.

use peerpods_api::{Condition, KataConfig, KataConfigStatus, VmLimit, names};

use super::{
    action::{Announcement, Regarding, Severity},
    image::PUBLISHING,
};
use crate::observed::NodeName;

/// One event for each condition that says something else, and for each node that got the runtime or failed to.
pub(super) fn of_changes(
    config: &KataConfig,
    before: &KataConfigStatus,
    after: &KataConfigStatus,
) -> Vec<Announcement> {
    let mut events: Vec<_> = after
        .conditions
        .iter()
        .filter(|now| is_news(&before.conditions, now))
        .map(|now| of(config, now))
        .collect();
    let installed = &after.kata_nodes.installed;
    events.extend(
        installed
            .iter()
            .filter(|name| !before.kata_nodes.installed.contains(name))
            .map(|name| Announcement {
                regarding: Regarding::Node(NodeName(name.clone())),
                severity: Severity::Normal,
                reason: "RuntimeInstalled".to_owned(),
                message: "the peer pod runtime is installed".to_owned(),
            }),
    );
    let failures = after
        .kata_nodes
        .failures
        .iter()
        .filter(|one| one.reason != "Waiting");
    events.extend(
        failures
            .filter(|one| !before.kata_nodes.failures.contains(one))
            .map(|one| Announcement {
                regarding: Regarding::Node(NodeName(one.node.clone())),
                severity: Severity::Warning,
                reason: one.reason.clone(),
                message: one.message.clone(),
            }),
    );
    events
}

/// That a node's capacity is set, changed or taken away.
pub(super) fn of_capacity(node: &NodeName, before: Option<&str>, after: Option<VmLimit>) -> Announcement {
    let (reason, message) = match (before, after) {
        (None, Some(after)) => ("CapacitySet", format!("the node may have {after} peer pod VMs")),
        (Some(before), Some(after)) => (
            "CapacityChanged",
            format!("the node may have {after} peer pod VMs, instead of {before}"),
        ),
        (_, None) => ("CapacityRemoved", "the node takes no more peer pods".to_owned()),
    };
    Announcement {
        regarding: Regarding::Node(node.clone()),
        severity: Severity::Normal,
        reason: reason.to_owned(),
        message,
    }
}

fn is_news(before: &[Condition], now: &Condition) -> bool {
    let same = |before: &Condition| {
        before.type_ == now.type_ && before.status == now.status && before.reason == now.reason
    };
    // At rest, there is nothing to tell.
    !now.reason.is_empty() && !before.iter().any(same)
}

fn of(config: &KataConfig, now: &Condition) -> Announcement {
    let is_well = now.status == "True"
        || now.type_ == names::conditions::IN_PROGRESS && now.reason != "Failed"
        || now.reason == PUBLISHING;
    Announcement {
        regarding: Regarding::KataConfig {
            name: config.metadata.name.clone().unwrap_or_default(),
            uid: config.metadata.uid.clone().unwrap_or_default(),
        },
        severity: if is_well {
            Severity::Normal
        } else {
            Severity::Warning
        },
        reason: now.reason.clone(),
        message: if now.message.is_empty() {
            format!("{} is {}", now.type_, now.status)
        } else {
            now.message.clone()
        },
    }
}
