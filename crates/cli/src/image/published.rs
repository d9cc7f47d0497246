//! Images in EC2 as results of commands, and `peerpodctl image list`.

use anyhow::{Context, Result};
use clap::Args;
use peerpods_image::publish::{PublishedImage, list};
use serde::Serialize;

use crate::{
    aws::AwsArguments,
    output::{Format, Report, print},
};

/// As much of a digest as people compare.
const DIGEST_DIGITS: usize = 16;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    aws: AwsArguments,
}

/// Images, a line each.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Images(pub(super) Vec<PublishedImage>);

impl Report for Images {
    fn text(&self) -> String {
        if self.0.is_empty() {
            return "no images".to_owned();
        }
        let line = |image: &PublishedImage| {
            format!(
                "{:<22} {:<16} {:.DIGEST_DIGITS$} {}",
                image.image_id, image.region, image.digest, image.created
            )
        };
        self.0.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

pub(crate) async fn run(arguments: Arguments, format: Format) -> Result<()> {
    let aws = arguments.aws.connect().await?;
    let images = list(&aws).await;
    let images = images.with_context(|| format!("cannot list the images in {}", aws.region()))?;
    print(format, &Images(images))
}
