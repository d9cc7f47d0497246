//! Which nodes a KataConfig selects.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::{ParseExpressionError, Selector, SelectorExt};
use peerpods_api::{KataConfigSpec, names::labels};

use crate::{
    names::{CONTROL_PLANE, WORKER},
    observed::{Node, NodeName},
};

/// The nodes that are to run peer pods.
///
/// Without a selector these are all workers: the nodes that are labelled so, or, where the cluster labels none, all nodes
/// that are not of the control plane.
pub(super) fn selected(
    spec: &KataConfigSpec,
    nodes: &BTreeMap<NodeName, Node>,
) -> Result<BTreeSet<NodeName>, ParseExpressionError> {
    let selector = spec
        .kata_config_pool_selector
        .clone()
        .map(Selector::try_from)
        .transpose()?;
    let labelled_workers = nodes.values().any(|node| node.labels.contains_key(WORKER));
    let is_selected = |node: &Node| match &selector {
        Some(selector) => selector.matches(&node.labels),
        None if labelled_workers => node.labels.contains_key(WORKER),
        None => !CONTROL_PLANE.iter().any(|role| node.labels.contains_key(*role)),
    };
    let is_eligible = |node: &Node| {
        !spec.check_node_eligibility
            || node
                .labels
                .get(labels::KATA_CAPABLE)
                .is_some_and(|value| value == "true")
    };
    let chosen = nodes
        .iter()
        .filter(|(_, node)| is_selected(node) && is_eligible(node));
    Ok(chosen.map(|(name, _)| name.clone()).collect())
}
