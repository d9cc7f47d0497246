//! `peerpodctl image prune`.

use anyhow::{Context, Result};
use clap::Args;
use peerpods_image::publish::{Pruned, prune};
use serde::Serialize;

use crate::{
    aws::AwsArguments,
    output::{Format, Report, print},
};

const HELP: &str = "\
Only images that `image publish` made are removed, each with its snapshot. VMs that were launched of one
go on; no new one can be. Spare the image that PODVM_AMI_ID names:
  peerpodctl image prune --region eu-central-1 --spare \\
    \"$(kubectl get configmap peer-pods-cm -n openshift-sandboxed-containers-operator -o jsonpath='{.data.PODVM_AMI_ID}')\"";

#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    /// How many of the newest images stay.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    keep: usize,
    /// The id of an image that stays as well; may be repeated.
    #[arg(long, value_name = "IMAGE")]
    spare: Vec<String>,
    /// Prints what would be removed, and removes nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    aws: AwsArguments,
}

/// What was removed, or would be.
#[derive(Serialize)]
struct Removed {
    dry_run: bool,
    removed: Vec<Pruned>,
}

impl Report for Removed {
    fn text(&self) -> String {
        let done = if self.dry_run { "would remove" } else { "removed" };
        if self.removed.is_empty() {
            return format!("{done} nothing");
        }
        let line = |pruned: &Pruned| {
            let snapshots = pruned.snapshots.join(" ");
            format!("{done} {} {snapshots}", pruned.image.image_id)
        };
        self.removed.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

pub(crate) async fn run(arguments: Arguments, format: Format) -> Result<()> {
    let aws = arguments.aws.connect().await?;
    let removed = prune(&aws, arguments.keep, &arguments.spare, arguments.dry_run).await;
    let removed = removed.with_context(|| format!("cannot remove old images in {}", aws.region()))?;
    let dry_run = arguments.dry_run;
    print(format, &Removed { dry_run, removed })
}
