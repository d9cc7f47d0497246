//! EC2 in the bed, for `PROVIDER=aws`: an emulator whose instances are machines on the bed's network, and in it what an
//! administrator has in AWS: an account, and the VM image.

use std::{fs, io, os::unix::fs::symlink, process::Command};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    layout::{EC2, State},
    plan::Plan,
};
use crate::process::output;

/// The keys in `config/cloud-secret.json`; the emulator knows no others and checks none.
const KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "AKIDTESTBED"),
    ("AWS_SECRET_ACCESS_KEY", "of the test bed alone"),
];

/// What the emulator tells of the account.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Account {
    region: String,
    vpcs: Vec<String>,
    subnets: Vec<String>,
    security_groups: Vec<String>,
}

/// What `peerpodctl image publish` tells of an image.
#[derive(Debug, Deserialize)]
struct Published {
    image_id: String,
}

/// Publishes the VM image as an administrator does, and gives what belongs into `peer-pods-cm` then; runs in the bed.
pub(super) fn settings(plan: &Plan, state: &State) -> Result<Value> {
    let account = account()?;
    let image = publish(plan, state, &account.region)?;
    Ok(json!({
        "CLOUD_PROVIDER": "aws",
        "AWS_ENDPOINT_URL": url(),
        "AWS_REGION": account.region,
        "AWS_VPC_ID": account.vpcs.join(","),
        "AWS_SUBNET_ID": account.subnets.join(","),
        "AWS_SG_IDS": account.security_groups.join(","),
        "PODVM_AMI_ID": image,
        // As small as a type for two processors is.
        "PODVM_INSTANCE_TYPE": "t3.small",
        "PODVM_INSTANCE_TYPES": "t3.medium,t3.large",
    }))
}

fn url() -> String {
    format!("http://{EC2}")
}

fn account() -> Result<Account> {
    let account = format!("{}/account", url());
    let fetch = ["timeout", "60", "busybox", "wget", "-q", "-O", "-", &account];
    let told = output(Command::new("busybox").args(fetch))
        .context("the emulator of EC2 does not answer; its log is log/ec2.log in the bed's state folder")?;
    serde_json::from_str(&told).with_context(|| format!("the emulator of EC2 tells no account: {told}"))
}

/// Gives the id of the image; one that is there already is not published again.
fn publish(plan: &Plan, state: &State, region: &str) -> Result<String> {
    let folder = state.file("ec2/publication");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // What is done of a publication is noted beside the disk, and holds for this bed alone.
    match symlink(&plan.disk, folder.join("disk.raw")) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).context("cannot name the disk for its publication");
        }
        _ => {}
    }
    let mut publish = Command::new(&plan.cli);
    publish
        .args(["image", "publish", "--region", region, "--output", "json"])
        .arg(&folder)
        .env("AWS_ENDPOINT_URL", url())
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(KEYS);
    let told = output(&mut publish)?;
    let images: Vec<Published> =
        serde_json::from_str(&told).with_context(|| format!("peerpodctl tells of no image: {told}"))?;
    let image = images
        .into_iter()
        .next()
        .context("peerpodctl has published nothing")?;
    Ok(image.image_id)
}
