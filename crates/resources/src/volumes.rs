//! The annotation in which the sizes are kept that a pod's emptyDir volumes may have.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{AnnotationError, Quantity, QuantityError, annotation};

/// The annotation's name.
pub const VOLUMES_ANNOTATION: &str = "kata.peerpods.io/volumes";

/// `sizeLimit` of a pod's emptyDir volumes on disk, by the volume's name; those without a limit are left out. As an
/// annotation:
///
/// ```json
/// {"cache":"512Mi","work":"10Gi"}
/// ```
///
/// The pod keeps its limits. The annotation is there because a container runtime is told nothing of them: the kubelet
/// measures the node's folder, which stays empty where the volume is in a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VolumeLimits(pub BTreeMap<String, String>);

/// A limit that is no quantity.
#[derive(Debug, thiserror::Error)]
#[error("annotation {VOLUMES_ANNOTATION}: volume {volume}")]
pub struct VolumeLimitError {
    volume: String,
    source: QuantityError,
}

impl VolumeLimits {
    /// Reads an annotation's value. Quantities are texts, and not looked at.
    ///
    /// # Errors
    /// [`AnnotationError`] says what is wrong, and where in the text.
    pub fn parse(text: &str) -> Result<Self, AnnotationError> {
        annotation::parse(VOLUMES_ANNOTATION, text)
    }

    /// An annotation's value; the same limits give the same text.
    pub fn print(&self) -> String {
        serde_json::to_string(self).expect("maps with text keys can be written as JSON")
    }

    /// How large a volume may become, in bytes, parts of one rounded up; `None` where it has no limit. As the kubelet
    /// takes it, 0 is none.
    ///
    /// # Errors
    /// [`VolumeLimitError`]: the volume's is no quantity.
    pub fn bytes(&self, volume: &str) -> Result<Option<u64>, VolumeLimitError> {
        let Some(text) = self.0.get(volume) else {
            return Ok(None);
        };
        let quantity: Quantity = text.parse().map_err(|source| VolumeLimitError {
            volume: volume.to_owned(),
            source,
        })?;
        let bytes = match quantity.is_negative() {
            true => 0,
            false => u64::try_from(quantity.whole_units()).expect("a quantity is below 2^63"),
        };
        Ok((bytes > 0).then_some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ANNOTATION_BYTES_LIMIT;

    #[test]
    fn it_is_written_as_documented() {
        let text = r#"{"cache":"512Mi","work":"10Gi"}"#;
        let limits = VolumeLimits::parse(text).unwrap();
        assert_eq!(limits.print(), text);
        assert_eq!(limits.bytes("cache").unwrap(), Some(512 << 20));
        assert_eq!(limits.bytes("other").unwrap(), None);
    }

    #[test]
    fn a_limit_is_a_whole_number_of_bytes_and_none_is_no_limit() {
        let limits = VolumeLimits::parse(r#"{"none":"0","less":"-1Gi","part":"1500m","most":"9E"}"#).unwrap();
        let of = |name: &str| limits.bytes(name).unwrap();
        assert_eq!((of("none"), of("less"), of("part")), (None, None, Some(2)));
        assert_eq!(of("most"), Some(9_000_000_000_000_000_000));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let refused = VolumeLimits::parse(r#"{"work":1}"#).unwrap_err().to_string();
        assert!(
            refused.contains("expected a string at line 1 column"),
            "{refused}"
        );
        let limits = VolumeLimits::parse(r#"{"work":"much"}"#).unwrap();
        let refused = limits.bytes("work").unwrap_err().to_string();
        assert_eq!(refused, "annotation kata.peerpods.io/volumes: volume work");
        let long = " ".repeat(ANNOTATION_BYTES_LIMIT + 1);
        assert!(matches!(
            VolumeLimits::parse(&long),
            Err(AnnotationError::TooLong { .. })
        ));
    }
}
