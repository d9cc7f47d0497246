//! What an adaptor finds at its start that nobody asked it to keep.

use std::collections::BTreeSet;

use peerpods_error::chain;
use peerpods_provider::{Assignment, OwnedInstance, OwnerScope};
use peerpods_tunnel::network::is_namespace;

use super::Node;
use crate::{
    retry::Pauses,
    sandbox::{Reason, Sandboxes},
};

/// Ends instances of this node that no record knows (the journal was lost), sandboxes whose pod is gone (the node was
/// rebooted), and pod directories of neither. Call it after the replay; it tries until the provider has answered.
pub(crate) async fn end_orphans(node: &Node, sandboxes: &Sandboxes, scope: &OwnerScope) {
    for plan in sandboxes.plans() {
        if !is_namespace(&plan.netns) {
            plan.span().in_scope(|| tracing::info!("the pod is gone"));
            sandboxes.stop(&plan.sandbox, Reason::Abandoned).await;
        }
    }
    let known = |sandboxes: &Sandboxes| -> BTreeSet<String> {
        sandboxes
            .plans()
            .iter()
            .map(|plan| plan.sandbox.to_string())
            .collect()
    };
    let mut pauses = Pauses::new(&node.limits);
    let found = loop {
        match node.provider.list(scope).await {
            Ok(found) => break found,
            Err(error) => tracing::warn!(
                error = chain(&error),
                "the provider cannot list this node's VMs yet"
            ),
        }
        pauses.next_unbounded().await;
    };
    // Read after the list: what was launched meanwhile was recorded before.
    let recorded = match sandboxes.recorded() {
        Ok(recorded) => recorded,
        Err(error) => {
            tracing::error!(error = chain(&error), "VMs without a record are not looked for");
            return;
        }
    };
    let kept = known(sandboxes);
    let has_record = |owned: &OwnedInstance| {
        recorded.contains(owned)
            || match &owned.owner.assignment {
                Assignment::Pod(pod) => kept.contains(&pod.sandbox),
                Assignment::Warm => false,
            }
    };
    for owned in found.into_iter().filter(|owned| !has_record(owned)) {
        tracing::warn!(instance = %owned.instance.id, owner = ?owned.owner.assignment, "a VM without a record is ended");
        let mut pauses = Pauses::new(&node.limits);
        while let Err(error) = node.provider.terminate(&owned.instance.id).await {
            tracing::warn!(instance = %owned.instance.id, error = chain(&error), "its end is tried again");
            pauses.next_unbounded().await;
        }
    }
    // Looked at in this order: a sandbox that is made meanwhile is known before its directory exists.
    let directories = node.directories.list();
    let kept = known(sandboxes);
    for stray in directories.into_iter().filter(|name| !kept.contains(name)) {
        if let Err(error) = node.directories.remove_stray(&stray) {
            tracing::warn!(directory = stray, %error, "a stray pod directory cannot be removed");
        }
    }
}
