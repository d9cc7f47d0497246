//! The daemon as its container starts it with `CLOUD_PROVIDER=aws`: for tests, and for the benchmark.

use std::{path::Path, process::Command};

use peerpods_testkit::ec2::{Emulator, REGION};

/// The daemon with all its files in a folder, and without an account.
pub(crate) fn daemon(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloud-api-adaptor"));
    command
        .env_clear()
        .env("CLOUD_PROVIDER", "aws")
        .env("NODE_NAME", "node-a")
        .env("CLUSTER_ID", "cluster")
        .env("NODE_ADDRESS", "127.0.0.1/8")
        .env("PEER_PODS", "omit")
        .env("HEALTH_ADDRESS", "127.0.0.1:0")
        .env("REMOTE_HYPERVISOR_ENDPOINT", folder.join("hypervisor.sock"))
        .env("PODS_DIR", folder.join("pods"))
        .env("JOURNAL_DIR", folder.join("journal"));
    command
}

/// The variables that name an account, and what is in it for VMs.
pub(crate) fn account(emulator: &Emulator) -> [(&'static str, String); 7] {
    [
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ("AWS_ENDPOINT_URL_EC2", emulator.url()),
        ("PODVM_AMI_ID", emulator.register_image()),
        ("AWS_SUBNET_ID", emulator.subnets().remove(0)),
        ("AWS_SG_IDS", emulator.security_group()),
    ]
}
