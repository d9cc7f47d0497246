//! Images as EC2 has them: found by tag, and registered.

use std::time::Duration;

use peerpods_aws::{Action, Aws, Items, Listed, Parameters, RefusalKind, Tag};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::{PublishError, PublishedImage, snapshot::LOOK_INTERVAL};
use crate::Architecture;

/// The tag that images and snapshots of ours have: the digest of their disk, in hex.
pub const DIGEST_TAG: &str = "kata.peerpods.io/disk-digest";

/// The device that the root volume is, as EC2 names it; the kernel names it by itself.
const ROOT_DEVICE: &str = "/dev/xvda";
/// As much of the digest as tells images apart in a list.
const NAME_DIGITS: usize = 16;
/// What was made is in every list of EC2 after seconds, and not at once.
const VISIBLE_LIMIT: Duration = Duration::from_secs(30);
/// An image of a complete snapshot is ready within seconds; a copy into another region takes minutes.
const AVAILABLE_LIMIT: Duration = Duration::from_secs(1800);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Image {
    image_id: String,
    name: Option<String>,
    image_state: Option<String>,
    creation_date: Option<String>,
    #[serde(default)]
    tag_set: Items<Tag>,
}

impl Listed for Image {
    const ACTION: Action = Action::DescribeImages;
    const SET: &'static str = "imagesSet";
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Made {
    pub(super) image_id: String,
}

/// The name of a disk's image, which is unique in an account's region.
pub(super) fn image_name(digest: &str) -> String {
    let digits = digest.get(..NAME_DIGITS).unwrap_or(digest);
    format!("peer-pod-vm-{digits}")
}

/// The images of ours in the account's region, the newest first.
///
/// # Errors
/// [`PublishError::Aws`].
pub async fn list(aws: &Aws) -> Result<Vec<PublishedImage>, PublishError> {
    let mut parameters = Parameters::new();
    parameters.set_filter(1, "tag-key", [DIGEST_TAG]);
    let mut images: Vec<PublishedImage> = described(aws, parameters)
        .await?
        .into_iter()
        .filter_map(|image| published(aws, image))
        .collect();
    images.sort_by(|one, other| other.created.cmp(&one.created));
    Ok(images)
}

/// The image of a disk, once it can be launched.
pub(super) async fn find(aws: &Aws, digest: &str) -> Result<Option<PublishedImage>, PublishError> {
    let mut parameters = Parameters::new();
    parameters.set_filter(1, format!("tag:{DIGEST_TAG}"), [digest]);
    let found = described(aws, parameters).await?.into_iter().next();
    match found.and_then(|image| published(aws, image)) {
        Some(image) => await_available(aws, &image.image_id).await.map(Some),
        None => Ok(None),
    }
}

/// An image of ours by its id.
pub(super) async fn get(aws: &Aws, id: &str) -> Result<PublishedImage, PublishError> {
    let unknown = || PublishError::UnknownImage {
        id: id.to_owned(),
        region: aws.region().to_string(),
    };
    let image = by_id(aws, id).await?.ok_or_else(unknown)?;
    published(aws, image).ok_or_else(unknown)
}

/// Makes an image of a complete snapshot.
pub(super) async fn register(
    aws: &Aws,
    snapshot: &str,
    digest: &str,
    architecture: Architecture,
) -> Result<PublishedImage, PublishError> {
    let name = image_name(digest);
    let mut parameters = Parameters::new();
    parameters
        .set("Name", &name)
        .set("Description", format!("peer pod VM, disk {digest}"))
        .set("Architecture", architecture.ec2_name())
        .set("VirtualizationType", "hvm")
        .set("EnaSupport", true)
        .set("BootMode", "uefi")
        .set("TpmSupport", "v2.0")
        .set("ImdsSupport", "v2.0")
        .set("RootDeviceName", ROOT_DEVICE)
        .set("BlockDeviceMapping.1.DeviceName", ROOT_DEVICE)
        .set("BlockDeviceMapping.1.Ebs.SnapshotId", snapshot)
        .set("BlockDeviceMapping.1.Ebs.VolumeType", "gp3")
        .set("BlockDeviceMapping.1.Ebs.DeleteOnTermination", true);
    set_image_tags(&mut parameters, &name, digest);
    let registered = aws.ec2().call::<Made>(Action::RegisterImage, &parameters).await;
    match registered {
        Ok(made) => await_available(aws, &made.image_id).await,
        // A repetition of a call whose answer was lost, or somebody else's image.
        Err(error) if is_duplicate(&error) => await_visible(aws, digest, name).await,
        Err(error) => Err(PublishError::aws("register the image")(error)),
    }
}

/// Waits until the image that has this name is seen, if it is ours.
async fn await_visible(aws: &Aws, digest: &str, name: String) -> Result<PublishedImage, PublishError> {
    let deadline = Instant::now() + VISIBLE_LIMIT;
    loop {
        if let Some(image) = find(aws, digest).await? {
            return Ok(image);
        }
        if Instant::now() >= deadline {
            return Err(PublishError::NameTaken {
                name,
                region: aws.region().to_string(),
                tag: DIGEST_TAG,
            });
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// The tags that an image gets as it is made.
pub(super) fn set_image_tags(parameters: &mut Parameters, name: &str, digest: &str) {
    parameters
        .set("TagSpecification.1.ResourceType", "image")
        .set_tags("TagSpecification.1.Tag", [("Name", name), (DIGEST_TAG, digest)]);
}

fn is_duplicate(error: &peerpods_aws::AwsError) -> bool {
    matches!(error, peerpods_aws::AwsError::Refused { refusal, .. } if refusal.code.as_str() == "InvalidAMIName.Duplicate")
}

/// Waits until instances can be launched of an image.
pub(super) async fn await_available(aws: &Aws, id: &str) -> Result<PublishedImage, PublishError> {
    let deadline = Instant::now() + AVAILABLE_LIMIT;
    loop {
        // It may not be seen yet.
        if let Some(image) = by_id(aws, id).await? {
            match image.image_state.as_deref() {
                Some("available") if image.tag_set.items.iter().any(|tag| tag.key == DIGEST_TAG) => {
                    return published(aws, image).ok_or_else(|| PublishError::UnknownImage {
                        id: id.to_owned(),
                        region: aws.region().to_string(),
                    });
                }
                Some("available" | "pending" | "transient") | None => {}
                Some(state) => {
                    return Err(PublishError::Failed {
                        what: "image",
                        id: id.to_owned(),
                        state: state.to_owned(),
                    });
                }
            }
        }
        if Instant::now() >= deadline {
            return Err(PublishError::NotReady {
                what: "image",
                id: id.to_owned(),
                limit: AVAILABLE_LIMIT,
            });
        }
        sleep(LOOK_INTERVAL).await;
    }
}

async fn by_id(aws: &Aws, id: &str) -> Result<Option<Image>, PublishError> {
    let mut parameters = Parameters::new();
    parameters.set_list("ImageId", [id]);
    let listed = aws.ec2().list::<Image>(&parameters).await;
    match listed {
        Ok(found) => Ok(found.into_iter().next()),
        Err(error) if error.refusal() == Some(RefusalKind::NotFound) => Ok(None),
        Err(error) => Err(PublishError::aws("look at the image")(error)),
    }
}

/// The account's own images that fit.
async fn described(aws: &Aws, mut parameters: Parameters) -> Result<Vec<Image>, PublishError> {
    parameters.set_list("Owner", ["self"]);
    let listed = aws.ec2().list::<Image>(&parameters).await;
    listed.map_err(PublishError::aws("list the images"))
}

/// What it is to us; nothing where it has no digest.
fn published(aws: &Aws, image: Image) -> Option<PublishedImage> {
    let digest = image
        .tag_set
        .items
        .into_iter()
        .find(|tag| tag.key == DIGEST_TAG)?
        .value;
    Some(PublishedImage {
        image_id: image.image_id,
        name: image.name.unwrap_or_default(),
        region: aws.region().to_string(),
        digest,
        created: image.creation_date.unwrap_or_default(),
    })
}
