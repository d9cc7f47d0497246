//! The actions of a plan.

use std::{collections::BTreeMap, time::Duration};

use peerpods_api::{KataConfigStatus, PeerPodConfig, PeerPodConfigStatus, VmLimit};

use crate::{
    managed::{ManagedObject, ObjectKey},
    observed::{ImageId, NodeName, PeerPodSummary},
};

/// All that is to be done now, in any order, and when to look again though nothing changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Each can be done, or fail, without the others.
    pub actions: Vec<Action>,
    /// The next time at which only the clock makes a difference.
    pub look_again_after: Option<Duration>,
}

impl Plan {
    pub(super) fn add(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(super) fn look_again(&mut self, after: Duration) {
        self.look_again_after = Some(self.look_again_after.map_or(after, |earlier| earlier.min(after)));
    }
}

/// One action; each can be repeated without harm.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Sets the finalizers of a KataConfig, if it is still the version that was seen.
    SetFinalizers {
        /// Its name.
        kata_config: String,
        /// All that it is to have.
        finalizers: Vec<String>,
        /// The version that was seen.
        resource_version: Option<String>,
    },
    /// Makes an object what is wanted.
    Apply(ManagedObject),
    /// Removes an object.
    Remove(ObjectKey),
    /// Issues a certificate for the webhook; the authority of the one before stays trusted.
    IssueCertificate {
        /// The PEM text of that authority.
        previous_authority: Option<String>,
    },
    /// Makes a PeerPodConfig, unless it exists.
    CreateConfig(Box<PeerPodConfig>),
    /// Removes a PeerPodConfig of the operator's namespace.
    RemoveConfig(String),
    /// Changes labels and annotations of a node.
    PatchNode(NodePatch),
    /// Sets how many VMs a node may have; with none, takes the entry away.
    SetCapacity {
        /// The node.
        node: NodeName,
        /// How many.
        capacity: Option<VmLimit>,
    },
    /// Says what has become of a KataConfig.
    SetKataStatus {
        /// Its name.
        kata_config: String,
        /// All that there is to say.
        status: Box<KataConfigStatus>,
    },
    /// Says what has become of a PeerPodConfig.
    SetConfigStatus {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// All that there is to say.
        status: Box<PeerPodConfigStatus>,
    },
    /// Names the VM image in the settings, where nobody names one.
    SetImage(ImageId),
    /// Ends the VM of a PeerPod through its provider, and lets the PeerPod go once the provider says that it is gone.
    Reap(PeerPodSummary),
    /// Tells people.
    Announce(Announcement),
}

/// Labels and annotations to set, or to take away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePatch {
    /// The node.
    pub node: NodeName,
    /// Labels.
    pub labels: BTreeMap<&'static str, Option<String>>,
    /// Annotations.
    pub annotations: BTreeMap<&'static str, Option<String>>,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// What it is about.
    pub regarding: Regarding,
    /// Whether somebody should do something.
    pub severity: Severity,
    /// In one word.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Regarding {
    /// A KataConfig.
    KataConfig {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// A node.
    Node(NodeName),
}

/// Whether somebody should do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// No.
    Normal,
    /// Yes.
    Warning,
}
