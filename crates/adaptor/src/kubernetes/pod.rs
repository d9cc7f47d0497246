//! What is read of pods and Secrets.

use std::collections::BTreeMap;

use peerpods_proto::payload::SecretText;
use serde::Deserialize;

use super::{Cluster, KubernetesError, ObjectName};

/// A pod, as far as its images are concerned.
#[derive(Debug, Deserialize)]
pub(crate) struct Pod {
    pub(crate) metadata: Metadata,
    #[serde(default)]
    spec: PodSpec,
}

/// What identifies an object.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) uid: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    image_pull_secrets: Vec<Reference>,
}

#[derive(Debug, Deserialize)]
struct Reference {
    /// Kubernetes lets it be empty, which means nothing.
    #[serde(default)]
    name: String,
}

impl Pod {
    /// The Secrets that it names for its images; those of its service account are among them, since its admission.
    pub(crate) fn pull_secrets(&self) -> Vec<ObjectName> {
        let names = self.spec.image_pull_secrets.iter();
        names
            .filter_map(|reference| ObjectName::try_from(reference.name.clone()).ok())
            .collect()
    }
}

/// A Secret: the values are base64.
#[derive(Debug, Deserialize)]
pub(crate) struct Secret {
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) data: BTreeMap<String, SecretText>,
}

impl Cluster {
    /// One pod. The account needs `get` on pods.
    pub(crate) async fn pod(
        &self,
        namespace: &ObjectName,
        name: &ObjectName,
    ) -> Result<Pod, KubernetesError> {
        self.get(&format!("/api/v1/namespaces/{namespace}/pods"), name)
            .await
    }

    /// The UID of the pod of this name. The account needs `get` on pods.
    pub(crate) async fn pod_uid(&self, namespace: &str, name: &str) -> Result<String, KubernetesError> {
        let checked = |text: &str| {
            ObjectName::try_from(text.to_owned()).map_err(|error| KubernetesError::Refused(error.to_string()))
        };
        let pod = self.pod(&checked(namespace)?, &checked(name)?).await?;
        Ok(pod.metadata.uid)
    }

    /// One Secret. The account needs `get` on Secrets of the namespace.
    pub(crate) async fn secret(
        &self,
        namespace: &ObjectName,
        name: &ObjectName,
    ) -> Result<Secret, KubernetesError> {
        self.get(&format!("/api/v1/namespaces/{namespace}/secrets"), name)
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_of_objects() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "uid": "u-1"},
            "spec": {"containers": [], "imagePullSecrets": [{"name": "a"}, {}, {"name": "b"}]},
        }))
        .unwrap();
        assert_eq!(pod.metadata.uid, "u-1");
        let names: Vec<_> = pod.pull_secrets().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a", "b"]);

        let secret: Secret =
            serde_json::from_str(r#"{"type": "Opaque", "data": {"a": "aHVudGVyMg=="}}"#).unwrap();
        assert!(!format!("{secret:?}").contains("aHVu"), "{secret:?}");
        assert_eq!(serde_json::from_str::<Secret>("{}").unwrap().kind, "");
    }
}
