//! What can be wrong with a boot payload.

use super::{PARSED_LIMIT, RENDERED_LIMIT};

/// A payload that cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// More than a cloud takes as user data.
    #[error("the boot payload has {0} bytes, more than the {RENDERED_LIMIT} that user data may have")]
    TooLarge(usize),
    /// More than the guest reads.
    #[error("the user data has {0} bytes, more than the {PARSED_LIMIT} that are read")]
    TooLong(usize),
    /// Not text.
    #[error("the user data is no UTF-8 text")]
    NotText,
    /// Not a cloud-config document.
    #[error("the user data is no cloud-config document: see its line {line}, column {column}")]
    NotCloudConfig {
        /// Counted from 1; 0 where the parser names no place.
        line: u64,
        /// Counted from 1; 0 where the parser names no place.
        column: u64,
    },
    /// A file that every payload has is not there.
    #[error("the boot payload has no {0}")]
    Missing(&'static str),
    /// A file's content is not in the encoding that it claims.
    #[error("{path}: the content cannot be decoded: {cause}")]
    Encoding {
        /// The file.
        path: &'static str,
        /// The encoding or the decoder's words.
        cause: String,
    },
    /// A file's content is not what it should be.
    #[error("{path}: {source}")]
    Content {
        /// The file.
        path: &'static str,
        /// The field and what is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}
