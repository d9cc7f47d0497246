//! An image for others: in other regions, and for other accounts.

use peerpods_aws::{Action, Aws, Parameters};
use serde::de::IgnoredAny;

use super::{
    PublishError, PublishedImage,
    registry::{self, Made, set_image_tags},
};

/// Copies an image of ours into the region of `target`, unless it is there already.
///
/// # Errors
/// [`PublishError`]; the same call later finds what this one made.
pub async fn copy(image: &PublishedImage, target: &Aws) -> Result<PublishedImage, PublishError> {
    if let Some(there) = registry::find(target, &image.digest).await? {
        return Ok(there);
    }
    let mut parameters = Parameters::new();
    parameters
        .set("Name", &image.name)
        .set("SourceRegion", &image.region)
        .set("SourceImageId", &image.image_id)
        // A repetition of this call makes no second copy; a call after the copy was removed makes another.
        .set("ClientToken", uuid::Uuid::new_v4());
    set_image_tags(&mut parameters, &image.name, &image.digest);
    let made = target.ec2().call::<Made>(Action::CopyImage, &parameters).await;
    let made = made.map_err(PublishError::aws("copy the image"))?;
    registry::await_available(target, &made.image_id).await
}

/// Lets other accounts, by their numbers, launch an image of ours.
///
/// # Errors
/// [`PublishError`].
pub async fn share(aws: &Aws, image_id: &str, accounts: &[String]) -> Result<(), PublishError> {
    let image = registry::get(aws, image_id).await?;
    let mut parameters = Parameters::new();
    parameters.set("ImageId", &image.image_id);
    for (number, account) in (1..).zip(accounts) {
        parameters.set(format!("LaunchPermission.Add.{number}.UserId"), account);
    }
    let shared = aws
        .ec2()
        .call::<IgnoredAny>(Action::ModifyImageAttribute, &parameters)
        .await;
    shared.map(drop).map_err(PublishError::aws("share the image"))
}
