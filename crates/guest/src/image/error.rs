//! What can go wrong with an image, in the words a pod event needs.

use std::{fmt, io, path::PathBuf};

use peerpods_proto::registry::ImageAccess;

/// Why an image could not be pulled, unpacked or mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The text is not an image reference.
    #[error("\"{text}\" is not an image reference: {reason}")]
    BadReference {
        /// The text that was given.
        text: String,
        /// What the parser objects to.
        reason: String,
    },
    /// The registry answers that it has no such image.
    #[error("image {image} not found: registry {registry} says {answer}")]
    NotFound {
        /// The reference asked for.
        image: String,
        /// The registry's host.
        registry: String,
        /// Its own words.
        answer: String,
    },
    /// The registry wants other credentials, or any.
    #[error("registry {registry} refuses access to {image}: {answer}")]
    Unauthorized {
        /// The reference asked for.
        image: String,
        /// The registry's host.
        registry: String,
        /// Its own words.
        answer: String,
    },
    /// The registry refused access, or knows of no such image, whatever it was shown.
    #[error("{refusal}; {attempts}")]
    NoAccess {
        /// The last refusal.
        refusal: Box<ImageError>,
        /// What was tried.
        attempts: Attempts,
    },
    /// Credentials were given that are for another repository.
    #[error("the credentials for {image} are for {repository}")]
    ForeignCredentials {
        /// The reference asked for.
        image: String,
        /// What the credentials are for.
        repository: String,
    },
    /// The registry could not be talked to.
    #[error("registry {registry} is unreachable: {cause}")]
    RegistryUnreachable {
        /// The registry's host.
        registry: String,
        /// What happened on the way.
        cause: Unreachable,
    },
    /// The registry was reached and failed to serve.
    #[error("registry {registry} answers status {status}: {answer}")]
    RegistryFailed {
        /// The registry's host.
        registry: String,
        /// The HTTP status.
        status: u16,
        /// Its own words.
        answer: String,
    },
    /// The registry's answer makes no sense.
    #[error("registry {registry} breaks the protocol: {reason}")]
    RegistryProtocol {
        /// The registry's host.
        registry: String,
        /// What was expected and did not come.
        reason: String,
    },
    /// Content is not what its digest says.
    #[error("{subject} is corrupt or was tampered with: expected {expected}, got {actual}")]
    DigestMismatch {
        /// What was checked.
        subject: String,
        /// The digest asked for.
        expected: String,
        /// The digest of what came.
        actual: String,
    },
    /// A digest of another algorithm than SHA-256, or no digest at all.
    #[error("\"{digest}\" is not a sha256 digest")]
    UnsupportedDigest {
        /// The text that was given.
        digest: String,
    },
    /// A manifest or layer of a kind that is not known here.
    #[error("{subject} has the unsupported media type \"{media_type}\"")]
    UnsupportedMediaType {
        /// What has it.
        subject: String,
        /// The type.
        media_type: String,
    },
    /// An index without an image for this machine.
    #[error("image {image} has no variant for {wanted} (it has: {offered})")]
    NoPlatform {
        /// The reference asked for.
        image: String,
        /// This machine's platform.
        wanted: String,
        /// What the index lists.
        offered: String,
    },
    /// A manifest or configuration that cannot be read.
    #[error("{subject} is malformed: {reason}")]
    Malformed {
        /// What is malformed.
        subject: String,
        /// The first thing wrong with it.
        reason: String,
    },
    /// Something is larger than this guest accepts.
    #[error("{subject} exceeds the limit of {limit} {unit}")]
    LimitExceeded {
        /// What is too large.
        subject: String,
        /// The limit.
        limit: u64,
        /// What the limit counts.
        unit: &'static str,
    },
    /// A layer's entry that would leave the layer's directory or cannot be represented.
    #[error("layer entry \"{entry}\" is refused: {reason}")]
    RefusedEntry {
        /// The entry's path in the layer.
        entry: String,
        /// Why.
        reason: &'static str,
    },
    /// A layer's entry could not be made.
    #[error("cannot {action} layer entry \"{entry}\"")]
    Entry {
        /// What was tried.
        action: &'static str,
        /// The entry's path in the layer.
        entry: String,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// The compressed stream or the archive in it cannot be read.
    #[error("cannot read layer {layer}")]
    LayerStream {
        /// The layer's digest.
        layer: String,
        /// What the decoder says.
        #[source]
        source: io::Error,
    },
    /// The image store's directories cannot be used.
    #[error("cannot {action} {path}")]
    Store {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// The HTTP client could not be made.
    #[error("cannot set up the registry client: {reason}")]
    Client {
        /// What the client library says.
        reason: String,
    },
    /// The pull was given up while a layer was being unpacked.
    #[error("the pull of layer {layer} was abandoned")]
    Abandoned {
        /// The layer's digest.
        layer: String,
    },
    /// The root file system could not be mounted.
    #[error("cannot mount the root file system at {target}")]
    Mount {
        /// Where.
        target: PathBuf,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}

/// What a registry that refused was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempts {
    /// Where the credentials came from, in the order in which they were tried.
    pub tried: Vec<String>,
    /// What was looked for in vain.
    pub remarks: Vec<String>,
}

impl fmt::Display for Attempts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tried[..] {
            [] => formatter.write_str("no credentials were found for it")?,
            tried => write!(formatter, "tried with the credentials of {}", tried.join(", "))?,
        }
        for remark in &self.remarks {
            write!(formatter, "; {remark}")?;
        }
        Ok(())
    }
}

/// What kept us from talking to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreachable {
    /// Nothing listens on the port.
    Refused,
    /// No answer to the connection attempt.
    ConnectTimeout,
    /// Connected, then silent.
    Stalled,
    /// The host name has no address; the resolver's words.
    NameResolution(String),
    /// The TLS handshake failed; why.
    Tls(String),
    /// The connection broke; how.
    Broken(String),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreachable::Refused => write!(formatter, "connection refused"),
            Unreachable::ConnectTimeout => write!(formatter, "timeout while connecting"),
            Unreachable::Stalled => write!(formatter, "the connection stalled"),
            Unreachable::NameResolution(reason) => write!(formatter, "name resolution failed: {reason}"),
            Unreachable::Tls(reason) => write!(formatter, "TLS failed: {reason}"),
            Unreachable::Broken(reason) => write!(formatter, "{reason}"),
        }
    }
}

impl ImageError {
    /// Whether other credentials may be answered otherwise. Registries hide what somebody may not see.
    pub(super) fn depends_on_credentials(&self) -> bool {
        matches!(
            self,
            ImageError::Unauthorized { .. } | ImageError::NotFound { .. }
        )
    }

    /// The same, with what was tried where that matters.
    pub(super) fn with_attempts(self, access: &ImageAccess) -> ImageError {
        if !self.depends_on_credentials() {
            return self;
        }
        let tried = access.credentials.iter().map(|one| one.source.clone());
        ImageError::NoAccess {
            refusal: Box::new(self),
            attempts: Attempts {
                tried: tried.collect(),
                remarks: access.remarks.clone(),
            },
        }
    }

    /// Whether the same pull may succeed a moment later without anyone changing anything.
    pub fn retryable(&self) -> bool {
        match self {
            ImageError::RegistryUnreachable { cause, .. } => match cause {
                Unreachable::Refused
                | Unreachable::ConnectTimeout
                | Unreachable::Stalled
                | Unreachable::NameResolution(_)
                | Unreachable::Broken(_) => true,
                Unreachable::Tls(_) => false,
            },
            // 429 asks for patience, 5xx are the server's own troubles.
            ImageError::RegistryFailed { status, .. } => *status == 429 || *status >= 500,
            ImageError::Abandoned { .. } => true,
            ImageError::BadReference { .. }
            | ImageError::NotFound { .. }
            | ImageError::Unauthorized { .. }
            | ImageError::NoAccess { .. }
            | ImageError::ForeignCredentials { .. }
            | ImageError::RegistryProtocol { .. }
            | ImageError::DigestMismatch { .. }
            | ImageError::UnsupportedDigest { .. }
            | ImageError::UnsupportedMediaType { .. }
            | ImageError::NoPlatform { .. }
            | ImageError::Malformed { .. }
            | ImageError::LimitExceeded { .. }
            | ImageError::RefusedEntry { .. }
            | ImageError::Entry { .. }
            | ImageError::LayerStream { .. }
            | ImageError::Store { .. }
            | ImageError::Client { .. }
            | ImageError::Mount { .. } => false,
        }
    }
}
