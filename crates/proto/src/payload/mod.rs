//! The boot payload: what a peer pod VM is told as it starts.
//!
//! A cloud-config document whose `write_files` carry `apf.json`, in the format of today's peer pods so that images and
//! adaptors can be exchanged, and `peerpods.json` with what only our guest understands. A VM that is launched before its
//! pod is known gets `warm.json` in their place, and the document of its pod later, over the agent channel.

mod document;
mod error;
mod network;
mod secret;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use error::PayloadError;
pub use network::{InvalidIpNet, IpNet, Neighbor, PodNetwork, Route, TunnelType};
pub use secret::{JoinSecret, SecretText};

/// EC2 refuses user data of more bytes than this.
pub const RENDERED_LIMIT: usize = 16 * 1024;
/// The most that the guest reads: a stock adaptor on another cloud may send more than EC2 takes.
pub const PARSED_LIMIT: usize = 256 * 1024;

/// All that a VM is told as it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootPayload {
    /// Pod network and trust, in the format of today's peer pods.
    pub forwarder: ForwarderConfig,
    /// What our guest needs besides; a stock adaptor does not send it.
    pub settings: Option<GuestSettings>,
}

/// What the user data of a VM can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserData {
    /// The VM is one pod's from its start.
    Pod(Box<BootPayload>),
    /// It waits to be claimed for a pod.
    Warm(WarmPayload),
}

/// What a VM without a pod is told; the content of `warm.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct WarmPayload {
    /// Whose certificate may meet and claim the guest: PEM. Nobody else's connections are heard.
    pub client_ca: String,
    /// Proves to each other that worker and guest are those that were meant.
    pub join_secret: JoinSecret,
    /// How long the guest lives without a word from its worker.
    #[serde(rename = "lease_seconds", with = "seconds")]
    pub lease: Duration,
    /// How its scratch disk is protected. Written only where it is, so that older guests understand the rest.
    #[serde(default, skip_serializing_if = "ScratchEncryption::is_none")]
    pub scratch_encryption: ScratchEncryption,
}

/// Whether what images and containers leave on the VM's scratch disk can be read without the VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScratchEncryption {
    /// Whoever reads the disk can read it.
    #[default]
    None,
    /// It is encrypted with a key that the guest makes and keeps in its memory alone.
    Ephemeral,
}

impl ScratchEncryption {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's form.
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// The content of `apf.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ForwarderConfig {
    /// The pod's network as its CNI made it on the worker.
    pub pod_network: PodNetwork,
    /// The pod's namespace.
    pub pod_namespace: String,
    /// The pod's name.
    pub pod_name: String,
    /// Whose certificates may connect to the agent: PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_client_ca: Option<String>,
    /// The server's key, PEM; only a stock adaptor sends one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_server_key: Option<SecretText>,
    /// The server's certificate, PEM; only a stock adaptor sends one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_server_cert: Option<String>,
}

/// The content of `peerpods.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct GuestSettings {
    /// Proves to each other that worker and guest are those that were meant; spent by the first agent connection.
    pub join_secret: JoinSecret,
    /// How long the guest lives without a word from its worker.
    #[serde(rename = "lease_seconds", with = "seconds")]
    pub lease: Duration,
    /// Registries spoken to in plain HTTP, as `host:port`.
    #[serde(default)]
    pub insecure_registries: Vec<String>,
    /// How the scratch disk is protected, as in [`WarmPayload`]; in a VM that waited, that one has decided.
    #[serde(default, skip_serializing_if = "ScratchEncryption::is_none")]
    pub scratch_encryption: ScratchEncryption,
    /// Whether containers reach the instance metadata service.
    #[serde(default, skip_serializing_if = "InstanceMetadata::is_refused")]
    pub instance_metadata: InstanceMetadata,
}

/// Whether a pod's containers reach the metadata service of the VM that they are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceMetadata {
    /// They do not.
    #[default]
    Refuse,
    /// They do, and get what it tells: credentials of the VM's role, where it has one, among it.
    Allow,
}

impl InstanceMetadata {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's form.
    fn is_refused(&self) -> bool {
        *self == Self::Refuse
    }
}

impl BootPayload {
    /// The user data of the VM: at most [`RENDERED_LIMIT`] bytes, wiped when dropped.
    ///
    /// # Errors
    /// [`PayloadError::TooLarge`] where it would be longer.
    pub fn render(&self) -> Result<Zeroizing<String>, PayloadError> {
        document::render(self)
    }

    /// Reads the payload of a pod's VM, ours or a stock adaptor's; files that neither of us knows are left aside.
    ///
    /// # Errors
    /// What is wrong, with the name of the file and field.
    pub fn parse(user_data: &[u8]) -> Result<Self, PayloadError> {
        document::parse_pod(user_data)
    }
}

impl WarmPayload {
    /// The user data of the VM: at most [`RENDERED_LIMIT`] bytes, wiped when dropped.
    ///
    /// # Errors
    /// [`PayloadError::TooLarge`] where it would be longer.
    pub fn render(&self) -> Result<Zeroizing<String>, PayloadError> {
        document::render_warm(self)
    }
}

impl UserData {
    /// Reads what a VM was started with.
    ///
    /// # Errors
    /// What is wrong, with the name of the file and field.
    pub fn parse(user_data: &[u8]) -> Result<Self, PayloadError> {
        document::parse(user_data)
    }
}

mod seconds {
    //! Durations in whole seconds.

    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(duration.as_secs())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_secs)
    }
}
