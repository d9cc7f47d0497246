//! What an image's name says about where it is.

use std::fmt;

/// Host names, repositories and digests fit well.
const IMAGE_LIMIT: usize = 1024;
/// Where images without a registry in their name are.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Docker Hub's older name.
const INDEX: &str = "index.docker.io";
/// Where Docker Hub has the repositories that belong to nobody.
const LIBRARY: &str = "library";

/// A registry and a repository in it, normalised: `docker.io/library/busybox` for `busybox:1.35`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    registry: String,
    path: String,
}

/// A text that names no image.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of an image")]
pub struct InvalidImage(String);

impl Repository {
    /// Reads the name of an image: tag and digest are left aside.
    ///
    /// # Errors
    /// [`InvalidImage`] for what no registry could have.
    pub fn of_image(image: &str) -> Result<Self, InvalidImage> {
        let invalid = || InvalidImage(image.chars().take(200).collect());
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/[]".contains(&byte);
        let name = image.split_once('@').map_or(image, |(name, _)| name);
        if image.len() > IMAGE_LIMIT || !name.bytes().all(allowed) {
            return Err(invalid());
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if is_registry(first) => (first, rest),
            Some(_) | None => (DEFAULT_REGISTRY, name),
        };
        let path = path.split_once(':').map_or(path, |(path, _)| path);
        if registry.is_empty() || path.split('/').any(str::is_empty) {
            return Err(invalid());
        }
        let registry = if registry == INDEX {
            DEFAULT_REGISTRY
        } else {
            registry
        };
        let path = match (registry, path.contains('/')) {
            (DEFAULT_REGISTRY, false) => format!("{LIBRARY}/{path}"),
            _ => path.to_owned(),
        };
        Ok(Self {
            registry: registry.to_owned(),
            path,
        })
    }

    /// The registry's host, with its port where the image's name has one.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in the registry.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether it is one of Docker Hub's.
    pub(super) fn is_on_docker_hub(&self) -> bool {
        self.registry == DEFAULT_REGISTRY
    }
}

/// The rule by which all container tools tell a host from a user of Docker Hub.
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

impl fmt::Display for Repository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        let digest = format!("@sha256:{}", "a".repeat(64));
        for (image, repository) in [
            ("busybox", "docker.io/library/busybox"),
            ("busybox:1.35", "docker.io/library/busybox"),
            ("team/app:v1", "docker.io/team/app"),
            ("index.docker.io/busybox", "docker.io/library/busybox"),
            ("localhost/app", "localhost/app"),
            ("10.250.0.1:5000/busybox:1.35", "10.250.0.1:5000/busybox"),
            ("example.com/a/b/c", "example.com/a/b/c"),
            (&format!("example.com:443/a:v1{digest}"), "example.com:443/a"),
        ] {
            assert_eq!(
                Repository::of_image(image).unwrap().to_string(),
                repository,
                "{image}"
            );
        }
    }

    #[test]
    fn what_names_no_image_is_refused() {
        for image in [
            "",
            "a b",
            "example.com/",
            "a//b",
            ":v1",
            r"a\b",
            "x?y",
            &"a".repeat(2000),
        ] {
            assert!(Repository::of_image(image).is_err(), "{image}");
        }
    }
}
