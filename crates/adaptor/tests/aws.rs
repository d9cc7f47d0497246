//! The daemon with `CLOUD_PROVIDER=aws`, as its container starts it.
#![allow(clippy::unwrap_used)]

mod daemon;

use std::{fs, process::Stdio, time::Duration};

use peerpods_testkit::{ec2::Emulator, wait_for};

use self::daemon::{account, daemon};

/// A second as a rule.
const START_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn wrong_settings_are_all_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = [
        ("AWS_REGION", "Frankfurt"),
        ("ROOT_VOLUME_SIZE", "large"),
        ("AWS_SECRET_ACCESS_KEY", "do-not-show"),
    ];
    let output = daemon(folder.path()).envs(wrong).output().unwrap();
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
    let said = folder.path().join("stderr");
    let mut daemon = daemon(folder.path())
        .envs(account(&emulator))
        .stdout(Stdio::null())
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
