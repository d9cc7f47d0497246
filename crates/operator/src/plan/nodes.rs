//! Nodes: which have the runtime, which get it, and which lose it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use peerpods_api::names::labels;

use super::{
    action::{Action, Announcement, NodePatch, Plan, Regarding, Severity},
    conditions::names,
};
use crate::{
    installation::{Installation, NodeRuntime},
    names::{RUNTIME, RUNTIME_INSTALL, RUNTIME_REMOVE, RUNTIME_SINCE},
    observed::{Component, ComponentPod, Node, NodeName, Observed, PodState},
};

/// How long installing or removing the runtime on one node may take before it counts as failed. It is seconds of work; an
/// image must be pulled first, and the container runtime restarts.
pub const RUNTIME_LIMIT: Duration = Duration::from_secs(10 * 60);
/// The value of the label where the runtime was there before us.
const PREINSTALLED: &str = "preinstalled";

/// How far a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NodeState {
    WaitingToInstall,
    Installing,
    Installed,
    FailedToInstall {
        reason: String,
        message: String,
    },
    /// It was selected, and is not any more; why it has to wait.
    WaitingToUninstall {
        why: String,
    },
    Uninstalling,
    FailedToUninstall {
        reason: String,
        message: String,
    },
}

impl NodeState {
    /// Whether it takes no more peer pods.
    pub(super) fn is_leaving(&self) -> bool {
        match self {
            Self::WaitingToInstall | Self::Installing | Self::Installed | Self::FailedToInstall { .. } => {
                false
            }
            Self::WaitingToUninstall { .. } | Self::Uninstalling | Self::FailedToUninstall { .. } => true,
        }
    }
}

/// Plans what changes on nodes so that the runtime is on the wanted ones and on no other; tells how far each is.
pub(super) fn plan(
    wanted: &BTreeSet<NodeName>,
    observed: &Observed,
    installation: &Installation,
    now: Timestamp,
    plan: &mut Plan,
) -> BTreeMap<NodeName, NodeState> {
    let pods = Pods::of(observed);
    let mut states = BTreeMap::new();
    for (name, node) in &observed.nodes {
        let one = One {
            name,
            node,
            pods: &pods,
            way: installation.node_runtime,
            now,
        };
        let state = if wanted.contains(name) {
            Some(one.install(plan))
        } else if node.labels.contains_key(RUNTIME) {
            one.remove(observed, plan)
        } else {
            None
        };
        states.extend(state.map(|state| (name.clone(), state)));
    }
    states
}

/// The pods that install and remove, by node.
struct Pods<'a>(BTreeMap<(Component, &'a NodeName), &'a ComponentPod>);

impl<'a> Pods<'a> {
    fn of(observed: &'a Observed) -> Self {
        let on_nodes = observed.components.iter();
        Self(
            on_nodes
                .filter_map(|pod| Some(((pod.component, pod.node.as_ref()?), pod)))
                .collect(),
        )
    }
}

struct One<'a> {
    name: &'a NodeName,
    node: &'a Node,
    pods: &'a Pods<'a>,
    way: NodeRuntime,
    now: Timestamp,
}

impl One<'_> {
    fn install(&self, plan: &mut Plan) -> NodeState {
        let asked = match self.way {
            NodeRuntime::DaemonSet => RUNTIME_INSTALL,
            NodeRuntime::Preinstalled => PREINSTALLED,
        };
        let is_labelled = self.node.labels.contains_key(labels::KATA_NODE);
        if self.node.labels.get(RUNTIME).map(String::as_str) != Some(asked) || !is_labelled {
            let labels = [
                (labels::KATA_NODE, Some(String::new())),
                (RUNTIME, Some(asked.to_owned())),
            ];
            plan.add(self.patch(labels, Some(self.now)));
            return NodeState::WaitingToInstall;
        }
        if self.way == NodeRuntime::Preinstalled {
            return NodeState::Installed;
        }
        let failed = |reason: &str, message: String| NodeState::FailedToInstall {
            reason: reason.to_owned(),
            message,
        };
        match self
            .pods
            .0
            .get(&(Component::NodeInstall, self.name))
            .map(|pod| &pod.state)
        {
            Some(PodState::Ready) => NodeState::Installed,
            Some(PodState::Failing { reason, message }) => failed(reason, message.clone()),
            Some(PodState::Starting) if self.is_late(plan) => failed(
                "TimedOut",
                format!(
                    "the runtime is not installed after {} minutes: look at the logs of its pod of DaemonSet {}",
                    RUNTIME_LIMIT.as_secs() / 60,
                    crate::names::NODE_INSTALL
                ),
            ),
            Some(PodState::Starting) => NodeState::Installing,
            None if self.is_late(plan) => failed(
                "NoInstaller",
                format!(
                    "no pod of DaemonSet {} runs here: look at the node's taints",
                    crate::names::NODE_INSTALL
                ),
            ),
            None => NodeState::WaitingToInstall,
        }
    }

    /// Takes the runtime off; none, when the last trace goes.
    fn remove(&self, observed: &Observed, plan: &mut Plan) -> Option<NodeState> {
        let machines: Vec<_> = observed
            .peer_pods
            .iter()
            .filter(|one| one.node.as_ref() == Some(self.name))
            .collect();
        let runtime = self.node.labels.get(RUNTIME).map(String::as_str);
        if runtime != Some(RUNTIME_REMOVE) && !machines.is_empty() {
            let pods = names(machines.iter().map(|one| one.name.as_str()));
            return Some(NodeState::WaitingToUninstall {
                why: format!("its peer pods still run: {pods}"),
            });
        }
        if self.way == NodeRuntime::Preinstalled || runtime == Some(PREINSTALLED) {
            plan.add(self.patch([(labels::KATA_NODE, None), (RUNTIME, None)], None));
            return None;
        }
        if runtime != Some(RUNTIME_REMOVE) {
            let labels = [
                (labels::KATA_NODE, None),
                (RUNTIME, Some(RUNTIME_REMOVE.to_owned())),
            ];
            plan.add(self.patch(labels, Some(self.now)));
            return Some(NodeState::WaitingToUninstall {
                why: "it is its turn now".to_owned(),
            });
        }
        let state = self
            .pods
            .0
            .get(&(Component::NodeRemove, self.name))
            .map(|pod| &pod.state);
        if state == Some(&PodState::Ready) {
            plan.add(self.patch([(RUNTIME, None)], None));
            return None;
        }
        let (reason, message) = match state {
            Some(PodState::Failing { reason, message }) => (reason.clone(), message.clone()),
            _ => ("TimedOut".to_owned(), "nothing was heard of it".to_owned()),
        };
        if self.is_late(plan) {
            // A node that cannot be reached does not keep the others: its files do no harm without the label.
            plan.add(self.patch([(RUNTIME, None)], None));
            plan.add(Action::Announce(Announcement {
                regarding: Regarding::Node(self.name.clone()),
                severity: Severity::Warning,
                reason: "RuntimeNotRemoved".to_owned(),
                message: format!("files of the peer pod runtime stay on this node: {reason}: {message}"),
            }));
            return None;
        }
        match state {
            Some(PodState::Failing { .. }) => Some(NodeState::FailedToUninstall { reason, message }),
            _ => Some(NodeState::Uninstalling),
        }
    }

    fn patch<const N: usize>(
        &self,
        labels: [(&'static str, Option<String>); N],
        since: Option<Timestamp>,
    ) -> Action {
        Action::PatchNode(NodePatch {
            node: self.name.clone(),
            labels: labels.into(),
            annotations: [(RUNTIME_SINCE, since.map(|since| since.to_string()))].into(),
        })
    }

    /// Whether the time for it is over; if not, the plan is looked at again when it is.
    fn is_late(&self, plan: &mut Plan) -> bool {
        let Some(since) = self.node.runtime_since else {
            return false;
        };
        let spent = Duration::try_from(self.now.duration_since(since)).unwrap_or_default();
        match RUNTIME_LIMIT.checked_sub(spent) {
            Some(left) if !left.is_zero() => {
                plan.look_again(left);
                false
            }
            _ => true,
        }
    }
}
