//! Why a VM ended, or never began.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a sandbox has no VM any more; what a person reads in the pod's events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", content = "message", rename_all = "kebab-case")]
pub(crate) enum Reason {
    /// The container runtime asked for the end.
    Requested,
    /// The pod's network namespace is gone, and with it the pod.
    Abandoned,
    /// The request can never succeed as it stands.
    Refused(String),
    /// There is no room for the VM now.
    NoCapacity(String),
    /// The provider made no instance.
    NotLaunched(String),
    /// The instance was made, and its agent never answered.
    NotBooted(String),
    /// The pod's network could not be connected with the VM.
    NotConnected(String),
    /// The instance ended by itself.
    Ended(String),
}

/// What [`Reason::key`] gives.
pub(crate) const REASON_KEYS: [&str; 8] = [
    "requested",
    "abandoned",
    "refused",
    "no-capacity",
    "not-launched",
    "not-booted",
    "not-connected",
    "ended",
];

impl Reason {
    /// The word by which figures tell reasons apart; the journal has the same.
    pub(crate) fn key(&self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Abandoned => "abandoned",
            Self::Refused(_) => "refused",
            Self::NoCapacity(_) => "no-capacity",
            Self::NotLaunched(_) => "not-launched",
            Self::NotBooted(_) => "not-booted",
            Self::NotConnected(_) => "not-connected",
            Self::Ended(_) => "ended",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested => formatter.write_str("its end was asked for"),
            Self::Abandoned => formatter.write_str("the pod's network namespace is gone"),
            Self::Refused(message) | Self::NoCapacity(message) => formatter.write_str(message),
            Self::NotLaunched(message) => write!(formatter, "the VM could not be launched: {message}"),
            Self::NotBooted(message) => write!(formatter, "the VM did not boot: {message}"),
            Self::NotConnected(message) => {
                write!(
                    formatter,
                    "the pod's network could not be connected with the VM: {message}"
                )
            }
            Self::Ended(message) => write!(formatter, "the VM ended: {message}"),
        }
    }
}
