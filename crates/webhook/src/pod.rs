//! What matters of a pod here, as the API server sends it. All the rest is never looked at.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// A pod that is about to be created.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Pod {
    #[serde(default)]
    pub(crate) metadata: Metadata,
    #[serde(default)]
    pub(crate) spec: Spec,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub(crate) name: Option<String>,
    pub(crate) generate_name: Option<String>,
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spec {
    pub(crate) runtime_class_name: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) containers: Vec<Container>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) init_containers: Vec<Container>,
    /// What the pod says for all of its containers together.
    pub(crate) resources: Option<Resources>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) volumes: Vec<Volume>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Volume {
    #[serde(default)]
    name: String,
    empty_dir: Option<EmptyDir>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EmptyDir {
    /// Nothing, or an empty text, for a disk.
    medium: Option<String>,
    size_limit: Option<QuantityText>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Container {
    #[serde(default)]
    pub(crate) name: String,
    /// `Always` on an init container makes it a sidecar, which runs on beside the others.
    pub(crate) restart_policy: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) resources: Resources,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct Resources {
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) limits: BTreeMap<String, QuantityText>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) requests: BTreeMap<String, QuantityText>,
    /// Devices by name; a VM beside the node has none of the node's.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) claims: Vec<serde::de::IgnoredAny>,
}

/// A quantity as it is written: a text, or a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QuantityText(pub(crate) String);

impl Pod {
    /// The pod's name, for people; of a pod that gets one from the API server, how it will begin.
    pub fn name(&self) -> &str {
        let names = [&self.metadata.name, &self.metadata.generate_name];
        names.into_iter().flatten().next().map_or("", String::as_str)
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

impl Volume {
    /// Name and limit of an emptyDir on disk that has one. What is in memory has its limit from the kubelet.
    pub(crate) fn limit_on_disk(&self) -> Option<(&str, &str)> {
        let empty_dir = self.empty_dir.as_ref()?;
        let limit = empty_dir.size_limit.as_ref()?;
        let is_on_disk = empty_dir.medium.as_deref().is_none_or(str::is_empty);
        is_on_disk.then_some((&self.name, &limit.0))
    }
}

impl Container {
    pub(crate) fn is_sidecar(&self) -> bool {
        self.restart_policy.as_deref() == Some("Always")
    }
}

impl Resources {
    pub(crate) fn is_empty(&self) -> bool {
        self.limits.is_empty() && self.requests.is_empty() && self.claims.is_empty()
    }
}

impl<'de> Deserialize<'de> for QuantityText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a quantity: a text or a number")]
        enum Written {
            Text(String),
            Number(serde_json::Number),
        }
        Ok(Self(match Written::deserialize(deserializer)? {
            Written::Text(text) => text,
            Written::Number(number) => number.to_string(),
        }))
    }
}

/// JSON of Go's programs may have null for what is empty.
fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
