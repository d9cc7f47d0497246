//! The annotation in which the sizes are kept that a pod's emptyDir volumes may have.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Quantity, QuantityError, annotation::ANNOTATION_BYTES_LIMIT};

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

/// Limits of volumes that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum VolumeLimitsError {
    /// The annotation is longer than an object's annotations can be.
    #[error("annotation {VOLUMES_ANNOTATION} has {bytes} bytes, more than {ANNOTATION_BYTES_LIMIT}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The annotation is not what is written there.
    #[error("annotation {VOLUMES_ANNOTATION} is not valid: {0}")]
    Invalid(#[from] serde_json::Error),
    /// A limit is no quantity.
    #[error("annotation {VOLUMES_ANNOTATION}: volume {volume}")]
    Quantity {
        /// The volume's name.
        volume: String,
        /// What is wrong with its limit.
        #[source]
        source: QuantityError,
    },
}

impl VolumeLimits {
    /// Reads an annotation's value. Quantities are texts, and not looked at.
    ///
    /// # Errors
    /// [`VolumeLimitsError`] says what is wrong, and where in the text.
    pub fn parse(text: &str) -> Result<Self, VolumeLimitsError> {
        if text.len() > ANNOTATION_BYTES_LIMIT {
            return Err(VolumeLimitsError::TooLong { bytes: text.len() });
        }
        Ok(serde_json::from_str(text)?)
    }

    /// An annotation's value; the same limits give the same text.
    pub fn print(&self) -> String {
        serde_json::to_string(self).expect("maps with text keys can be written as JSON")
    }

    /// How large a volume may become, in bytes, parts of one rounded up; `None` where it has no limit. As the kubelet
    /// takes it, 0 is none.
    ///
    /// # Errors
    /// [`VolumeLimitsError::Quantity`]
    pub fn bytes(&self, volume: &str) -> Result<Option<u64>, VolumeLimitsError> {
        let Some(text) = self.0.get(volume) else {
            return Ok(None);
        };
        let quantity: Quantity = text.parse().map_err(|source| VolumeLimitsError::Quantity {
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
            Err(VolumeLimitsError::TooLong { .. })
        ));
    }
}
