//! Prints the IAM policies of the nodes' role and of who publishes the VM image, from the calls that both make:
//! `policies FOLDER`.

use std::{env, error::Error, fs, path::PathBuf};

use peerpods_aws::policy::policy;
use peerpods_image::publish;
use peerpods_provider_aws::ACTIONS;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::args_os().nth(1).ok_or("usage: policies FOLDER")?);
    fs::create_dir_all(&folder)?;
    for (name, policy) in [
        ("iam-policy.json", policy(ACTIONS, &[])),
        (
            "image-policy.json",
            policy(publish::ACTIONS, publish::EBS_ACTIONS),
        ),
    ] {
        fs::write(folder.join(name), format!("{policy:#}\n"))?;
    }
    Ok(())
}
