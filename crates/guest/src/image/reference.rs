//! The name of an image, parsed once at the border.

use std::{fmt, str::FromStr};

use oci_client::Reference;
use peerpods_proto::registry::Repository;

use super::ImageError;

/// Longest reference read: a host name, a repository of 255 bytes, a tag of 128 and a digest fit well.
const REFERENCE_BYTES: usize = 1024;

/// A normalised image reference: registry, repository, and a tag or digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReference(Reference);

impl ImageReference {
    /// The registry's host and port, as written or implied.
    pub fn registry(&self) -> &str {
        self.0.registry()
    }

    /// The host and port that is really talked to (Docker Hub's API has another name than its images).
    pub(super) fn registry_host(&self) -> &str {
        self.0.resolve_registry()
    }

    /// What the manifest is asked for by: the digest if there is one, else the tag.
    pub(super) fn version(&self) -> &str {
        self.0.digest().or(self.0.tag()).unwrap_or("latest")
    }

    /// Whether the image is in this repository, by the reading of whoever named it.
    pub(super) fn is_in(&self, repository: &Repository) -> bool {
        self.0.registry() == repository.registry() && self.0.repository() == repository.path()
    }

    pub(super) fn inner(&self) -> &Reference {
        &self.0
    }
}

impl FromStr for ImageReference {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<ImageReference, ImageError> {
        let refuse = |reason: String| ImageError::BadReference {
            text: text.chars().take(200).collect(),
            reason,
        };
        if text.len() > REFERENCE_BYTES {
            return Err(refuse(format!("longer than {REFERENCE_BYTES} bytes")));
        }
        text.parse()
            .map(ImageReference)
            .map_err(|error: oci_client::ParseError| refuse(error.to_string()))
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_mean_docker_hub_and_latest() {
        let reference: ImageReference = "busybox".parse().unwrap();
        assert_eq!(reference.to_string(), "docker.io/library/busybox:latest");
        assert_eq!(reference.version(), "latest");
        let reference: ImageReference = "10.250.0.1:5000/team/app:v1".parse().unwrap();
        assert_eq!(
            (reference.registry(), reference.version()),
            ("10.250.0.1:5000", "v1")
        );
    }

    #[test]
    fn an_image_is_in_the_repository_that_the_worker_reads_in_its_name() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for image in [
            "busybox",
            "team/app:v1",
            "index.docker.io/busybox",
            "localhost/app",
            "10.250.0.1:5000/a/b:v1",
            &format!("example.com:443/a:v1@{digest}"),
        ] {
            let reference: ImageReference = image.parse().unwrap();
            assert!(
                reference.is_in(&Repository::of_image(image).unwrap()),
                "{image}: {reference}"
            );
            assert!(!reference.is_in(&Repository::of_image("example.com/other").unwrap()));
        }
    }

    #[test]
    fn what_is_no_reference_is_named() {
        for text in ["", "UPPER/Case", "a b", "x@sha256:zz", &"a".repeat(2000)] {
            assert!(
                matches!(
                    text.parse::<ImageReference>(),
                    Err(ImageError::BadReference { .. })
                ),
                "{text}"
            );
        }
    }
}
