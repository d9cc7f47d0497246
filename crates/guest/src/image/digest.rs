//! A SHA-256 digest as images name their content, and readers that compute one on the way.

use std::{fmt, io::Read, str::FromStr};

use sha2::{Digest as _, Sha256};

use super::ImageError;

/// `sha256:<64 hex digits>`, the only algorithm that registries use in practice.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of bytes that are in memory.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// The hex digits alone, as used in file names.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Fails unless `actual`, computed over the subject, is this digest.
    pub(super) fn verify(&self, subject: &str, actual: Digest) -> Result<(), ImageError> {
        if *self == actual {
            return Ok(());
        }
        Err(ImageError::DigestMismatch {
            subject: subject.to_owned(),
            expected: self.to_string(),
            actual: actual.to_string(),
        })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Digest {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Digest, ImageError> {
        let unsupported = || ImageError::UnsupportedDigest {
            digest: text.to_owned(),
        };
        let digits = text.strip_prefix("sha256:").ok_or_else(unsupported)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| unsupported())?;
        Ok(Digest(bytes))
    }
}

/// Passes bytes through, digests them.
pub(super) struct DigestingReader<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> DigestingReader<R> {
    pub(super) fn new(inner: R) -> Self {
        DigestingReader {
            inner,
            hasher: Sha256::new(),
        }
    }

    /// The digest of everything read, and the reader.
    pub(super) fn finish(self) -> (Digest, R) {
        (Digest(self.hasher.finalize().into()), self.inner)
    }
}

impl<R: Read> Read for DigestingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_sha256_digests_are_read() {
        let digest = Digest::of(b"");
        assert_eq!(
            digest.to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        for text in ["", "sha256:", "sha256:../../etc", "sha512:00", &digest.hex()] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
