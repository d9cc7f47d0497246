//! One warm VM: what is known of it, and how far it is.

use std::fmt;

use peerpods_proto::payload::{JoinSecret, ScratchEncryption};
use peerpods_provider::{Instance, InstanceKind, LaunchToken};
use peerpods_tunnel::channel::{ClientIdentity, Connection, ServerKeyPin};
use serde::{Deserialize, Serialize};

use crate::agent;

/// A member of the pool, as the journal keeps it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Member {
    /// Of its launch, which others may have been launched with.
    pub(crate) token: LaunchToken,
    /// What it was launched as: of no use to pods that would get another kind.
    pub(crate) kind: InstanceKind,
    /// How it was told to protect its scratch disk, which it does before it has a pod: of no use where another way is set.
    #[serde(default)]
    pub(crate) scratch_encryption: ScratchEncryption,
    /// Of its launch, as the join secret.
    pub(crate) identity: ClientIdentity,
    pub(crate) join_secret: JoinSecret,
    pub(crate) state: MemberState,
}

/// How far a member is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub(crate) enum MemberState {
    /// The provider was or will be asked for it, or for several; instances may exist.
    Launching,
    /// It exists, one of several that were launched together; its guest is awaited.
    Booting { instance: Instance },
    /// Its guest proved itself, and waits.
    Waiting {
        instance: Instance,
        server_key: ServerKeyPin,
    },
}

/// A VM that waited, in the hands of the sandbox that took it: all that is needed to claim it, or to end it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct WarmVm {
    pub(crate) instance: Instance,
    pub(crate) server_key: ServerKeyPin,
    pub(crate) identity: ClientIdentity,
}

impl fmt::Debug for WarmVm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WarmVm")
            .field("instance", &self.instance.id)
            .finish_non_exhaustive()
    }
}

impl Member {
    /// Its record's name: the launch token says which launch it is, until there are instances.
    pub(crate) fn key(&self) -> &str {
        self.instance()
            .map_or(self.token.as_str(), |instance| instance.id.as_str())
    }

    /// The instance, where it is known.
    pub(crate) fn instance(&self) -> Option<&Instance> {
        match &self.state {
            MemberState::Launching => None,
            MemberState::Booting { instance } | MemberState::Waiting { instance, .. } => Some(instance),
        }
    }

    /// The VM, where it waits.
    pub(crate) fn warm_vm(&self) -> Option<WarmVm> {
        match &self.state {
            MemberState::Launching | MemberState::Booting { .. } => None,
            MemberState::Waiting { instance, server_key } => Some(WarmVm {
                instance: instance.clone(),
                server_key: *server_key,
                identity: self.identity.clone(),
            }),
        }
    }
}

impl WarmVm {
    /// How its guest is reached until it is claimed.
    pub(crate) fn connection(&self, port: u16) -> Connection {
        Connection {
            address: agent::address(&self.instance, port),
            server_key: self.server_key,
            client_certificate_pem: self.identity.certificate_pem.clone(),
            client_key_pem: self.identity.key_pem.clone(),
        }
    }
}
