//! The annotation in which a peer pod's own requests and limits are kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The annotation's name.
pub const ANNOTATION: &str = "kata.peerpods.io/resources";

/// Kubernetes' own bound on all annotations of an object.
pub const ANNOTATION_BYTES_LIMIT: usize = 256 << 10;

/// Resources by name, for example `cpu`; quantities are as the pod has them, for example `500m`.
pub type ResourceList = BTreeMap<String, String>;

/// What a pod's containers, and the pod as a whole, ask for and may use. As an annotation:
///
/// ```json
/// {"containers":{"web":{"limits":{"cpu":"2","memory":"1Gi"},"requests":{"cpu":"500m"}}},
///  "pod":{"limits":{"memory":"2Gi"}},
///  "vm":{"default_vcpus":2,"default_memory":2048}}
/// ```
///
/// Every part may be missing. Parts that a version does not know are left alone by it, and not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodResources {
    /// Containers and init containers, by name; those that have neither requests nor limits are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub containers: BTreeMap<String, ContainerResources>,

    /// What the pod says for all of its containers together.
    #[serde(default, skip_serializing_if = "ContainerResources::is_empty")]
    pub pod: ContainerResources,

    /// The annotations of the VM's size that were derived from all this, by the end of their names. They tell what was
    /// derived from what a user wrote, when another webhook adds a container and the sum has to be made again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vm: BTreeMap<String, u32>,
}

/// What one container asks for and may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerResources {
    /// What it may use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: ResourceList,

    /// What it asks for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: ResourceList,
}

/// An annotation that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AnnotationError {
    /// It is longer than an object's annotations can be.
    #[error("annotation {annotation} has {bytes} bytes, more than {ANNOTATION_BYTES_LIMIT}")]
    TooLong {
        /// Its name.
        annotation: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// It is not what is written there.
    #[error("annotation {annotation} is not valid: {source}")]
    Invalid {
        /// Its name.
        annotation: &'static str,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
}

/// Reads the value of an annotation that is JSON.
pub(crate) fn parse<T: DeserializeOwned>(annotation: &'static str, text: &str) -> Result<T, AnnotationError> {
    let bytes = text.len();
    if bytes > ANNOTATION_BYTES_LIMIT {
        return Err(AnnotationError::TooLong { annotation, bytes });
    }
    serde_json::from_str(text).map_err(|source| AnnotationError::Invalid { annotation, source })
}

impl PodResources {
    /// Reads an annotation's value. Quantities are texts, and not looked at.
    ///
    /// # Errors
    /// [`AnnotationError`] says what is wrong, and where in the text.
    pub fn parse(text: &str) -> Result<Self, AnnotationError> {
        parse(ANNOTATION, text)
    }

    /// An annotation's value; the same resources give the same text.
    pub fn print(&self) -> String {
        serde_json::to_string(self).expect("maps with text keys can be written as JSON")
    }
}

impl ContainerResources {
    /// Whether it asks for nothing and may use everything.
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty() && self.requests.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_map, prelude::*};

    use super::*;

    #[test]
    fn it_is_written_as_documented() {
        let text = r#"{"containers":{"web":{"limits":{"cpu":"2"},"requests":{"cpu":"500m"}}},"pod":{"limits":{"memory":"2Gi"}},"vm":{"default_vcpus":2}}"#;
        let read = PodResources::parse(text).unwrap();
        assert_eq!(read.containers["web"].requests["cpu"], "500m");
        assert_eq!(read.print(), text);
        assert_eq!(PodResources::default().print(), "{}");
        assert_eq!(
            PodResources::parse(r#"{"later":1}"#).unwrap(),
            PodResources::default()
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_the_place() {
        let refused = PodResources::parse(r#"{"containers":{"web":{"limits":{"cpu":2}}}}"#).unwrap_err();
        assert!(
            refused.to_string().contains("expected a string at line 1 column"),
            "{refused}"
        );
        let long = " ".repeat(ANNOTATION_BYTES_LIMIT + 1);
        assert!(matches!(
            PodResources::parse(&long),
            Err(AnnotationError::TooLong { .. })
        ));
    }

    fn any_list() -> impl Strategy<Value = ResourceList> {
        btree_map("\\PC{0,20}", "\\PC{0,20}", 0..4)
    }

    fn any_container() -> impl Strategy<Value = ContainerResources> {
        (any_list(), any_list()).prop_map(|(limits, requests)| ContainerResources { limits, requests })
    }

    proptest! {
        #[test]
        fn what_was_printed_is_read_again(
            containers in btree_map("\\PC{0,20}", any_container(), 0..4),
            pod in any_container(),
            vm in btree_map("[a-z_]{1,20}", any::<u32>(), 0..3),
        ) {
            let resources = PodResources { containers, pod, vm };
            prop_assert_eq!(PodResources::parse(&resources.print()).unwrap(), resources);
        }
    }
}
