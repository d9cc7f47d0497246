//! Manifests, indexes and configurations: from bytes to what a pull needs.

use std::env::consts::ARCH;

use oci_spec::image::{Arch, ImageConfiguration, ImageIndex, ImageManifest, Os};
use serde::Deserialize;

use super::{Digest, ImageError, ImageReference, limits};

/// What manifests are asked for, for the Accept header.
pub(super) const ACCEPTED_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// How a layer's archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Plain,
    Gzip,
    Zstd,
}

/// A layer as it lies in the registry, and what must come out of it.
#[derive(Debug, Clone)]
pub(super) struct Descriptor {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) compression: Compression,
    pub(super) diff_id: Digest,
}

/// What the registry keeps under an image's name.
#[derive(Debug)]
pub(super) enum Document {
    /// One image.
    Manifest(Box<ImageManifest>),
    /// One image for each platform; this is the digest of ours.
    Index(Digest),
}

impl Document {
    /// Reads a manifest or index, and picks this machine's image from an index.
    pub(super) fn parse(image: &ImageReference, body: &[u8]) -> Result<Document, ImageError> {
        let kind: Kind = from_json(&format!("the manifest of {image}"), body)?;
        match kind.media_type.as_deref() {
            Some("application/vnd.oci.image.index.v1+json")
            | Some("application/vnd.docker.distribution.manifest.list.v2+json") => index(image, body),
            Some("application/vnd.oci.image.manifest.v1+json")
            | Some("application/vnd.docker.distribution.manifest.v2+json") => manifest(image, body),
            Some(other) => Err(ImageError::UnsupportedMediaType {
                subject: format!("the manifest of {image}"),
                media_type: other.to_owned(),
            }),
            // The OCI formats need not name themselves; only an index has the list.
            None if kind.manifests.is_some() => index(image, body),
            None => manifest(image, body),
        }
    }
}

/// The part of both documents that tells which one it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
}

fn manifest(image: &ImageReference, body: &[u8]) -> Result<Document, ImageError> {
    from_json(&format!("the manifest of {image}"), body)
        .map(|manifest| Document::Manifest(Box::new(manifest)))
}

fn index(image: &ImageReference, body: &[u8]) -> Result<Document, ImageError> {
    let index: ImageIndex = from_json(&format!("the index of {image}"), body)?;
    let wanted = match ARCH {
        "x86_64" => Arch::Amd64,
        "aarch64" => Arch::ARM64,
        other => Arch::Other(other.to_owned()),
    };
    let platforms = || {
        index
            .manifests()
            .iter()
            .filter_map(|entry| Some((entry, entry.platform().as_ref()?)))
    };
    let named = platforms()
        .find(|(_, platform)| *platform.os() == Os::Linux && *platform.architecture() == wanted)
        .map(|(entry, _)| entry);
    // An entry need not say for which platform it is (image index, `platform`): it serves where none says ours.
    let ours = named.or_else(|| {
        let mut entries = index.manifests().iter();
        entries.find(|entry| entry.platform().is_none())
    });
    match ours {
        Some(entry) => Ok(Document::Index(entry.digest().to_string().parse()?)),
        None => Err(ImageError::NoPlatform {
            image: image.to_string(),
            wanted: format!("linux/{wanted}"),
            offered: platforms()
                .take(16)
                .map(|(_, platform)| format!("{}/{}", platform.os(), platform.architecture()))
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

/// The digest of the configuration that a manifest points to.
pub(super) fn config_digest(manifest: &ImageManifest) -> Result<Digest, ImageError> {
    manifest.config().digest().to_string().parse()
}

/// Reads a configuration.
pub(super) fn parse_config(image: &ImageReference, body: &[u8]) -> Result<ImageConfiguration, ImageError> {
    from_json(&format!("the configuration of {image}"), body)
}

/// The layers, lowest first, each with its diff id from the configuration.
pub(super) fn layers(
    image: &ImageReference,
    manifest: &ImageManifest,
    config: &ImageConfiguration,
) -> Result<Vec<Descriptor>, ImageError> {
    let diff_ids = config.rootfs().diff_ids();
    if manifest.layers().len() > limits::LAYERS {
        let subject = format!("the manifest of {image}");
        return Err(ImageError::LimitExceeded {
            subject,
            limit: limits::LAYERS as u64,
            unit: "layers",
        });
    }
    if manifest.layers().len() != diff_ids.len() {
        return Err(ImageError::Malformed {
            subject: format!("the configuration of {image}"),
            reason: format!(
                "{} diff ids for {} layers",
                diff_ids.len(),
                manifest.layers().len()
            ),
        });
    }
    let pairs = manifest.layers().iter().zip(diff_ids);
    pairs
        .map(|(layer, diff_id)| {
            let digest: Digest = layer.digest().to_string().parse()?;
            let compression = compression(digest, layer.media_type().as_ref())?;
            Ok(Descriptor {
                digest,
                size: layer.size(),
                compression,
                diff_id: diff_id.parse()?,
            })
        })
        .collect()
}

fn compression(digest: Digest, media_type: &str) -> Result<Compression, ImageError> {
    let unsupported = || ImageError::UnsupportedMediaType {
        subject: format!("layer {digest}"),
        media_type: media_type.chars().take(200).collect(),
    };
    let packing = [
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar",
    ]
    .iter()
    .find_map(|archive| media_type.strip_prefix(archive))
    .ok_or_else(unsupported)?;
    match packing {
        "" => Ok(Compression::Plain),
        "+gzip" | ".gzip" => Ok(Compression::Gzip),
        "+zstd" | ".zstd" => Ok(Compression::Zstd),
        _ => Err(unsupported()),
    }
}

fn from_json<'a, T: Deserialize<'a>>(subject: &str, body: &'a [u8]) -> Result<T, ImageError> {
    serde_json::from_slice(body).map_err(|error| ImageError::Malformed {
        subject: subject.to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_types_of_both_vendors_are_known() {
        let digest = Digest::of(b"");
        let of = |media_type| compression(digest, media_type).ok();
        assert_eq!(
            of("application/vnd.oci.image.layer.v1.tar"),
            Some(Compression::Plain)
        );
        assert_eq!(
            of("application/vnd.oci.image.layer.v1.tar+zstd"),
            Some(Compression::Zstd)
        );
        assert_eq!(
            of("application/vnd.docker.image.rootfs.diff.tar.gzip"),
            Some(Compression::Gzip)
        );
        assert_eq!(of("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"), None);
        assert_eq!(of("application/wasm"), None);
    }

    #[test]
    fn the_index_entry_of_this_machine_is_chosen() {
        let entry = |architecture: &str, digit: &str| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:{}",
                "platform":{{"os":"linux","architecture":"{architecture}"}}}}"#,
                digit.repeat(64)
            )
        };
        let image = "example.org/app".parse().unwrap();
        let document = |entries: &[String]| {
            let body = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
            Document::parse(&image, body.as_bytes())
        };
        let both = document(&[entry("amd64", "a"), entry("arm64", "b"), entry("s390x", "c")]);
        let (wanted, wanted_name) = if ARCH == "aarch64" {
            ("b", "arm64")
        } else {
            ("a", "amd64")
        };
        assert!(matches!(both, Ok(Document::Index(digest)) if digest.hex() == wanted.repeat(64)));
        let unnamed = format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:{}"}}"#,
            "d".repeat(64)
        );
        let first = document(&[unnamed.clone(), entry(wanted_name, "a")]);
        assert!(matches!(first, Ok(Document::Index(digest)) if digest.hex() == "a".repeat(64)));
        let only = document(&[entry("s390x", "c"), unnamed]);
        assert!(matches!(only, Ok(Document::Index(digest)) if digest.hex() == "d".repeat(64)));
        let error = document(&[entry("s390x", "c")]).unwrap_err();
        assert!(error.to_string().contains("linux/s390x"), "{error}");
    }
}
