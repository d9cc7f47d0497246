//! Ids, requests and answers of the provider contract.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::ProviderError;

/// Makes a launch idempotent: derived from cluster, node, sandbox and attempt; at most 64 ASCII
/// letters, digits and dashes (EC2's client token limit).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LaunchToken(String);

/// A text that is no [`LaunchToken`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a launch token is 1 to 64 ASCII letters, digits and dashes, not {0:?}")]
pub struct InvalidToken(pub String);

impl TryFrom<String> for LaunchToken {
    type Error = InvalidToken;

    fn try_from(text: String) -> Result<Self, InvalidToken> {
        let valid = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if valid {
            Ok(Self(text))
        } else {
            Err(InvalidToken(text))
        }
    }
}

impl From<LaunchToken> for String {
    fn from(token: LaunchToken) -> Self {
        token.0
    }
}

impl LaunchToken {
    /// The token's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LaunchToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A provider's name for one instance, for example `i-0abc…`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(String);

impl InstanceId {
    /// Takes a name that a provider gave.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Whom an instance serves; written on the instance as it is made, and once more when a warm one is claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Owner {
    /// The cluster's id (the UID of its `kube-system` namespace, or a configured name).
    pub cluster: String,
    /// The worker node's name.
    pub node: String,
    /// What the node has it for.
    #[serde(flatten)]
    pub assignment: Assignment,
}

/// What a node has an instance for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "assignment", rename_all = "kebab-case")]
pub enum Assignment {
    /// It waits for a pod, without identity: [`crate::Provider::claim`] gives it one.
    Warm,
    /// It is this pod's, to its end.
    Pod(PodIdentity),
}

/// The pod that an instance serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PodIdentity {
    /// The sandbox id that the container runtime gave.
    pub sandbox: String,
    /// The pod's namespace.
    pub pod_namespace: String,
    /// The pod's name.
    pub pod_name: String,
    /// The pod's UID; absent when a stock Kata shim asked, which does not send it.
    pub pod_uid: Option<String>,
}

impl Owner {
    /// The owner after `pod` claimed the instance `id`.
    ///
    /// # Errors
    /// [`ProviderError::ClaimedByAnother`]: the instance is another pod's already.
    pub fn claimed_by(&self, id: &InstanceId, pod: &PodIdentity) -> Result<Self, ProviderError> {
        match &self.assignment {
            Assignment::Pod(owner) if owner != pod => Err(ProviderError::ClaimedByAnother {
                instance: id.clone(),
                sandbox: owner.sandbox.clone(),
            }),
            Assignment::Pod(_) | Assignment::Warm => Ok(Self {
                assignment: Assignment::Pod(pod.clone()),
                ..self.clone()
            }),
        }
    }
}

/// Which owners' instances to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerScope {
    /// The cluster's id.
    pub cluster: String,
    /// One node, or all nodes of the cluster.
    pub node: Option<String>,
}

impl OwnerScope {
    /// Whether `owner` is within this scope.
    pub fn contains(&self, owner: &Owner) -> bool {
        self.cluster == owner.cluster && self.node.as_ref().is_none_or(|node| *node == owner.node)
    }
}

/// The size and kind of VM that a pod asks for; `None` leaves the choice to the provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Shape {
    /// Whole virtual CPUs.
    pub vcpus: Option<u32>,
    /// Memory in MiB.
    pub memory_mib: Option<u32>,
    /// GPUs.
    pub gpus: Option<u32>,
    /// The provider's name of an instance type.
    pub machine_type: Option<String>,
    /// The provider's name of a VM image.
    pub image: Option<String>,
}

/// What kind of instance a shape gets at a provider, as a text that changes with whatever makes instances differ: size,
/// image, settings. Instances of equal kinds can stand in for each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceKind(String);

impl InstanceKind {
    /// Takes a text that a provider made.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Everything that a launch needs; building one has no effect.
#[derive(Clone)]
pub struct LaunchRequest {
    /// Makes the launch idempotent.
    pub token: LaunchToken,
    /// Whom the instance serves.
    pub owner: Owner,
    /// Size and kind.
    pub shape: Shape,
    /// A name for people, at most 63 characters.
    pub name: String,
    /// Further tags, for people and their bills.
    pub tags: BTreeMap<String, String>,
    /// The boot payload, opaque to providers. Holds a one-time secret: never logged.
    pub payload: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for LaunchRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LaunchRequest")
            .field("token", &self.token)
            .field("owner", &self.owner)
            .field("shape", &self.shape)
            .field("name", &self.name)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// One launched instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The provider's name for it.
    pub id: InstanceId,
    /// Where the worker reaches it; the first one is used. Never empty.
    pub addresses: Vec<IpAddr>,
    /// The provider's name of its instance type; none where instances have sizes without names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_type: Option<String>,
}

/// Whether an instance lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceStatus {
    /// Starting or running.
    Alive,
    /// Ended, ending, or never known; the text says what the provider knows of the cause.
    Gone(String),
}

/// An instance with its owner, as [`crate::Provider::list`] finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedInstance {
    /// The instance.
    pub instance: Instance,
    /// The token it was launched with.
    pub token: LaunchToken,
    /// Whom it serves.
    pub owner: Owner,
}
