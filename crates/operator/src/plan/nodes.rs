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
    way::{Membership, Progress, Way},
};
use crate::{
    installation::Installation,
    managed::{Kind, ObjectKey},
    names::{RUNTIME, RUNTIME_INSTALL, RUNTIME_REMOVE, RUNTIME_SINCE},
    observed::{Component, ComponentPod, Node, NodeName, Observed, PodState},
};

/// How long installing or removing the runtime on one node may take before it counts as failed. It is seconds of work; an
/// image must be pulled first, and the container runtime restarts.
pub const RUNTIME_LIMIT: Duration = Duration::from_secs(10 * 60);
/// How long a node may take to leave a pool: OpenShift drains and restarts nodes one after the other.
const LEAVE_LIMIT: Duration = Duration::from_secs(2 * 60 * 60);
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

    fn is_failed(&self) -> bool {
        matches!(
            self,
            Self::FailedToInstall { .. } | Self::FailedToUninstall { .. }
        )
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
    let way = Way::of(observed, installation);
    let mut states = BTreeMap::new();
    for (name, node) in &observed.nodes {
        let one = One {
            name,
            node,
            pods: &pods,
            way: &way,
            observed,
            now,
        };
        let state = if wanted.contains(name) {
            Some(one.install(plan))
        } else if node.labels.contains_key(RUNTIME) {
            one.remove(plan)
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

fn degraded(why: &str) -> String {
    format!("the Machine Config Operator cannot configure it: {why}")
}

struct One<'a> {
    name: &'a NodeName,
    node: &'a Node,
    pods: &'a Pods<'a>,
    way: &'a Way,
    observed: &'a Observed,
    now: Timestamp,
}

impl One<'_> {
    fn install(&self, plan: &mut Plan) -> NodeState {
        let asked = match self.way {
            Way::DaemonSet | Way::MachineConfigs(_) => RUNTIME_INSTALL,
            Way::Preinstalled => PREINSTALLED,
        };
        let is_asked = self.node.labels.get(RUNTIME).map(String::as_str) == Some(asked);
        match self.way {
            // The label makes it a node of the pool: it must have the shim before.
            Way::MachineConfigs(_) if !is_asked => {
                plan.add(self.patch([(RUNTIME, Some(asked.to_owned()))], Some(self.now)));
                return NodeState::WaitingToInstall;
            }
            Way::DaemonSet | Way::Preinstalled if !is_asked || !self.is_labelled() => {
                let labels = [
                    (labels::KATA_NODE, Some(String::new())),
                    (RUNTIME, Some(asked.to_owned())),
                ];
                plan.add(self.patch(labels, Some(self.now)));
                return NodeState::WaitingToInstall;
            }
            Way::Preinstalled => return NodeState::Installed,
            Way::DaemonSet | Way::MachineConfigs(_) => {}
        }
        let is_placed = self.placed(plan);
        match self.way {
            // While the node restarts its pod says nothing.
            Way::MachineConfigs(membership)
                if is_placed == NodeState::Installed || (self.is_labelled() && !is_placed.is_failed()) =>
            {
                self.join(membership, plan)
            }
            _ => is_placed,
        }
    }

    fn is_labelled(&self) -> bool {
        self.node.labels.contains_key(labels::KATA_NODE)
    }

    /// Whether the pod that installs has done so.
    fn placed(&self, plan: &mut Plan) -> NodeState {
        let is_late = |plan: &mut Plan| !self.is_labelled_by_pool() && self.is_late(RUNTIME_LIMIT, plan);
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
            Some(PodState::Starting | PodState::Finished { .. }) if is_late(plan) => failed(
                "TimedOut",
                format!(
                    "the runtime is not installed after {} minutes: look at the logs of its pod of DaemonSet {}",
                    RUNTIME_LIMIT.as_secs() / 60,
                    crate::names::NODE_INSTALL
                ),
            ),
            Some(PodState::Starting | PodState::Finished { .. }) => NodeState::Installing,
            None if is_late(plan) => failed(
                "NoInstaller",
                format!(
                    "no pod of DaemonSet {} runs here: look at the node's taints",
                    crate::names::NODE_INSTALL
                ),
            ),
            None => NodeState::WaitingToInstall,
        }
    }

    /// In a pool it is long there, and a restart takes its time.
    fn is_labelled_by_pool(&self) -> bool {
        matches!(self.way, Way::MachineConfigs(_)) && self.is_labelled()
    }

    /// Has the node take part in a pool, and tells how far it is with the pool's configuration.
    fn join(&self, membership: &Membership, plan: &mut Plan) -> NodeState {
        if !self.is_labelled() {
            plan.add(self.patch([(labels::KATA_NODE, Some(String::new()))], Some(self.now)));
            return NodeState::WaitingToInstall;
        }
        match Progress::of(self.node, self.observed.pools.get(membership.pool())) {
            Progress::Has => NodeState::Installed,
            Progress::HasNot => NodeState::WaitingToInstall,
            Progress::Changes => NodeState::Installing,
            Progress::Stuck(why) => NodeState::FailedToInstall {
                reason: "Degraded".to_owned(),
                message: degraded(&why),
            },
            Progress::Unmanaged => NodeState::FailedToInstall {
                reason: "Unmanaged".to_owned(),
                message: "the Machine Config Operator does not manage it: set NODE_RUNTIME to daemonset"
                    .to_owned(),
            },
        }
    }

    /// Has the node leave its pool; none, once it has.
    fn leave(&self, membership: &Membership, plan: &mut Plan) -> Option<NodeState> {
        if self.is_labelled() {
            plan.add(self.patch([(labels::KATA_NODE, None)], Some(self.now)));
            return Some(NodeState::WaitingToUninstall {
                why: "it is its turn now".to_owned(),
            });
        }
        let ours = ObjectKey::new(Kind::MachineConfig, crate::names::MACHINE_CONFIG);
        if *membership == Membership::Masters && self.observed.objects.contains_key(&ours) {
            // Nodes that stay need it, and CRI-O leaves out a handler whose shim is missing.
            return None;
        }
        match Progress::of(self.node, self.observed.pools.get(membership.pool())) {
            Progress::HasNot | Progress::Unmanaged => None,
            _ if self.is_late(LEAVE_LIMIT, plan) => None,
            Progress::Has | Progress::Changes | Progress::Stuck(_) => {
                let config = self.node.machine_config.as_ref();
                Some(match config.and_then(|config| config.stuck.as_ref()) {
                    Some(why) => NodeState::FailedToUninstall {
                        reason: "Degraded".to_owned(),
                        message: degraded(why),
                    },
                    None => NodeState::Uninstalling,
                })
            }
        }
    }

    /// Takes the runtime off; none, when the last trace goes.
    fn remove(&self, plan: &mut Plan) -> Option<NodeState> {
        let machines: Vec<_> = self
            .observed
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
        if *self.way == Way::Preinstalled || runtime == Some(PREINSTALLED) {
            plan.add(self.patch([(labels::KATA_NODE, None), (RUNTIME, None)], None));
            return None;
        }
        if let Way::MachineConfigs(membership) = self.way
            && runtime != Some(RUNTIME_REMOVE)
            && let Some(state) = self.leave(membership, plan)
        {
            return Some(state);
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
        if self.is_late(RUNTIME_LIMIT, plan) {
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
    fn is_late(&self, limit: Duration, plan: &mut Plan) -> bool {
        let Some(since) = self.node.runtime_since else {
            return false;
        };
        let spent = Duration::try_from(self.now.duration_since(since)).unwrap_or_default();
        match limit.checked_sub(spent) {
            Some(left) if !left.is_zero() => {
                plan.look_again(left);
                false
            }
            _ => true,
        }
    }
}
