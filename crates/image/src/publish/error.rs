//! What can go wrong while an image is published.

use std::{io, path::PathBuf, time::Duration};

use peerpods_aws::AwsError;

use crate::ImageError;

/// A failed publication; each variant names the step and what it was about.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The disk cannot be read.
    #[error(transparent)]
    Disk(#[from] ImageError),
    /// The disk is not any more what it was when the publication began.
    #[error("block {index} of {path} changed while it was published: publish again")]
    DiskChanged {
        /// The disk.
        path: PathBuf,
        /// The block.
        index: u32,
    },
    /// AWS did not do what it was asked.
    #[error("cannot {action}")]
    Aws {
        /// The step.
        action: &'static str,
        /// AWS's answer, or why there is none.
        #[source]
        source: AwsError,
    },
    /// The record of what is already published cannot be kept.
    #[error("cannot {action} {path}")]
    Journal {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// EC2 could not make what it began.
    #[error("{what} {id} has failed: {state}")]
    Failed {
        /// What it is.
        what: &'static str,
        /// Its id.
        id: String,
        /// What EC2 says of it.
        state: String,
    },
    /// EC2 has not finished.
    #[error("{what} {id} is not ready after {limit:?}: publish again to go on waiting")]
    NotReady {
        /// What it is.
        what: &'static str,
        /// Its id.
        id: String,
        /// How long was waited.
        limit: Duration,
    },
    /// Another image has the name that the digest gives.
    #[error(
        "the image {name} in {region} was not made by this program, or its tag {tag} was removed: rename or remove it"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Where.
        region: String,
        /// The tag that it lacks.
        tag: &'static str,
    },
    /// No image of ours has this id.
    #[error("{id} in {region} is no image that was published by this program")]
    UnknownImage {
        /// The id.
        id: String,
        /// Where it was looked for.
        region: String,
    },
}

impl PublishError {
    /// For `map_err`.
    pub(super) fn aws(action: &'static str) -> impl FnOnce(AwsError) -> Self {
        move |source| Self::Aws { action, source }
    }
}
