//! `peerpodctl image publish`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use peerpods_aws::Region;
use peerpods_image::{
    publish::{Progress, copy, publish, share},
    unpack,
};

use super::{DISK, PACKED_DISK, published::Images};
use crate::{
    aws::AwsArguments,
    output::{Format, print},
};

const HELP: &str = "\
The disk goes to EC2 block by block (EBS direct API): no bucket, no import role. Only blocks that hold
anything are sent. What is interrupted goes on where it was; what is there already is only printed.

The credentials need ebs:StartSnapshot, ebs:PutSnapshotBlock, ebs:CompleteSnapshot,
ec2:DescribeSnapshots, ec2:DescribeImages, ec2:RegisterImage and ec2:CreateTags; with --copy-to also
ec2:CopyImage, and with --share ec2:ModifyImageAttribute.

Example:
  peerpodctl image publish --region eu-central-1 --copy-to us-east-1 image
The image's id is the value of PODVM_AMI_ID in the ConfigMap peer-pods-cm.";

/// Account numbers of AWS.
const ACCOUNT_DIGITS: usize = 12;

#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    /// The folder that `image build` made, or a disk.
    #[arg(value_name = "PATH")]
    image: PathBuf,
    /// The disk is packed (`disk.raw.gz`), and is unpacked into this folder. The record of what is done of its publication is
    /// kept there, too.
    #[arg(long, value_name = "FOLDER")]
    unpack_into: Option<PathBuf>,
    /// Also writes the image's id, and nothing else, to this file.
    #[arg(long, value_name = "FILE")]
    id_file: Option<PathBuf>,
    /// A further region that gets a copy of the image; may be repeated.
    #[arg(long, value_name = "REGION")]
    copy_to: Vec<Region>,
    /// The number of an account that may launch the image; may be repeated.
    #[arg(long, value_name = "ACCOUNT", value_parser = account)]
    share: Vec<String>,
    #[command(flatten)]
    aws: AwsArguments,
}

fn account(text: &str) -> Result<String, &'static str> {
    if text.len() == ACCOUNT_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err("an account of AWS is a number of 12 digits")
    }
}

pub(crate) async fn run(arguments: Arguments, format: Format) -> Result<()> {
    let disk = disk(&arguments.image, arguments.unpack_into.as_deref())?;
    let aws = arguments.aws.connect().await?;
    let bar = Bar::new();
    let image = publish(&aws, &disk, &|progress| bar.show(progress)).await;
    bar.finish();
    let image = image.with_context(|| format!("cannot publish {} to {}", disk.display(), aws.region()))?;
    if let Some(file) = &arguments.id_file {
        fs::write(file, &image.image_id).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let mut images = vec![(aws, image)];
    for region in arguments.copy_to {
        let (aws, image) = &images[0];
        let target = aws.in_region(region.clone());
        eprintln!("copying {} to {region}", image.image_id);
        let copied = copy(image, &target).await;
        images.push((
            target,
            copied.with_context(|| format!("cannot copy to {region}"))?,
        ));
    }
    for (aws, image) in &images {
        if !arguments.share.is_empty() {
            let shared = share(aws, &image.image_id, &arguments.share).await;
            shared.with_context(|| format!("cannot share {} in {}", image.image_id, image.region))?;
        }
    }
    print(
        format,
        &Images(images.into_iter().map(|(_, image)| image).collect()),
    )
}

/// The disk that is published.
fn disk(image: &Path, unpack_into: Option<&Path>) -> Result<PathBuf> {
    let (name, option) = match unpack_into {
        Some(_) => (PACKED_DISK, "--packed "),
        None => (DISK, ""),
    };
    let disk = if image.is_dir() {
        image.join(name)
    } else {
        image.to_owned()
    };
    ensure!(
        disk.is_file(),
        "{} is not there: build it with `peerpodctl image build {option}--stub-deb …`",
        disk.display()
    );
    let Some(folder) = unpack_into else {
        return Ok(disk);
    };
    let unpacked = folder.join(DISK);
    unpack(&disk, &unpacked).context("cannot unpack the disk")?;
    Ok(unpacked)
}

/// A publication's progress, where a person looks at it.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let style = "{msg:12} [{bar:40}] {pos}/{len} blocks, {eta} left";
        let style = ProgressStyle::with_template(style).expect("the template is valid");
        Self(
            ProgressBar::no_length()
                .with_style(style.progress_chars("=> "))
                .with_message("reading"),
        )
    }

    fn show(&self, progress: Progress) {
        match progress {
            Progress::Blocks { done, total } => {
                self.0.set_message("publishing");
                self.0.set_length(total as u64);
                self.0.set_position(done as u64);
            }
            Progress::Completing => self.0.set_message("completing"),
            Progress::Registering => self.0.set_message("registering"),
        }
    }

    fn finish(&self) {
        self.0.finish_and_clear();
    }
}
