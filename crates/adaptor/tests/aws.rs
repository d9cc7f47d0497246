//! The daemon with `CLOUD_PROVIDER=aws`, as its container starts it.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use peerpods_testkit::{
    ec2::{Emulator, REGION},
    wait_for,
};

/// A second as a rule.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The daemon with these variables, in a folder that is nobody else's.
fn daemon(folder: &tempfile::TempDir, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloud-api-adaptor"));
    let path = |name: &str| folder.path().join(name);
    command
        .env_clear()
        .env("CLOUD_PROVIDER", "aws")
        .env("NODE_NAME", "node-a")
        .env("CLUSTER_ID", "cluster")
        .env("NODE_ADDRESS", "127.0.0.1/8")
        .env("PEER_PODS", "omit")
        .env("HEALTH_ADDRESS", "127.0.0.1:0")
        .env("REMOTE_HYPERVISOR_ENDPOINT", path("hypervisor.sock"))
        .env("PODS_DIR", path("pods"))
        .env("JOURNAL_DIR", path("journal"))
        .envs(variables.iter().copied())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

#[test]
fn wrong_settings_are_all_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = [
        ("AWS_REGION", "Frankfurt"),
        ("ROOT_VOLUME_SIZE", "large"),
        ("AWS_SECRET_ACCESS_KEY", "do-not-show"),
    ];
    let output = daemon(&folder, &wrong).output().unwrap();
    // By this the operator knows that the settings are to be changed.
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    for name in [
        "AWS_REGION is wrong",
        "ROOT_VOLUME_SIZE is a number",
        "AWS_ACCESS_KEY_ID is missing",
        "PODVM_AMI_ID is missing",
    ] {
        assert!(text.contains(name), "{name} is not in: {text}");
    }
    assert!(!text.contains("do-not-show"), "{text}");
}

#[test]
fn with_an_account_it_serves_its_node() {
    let Some(emulator) = Emulator::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let variables = [
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_ENDPOINT_URL_EC2", &emulator.url()),
        ("PODVM_AMI_ID", &emulator.register_image()),
        ("AWS_SUBNET_ID", &emulator.subnets()[0]),
        ("AWS_SG_IDS", &emulator.security_group()),
    ];
    let said = folder.path().join("stderr");
    let mut daemon = daemon(&folder, &variables)
        .stderr(fs::File::create(&said).unwrap())
        .spawn()
        .unwrap();
    wait_for("the daemon serves its socket", START_LIMIT, || {
        if folder.path().join("hypervisor.sock").exists() {
            return Ok(());
        }
        Err(fs::read_to_string(&said).unwrap())
    });
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}
