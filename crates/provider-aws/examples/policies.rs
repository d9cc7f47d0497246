//! Prints the IAM policy of the nodes' role, from the calls that the provider makes: `policies FOLDER`.

use std::{env, error::Error, fs, path::PathBuf};

use peerpods_aws::policy::policy;
use peerpods_provider_aws::ACTIONS;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::args_os().nth(1).ok_or("usage: policies FOLDER")?);
    fs::create_dir_all(&folder)?;
    let document = format!("{:#}\n", policy(ACTIONS, &[]));
    Ok(fs::write(folder.join("iam-policy.json"), document)?)
}
