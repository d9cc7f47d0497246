//! PeerPods that nobody lets go: their pod is gone, and the adaptor that should have ended the VM has not.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use peerpods_api::names::finalizers;

use super::action::{Action, Plan};
use crate::{
    installation::Patience,
    observed::{Observed, PeerPodSummary},
};

/// Plans the end of those whose time is over. Kubernetes marks a PeerPod for deletion when its pod is gone, and the pods of
/// a node that is gone go too: so a PeerPod without a pod is one that is marked.
pub(super) fn plan(observed: &Observed, patience: Patience, now: Timestamp, plan: &mut Plan) {
    for one in &observed.peer_pods {
        if !one
            .finalizers
            .iter()
            .any(|finalizer| finalizer == finalizers::PEER_POD)
        {
            continue;
        }
        let Some(left) = left(one, observed, patience, now) else {
            continue;
        };
        if left.is_zero() {
            plan.add(Action::Reap(one.clone()));
        } else {
            plan.look_again(left);
        }
    }
}

/// The time that is left to others; none, where the pod is there.
fn left(one: &PeerPodSummary, observed: &Observed, patience: Patience, now: Timestamp) -> Option<Duration> {
    let spent = Duration::try_from(now.duration_since(one.deleted_at?)).unwrap_or_default();
    let node_is_gone = one
        .node
        .as_ref()
        .is_some_and(|node| !observed.nodes.contains_key(node));
    let limit = if node_is_gone {
        patience.node
    } else {
        patience.adaptor
    };
    Some(limit.saturating_sub(spent))
}
