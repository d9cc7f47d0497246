//! A disk as an image in EC2: its blocks become a snapshot, and the snapshot is registered.
//!
//! ```text
//! disk ─► blocks ─► StartSnapshot ─► PutSnapshotBlock, many at once ─► CompleteSnapshot ─► RegisterImage
//!                        └ journal beside the disk: what is interrupted goes on where it was
//! ```
//!
//! No bucket and no import role are needed. An image is known by the digest of its disk, which is a tag of it and of its
//! snapshot: what is there already is not published again, and only what has the tag is ever listed or removed.

mod actions;
mod copy;
mod error;
mod journal;
mod prune;
mod registry;
mod snapshot;

use std::path::Path;

use peerpods_aws::Aws;
use serde::Serialize;

pub use self::{
    actions::{ACTIONS, EBS_ACTIONS},
    copy::{copy, share},
    error::PublishError,
    prune::{Pruned, prune},
    registry::{DIGEST_TAG, list},
};
use crate::{BlockList, disk};

/// An image in EC2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublishedImage {
    /// For example `ami-0123456789abcdef0`: the value of `PODVM_AMI_ID`.
    pub image_id: String,
    /// Its name, of the digest.
    pub name: String,
    /// Where it is.
    pub region: String,
    /// The digest of its disk, in hex.
    pub digest: String,
    /// When it was registered, as EC2 writes it; such texts are in the order of time.
    pub created: String,
}

/// What a publication tells while it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many blocks of all are in the snapshot.
    Blocks {
        /// Those that are written.
        done: usize,
        /// All of them.
        total: usize,
    },
    /// All blocks are written; EC2 makes a snapshot of them.
    Completing,
    /// The snapshot is complete; it is made an image.
    Registering,
}

/// Publishes a disk in the account's region, unless it is there already, and answers with its image.
///
/// # Errors
/// [`PublishError`]; the same call later goes on where this one stopped.
pub async fn publish(
    aws: &Aws,
    disk: &Path,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<PublishedImage, PublishError> {
    let blocks = BlockList::read(disk)?;
    let digest = blocks.digest().to_string();
    if let Some(image) = registry::find(aws, &digest).await? {
        journal::remove(disk, aws.region())?;
        return Ok(image);
    }
    let snapshot = snapshot::write(aws, disk, &blocks, progress).await?;
    progress(Progress::Registering);
    let image = registry::register(aws, &snapshot, &digest, disk::architecture(disk)).await?;
    journal::remove(disk, aws.region())?;
    Ok(image)
}
