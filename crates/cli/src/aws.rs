//! The account and region of commands that speak to AWS.

use anyhow::{Context, Result};
use clap::Args;
use peerpods_aws::{Aws, AwsSettings, Region};

/// Where AWS is spoken to, and as whom. Credentials are found as every AWS program finds them.
#[derive(Args)]
#[command(next_help_heading = "AWS")]
pub(crate) struct AwsArguments {
    /// The region, such as `eu-central-1`; by default that of the environment or the profile.
    #[arg(long)]
    region: Option<Region>,
    /// A profile of `~/.aws/config`, instead of `AWS_PROFILE`.
    #[arg(long)]
    profile: Option<String>,
}

impl AwsArguments {
    pub(crate) async fn connect(&self) -> Result<Aws> {
        let settings = AwsSettings {
            region: self.region.clone(),
            profile: self.profile.clone(),
            ..AwsSettings::default()
        };
        Aws::connect(&settings).await.context("cannot use AWS")
    }
}
