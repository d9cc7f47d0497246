//! `PeerPodConfig`: how many VMs each node may have, and with which settings.

use std::{collections::BTreeMap, fmt, str::FromStr};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names;

/// How many virtual machines nodes may have, and with which settings and credentials they are launched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "confidentialcontainers.org",
    version = "v1alpha1",
    kind = "PeerPodConfig",
    plural = "peerpodconfigs",
    namespaced,
    status = "PeerPodConfigStatus",
    derive = "PartialEq",
    doc = "How many virtual machines nodes may have, and with which settings and credentials they are launched.",
    printcolumn(
        name = "Limit",
        type_ = "string",
        json_path = ".spec.limit",
        description = "Virtual machines per node"
    ),
    printcolumn(
        name = "Nodes",
        type_ = "integer",
        json_path = ".status.nodeCount",
        description = "Nodes that have this capacity"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct PeerPodConfigSpec {
    /// The Secret, in this namespace, with the cloud provider's credentials.
    #[serde(default = "cloud_secret")]
    pub cloud_secret_name: String,

    /// The ConfigMap, in this namespace, with the settings.
    #[serde(default = "settings")]
    pub config_map_name: String,

    /// How many virtual machines each node may have: a number, written as a string. Without it, 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{1,6}$')")
        .message("limit must be a non-negative integer of at most 6 digits written as a string, for example \"10\""))]
    pub limit: Option<String>,

    /// Deprecated: accepted and not used. PODVM_INSTANCE_TYPE in the ConfigMap says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,

    /// The nodes that have this capacity. Without it, all that have the label node.kubernetes.io/worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<BTreeMap<String, String>>,
}

fn cloud_secret() -> String {
    names::CLOUD_SECRET.to_owned()
}

fn settings() -> String {
    names::SETTINGS_CONFIG_MAP.to_owned()
}

impl Default for PeerPodConfigSpec {
    fn default() -> Self {
        Self {
            cloud_secret_name: cloud_secret(),
            config_map_name: settings(),
            limit: None,
            instance_type: None,
            node_selector: None,
        }
    }
}

impl PeerPodConfigSpec {
    /// How many VMs each node may have; 1 where nothing is said, as today.
    ///
    /// # Errors
    /// [`InvalidLimit`]: an object from before the schema had a rule for it.
    pub fn vm_limit(&self) -> Result<VmLimit, InvalidLimit> {
        self.limit.as_deref().map_or(Ok(VmLimit(1)), str::parse)
    }
}

/// How many VMs a node may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VmLimit(pub u32);

impl fmt::Display for VmLimit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for VmLimit {
    type Err = InvalidLimit;

    /// Takes what the schema's rule takes.
    fn from_str(text: &str) -> Result<Self, InvalidLimit> {
        let is_number = (1..=6).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = is_number.then(|| text.parse().ok()).flatten();
        number.map(Self).ok_or_else(|| InvalidLimit {
            text: text.chars().take(InvalidLimit::SHOWN_CHARACTERS).collect(),
        })
    }
}

/// A limit that is no number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "limit {text:?} is not a non-negative integer of at most 6 digits written as a string, for example \"10\""
)]
pub struct InvalidLimit {
    text: String,
}

impl InvalidLimit {
    /// More of a wrong text helps nobody.
    const SHOWN_CHARACTERS: usize = 32;
}

/// What has become of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct PeerPodConfigStatus {
    /// The generation of the spec that the rest is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// How many nodes have this capacity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_count: Option<i64>,

    /// The state of the whole: Ready, SettingsValid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// Deprecated: never set. The condition Ready says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup_completed: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_written_as_a_string() {
        let limit = |text: &str| {
            let limit = Some(text.to_owned());
            PeerPodConfigSpec {
                limit,
                ..Default::default()
            }
            .vm_limit()
        };
        assert_eq!(limit("10"), Ok(VmLimit(10)));
        assert_eq!(limit("010"), Ok(VmLimit(10)));
        assert_eq!(limit("0").unwrap().to_string(), "0");
        assert_eq!(PeerPodConfigSpec::default().vm_limit(), Ok(VmLimit(1)));
        for wrong in ["", "-1", "+1", "ten", "1.5", " 1", "1k", "1000000"] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }
}
