//! What the HTTP and registry libraries report, told apart by cause.

use std::{error::Error, io};

use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};

use super::{ImageError, ImageReference, Unreachable, pace::TooSlow};

/// How much of a registry's own words goes into an error.
const ANSWER_CHARACTERS: usize = 300;

/// The error for a failed registry library call about `image`.
pub(super) fn from_registry(image: &ImageReference, error: OciDistributionError) -> ImageError {
    let registry = image.registry_host().to_owned();
    match error {
        OciDistributionError::RequestError(error) => from_request(image, &error),
        OciDistributionError::IoError(error) => from_stream(image, "", &error),
        OciDistributionError::AuthenticationFailure(answer) => unauthorized(image, &answer),
        OciDistributionError::UnauthorizedError { .. } => unauthorized(image, "authentication required"),
        OciDistributionError::ImageManifestNotFoundError(answer) => not_found(image, &answer),
        OciDistributionError::RegistryError { envelope, .. } => {
            let answer = envelope.to_string();
            match envelope.errors.first().map(|error| &error.code) {
                Some(OciErrorCode::Unauthorized | OciErrorCode::Denied) => unauthorized(image, &answer),
                Some(
                    OciErrorCode::ManifestUnknown
                    | OciErrorCode::NameUnknown
                    | OciErrorCode::NotFound
                    | OciErrorCode::BlobUnknown,
                ) => not_found(image, &answer),
                Some(OciErrorCode::Toomanyrequests) => ImageError::RegistryFailed {
                    registry,
                    status: 429,
                    answer: shorten(&answer),
                },
                _ => ImageError::RegistryProtocol {
                    registry,
                    reason: shorten(&answer),
                },
            }
        }
        OciDistributionError::ServerError { code, message, .. } => {
            from_status(image, code, message.as_bytes())
        }
        OciDistributionError::DigestError(error) => from_digest("a layer", &error),
        other => ImageError::RegistryProtocol {
            registry,
            reason: shorten(&other.to_string()),
        },
    }
}

/// The error for an HTTP status other than success, with the answer's body.
pub(super) fn from_status(image: &ImageReference, status: u16, body: &[u8]) -> ImageError {
    let words = String::from_utf8_lossy(body);
    let answer = if words.trim().is_empty() {
        format!("status {status}")
    } else {
        words.trim().to_owned()
    };
    match status {
        401 | 403 => unauthorized(image, &answer),
        404 => not_found(image, &answer),
        _ => ImageError::RegistryFailed {
            registry: image.registry_host().to_owned(),
            status,
            answer: shorten(&answer),
        },
    }
}

/// The error for an HTTP request that got no answer.
pub(super) fn from_request(image: &ImageReference, error: &reqwest::Error) -> ImageError {
    ImageError::RegistryUnreachable {
        registry: image.registry_host().to_owned(),
        cause: cause(error),
    }
}

/// The error for a body that broke off; `subject` is what was being read.
pub(super) fn from_stream(image: &ImageReference, subject: &str, error: &io::Error) -> ImageError {
    match error.get_ref() {
        Some(inner) if inner.is::<TooSlow>() => stalled(image),
        Some(inner) => match (
            inner.downcast_ref::<DigestError>(),
            inner.downcast_ref::<reqwest::Error>(),
        ) {
            (Some(error), _) => from_digest(subject, error),
            (None, Some(error)) => from_request(image, error),
            (None, None) => broken(image, error),
        },
        None => broken(image, error),
    }
}

/// The error for a registry that takes too long.
pub(super) fn stalled(image: &ImageReference) -> ImageError {
    ImageError::RegistryUnreachable {
        registry: image.registry_host().to_owned(),
        cause: Unreachable::Stalled,
    }
}

fn broken(image: &ImageReference, error: &io::Error) -> ImageError {
    let cause = Unreachable::Broken(shorten(&error.to_string()));
    ImageError::RegistryUnreachable {
        registry: image.registry_host().to_owned(),
        cause,
    }
}

fn from_digest(subject: &str, error: &DigestError) -> ImageError {
    match error {
        DigestError::VerificationError { expected, actual } => ImageError::DigestMismatch {
            subject: subject.to_owned(),
            expected: expected.clone(),
            actual: actual.clone(),
        },
        other => ImageError::Malformed {
            subject: subject.to_owned(),
            reason: other.to_string(),
        },
    }
}

fn unauthorized(image: &ImageReference, answer: &str) -> ImageError {
    ImageError::Unauthorized {
        image: image.to_string(),
        registry: image.registry_host().to_owned(),
        answer: shorten(answer),
    }
}

fn not_found(image: &ImageReference, answer: &str) -> ImageError {
    ImageError::NotFound {
        image: image.to_string(),
        registry: image.registry_host().to_owned(),
        answer: shorten(answer),
    }
}

/// Looks down the chain of sources for the one that says what really happened.
fn cause(error: &reqwest::Error) -> Unreachable {
    let mut deepest = error.to_string();
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(source) = next {
        let words = source.to_string();
        if let Some(io) = source.downcast_ref::<io::Error>() {
            if io.kind() == io::ErrorKind::ConnectionRefused {
                return Unreachable::Refused;
            }
            if let Some(tls) = tls_error(io) {
                return Unreachable::Tls(shorten(&tls.to_string()));
            }
        }
        if words == "dns error" {
            let reason = source.source().map_or(words, ToString::to_string);
            return Unreachable::NameResolution(shorten(&reason));
        }
        deepest = words;
        next = source.source();
    }
    match (error.is_connect(), error.is_timeout()) {
        (true, true) => Unreachable::ConnectTimeout,
        (false, true) => Unreachable::Stalled,
        (_, false) => Unreachable::Broken(shorten(&deepest)),
    }
}

/// An I/O error's source skips the error it wraps, and here I/O errors wrap each other.
fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    match inner.downcast_ref::<io::Error>() {
        Some(wrapped) => tls_error(wrapped),
        None => inner.downcast_ref(),
    }
}

/// A registry's words are not ours to trust with the length of an event.
fn shorten(words: &str) -> String {
    peerpods_error::shorten(words, ANSWER_CHARACTERS)
}
