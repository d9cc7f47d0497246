//! Images of ours that nobody needs any more.

use peerpods_aws::{Action, Aws, Parameters, RefusalKind};
use serde::{Serialize, de::IgnoredAny};

use super::{PublishError, PublishedImage, list, snapshot};

/// What was removed, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// The image.
    pub image: PublishedImage,
    /// Its snapshots.
    pub snapshots: Vec<String>,
}

/// Removes the images of ours in the account's region but for the newest `keep` and those of `spared`, each with its
/// snapshots. With `only_tell` nothing is removed.
///
/// What has no tag of ours is never touched. VMs that were launched of an image go on without it.
///
/// # Errors
/// [`PublishError`]; what was removed before stays removed.
pub async fn prune(
    aws: &Aws,
    keep: usize,
    spared: &[String],
    only_tell: bool,
) -> Result<Vec<Pruned>, PublishError> {
    let mut pruned = Vec::new();
    let images = list(aws).await?;
    let (kept, old) = images.split_at(keep.min(images.len()));
    for image in old.iter().filter(|image| !spared.contains(&image.image_id)) {
        // Snapshots are an image's by its digest, which two images can only have by hand.
        let in_use =
            |other: &PublishedImage| other.digest == image.digest && other.image_id != image.image_id;
        let snapshots = if kept.iter().any(in_use) {
            Vec::new()
        } else {
            snapshot::of_digest(aws, &image.digest).await?
        };
        let snapshots: Vec<String> = snapshots.into_iter().map(|found| found.snapshot_id).collect();
        if !only_tell {
            remove(aws, Action::DeregisterImage, "ImageId", &image.image_id).await?;
            for snapshot in &snapshots {
                remove(aws, Action::DeleteSnapshot, "SnapshotId", snapshot).await?;
            }
        }
        pruned.push(Pruned {
            image: image.clone(),
            snapshots,
        });
    }
    Ok(pruned)
}

/// Removes one thing; one that is gone already is as good.
async fn remove(aws: &Aws, action: Action, parameter: &'static str, id: &str) -> Result<(), PublishError> {
    let mut parameters = Parameters::new();
    parameters.set(parameter, id);
    match aws.ec2().call::<IgnoredAny>(action, &parameters).await {
        Ok(_) => Ok(()),
        Err(error) if error.refusal() == Some(RefusalKind::NotFound) => Ok(()),
        Err(error) => Err(PublishError::aws("remove an old image")(error)),
    }
}
