//! The disk that is published, booted as EC2 would.
//!
//! `PEERPODS_TEST_DISK` names the disk and `PEERPODS_TEST_FIRMWARE` the folder of OVMF; `PEERPODS_TEST_DISK_ARM64` and
//! `PEERPODS_TEST_FIRMWARE_ARM64` those for ARM. Needs root and `/dev/net/tun`. Without them a test says so and passes.

use std::{fs::File, net::SocketAddr, os::unix::fs::FileExt, time::Duration};

use peerpods_proto::{agent::ListInterfacesRequest, agent_ttrpc::AgentServiceClient};
use peerpods_testkit::{
    ec2::{Machine, Processors},
    namespaces::{in_namespaces, until},
};
use peerpods_tunnel::channel::AGENT_PORT;
use tokio::time::{Instant, sleep};

use crate::{
    WAIT_LIMIT,
    instance::{Booted, Image, Interfaces, SECOND, limit},
};

/// Where scratch space begins: behind the image's partition. And where ext4 has its magic number.
const SCRATCH_OFFSET: u64 = 129 << 20;
const EXT4_MAGIC_OFFSET: u64 = 1024 + 0x38;
const EXT4_MAGIC: [u8; 2] = [0x53, 0xef];

const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Waits for words on the console.
async fn until_told(machine: &Machine, words: &str) {
    let deadline = Instant::now() + WAIT_LIMIT;
    while !machine.console().contains(words) {
        assert!(
            Instant::now() < deadline,
            "no {words:?} in:\n{}",
            machine.console()
        );
        sleep(LOOK_INTERVAL).await;
    }
}

#[test]
fn the_published_disk_boots_by_uefi_and_serves_its_pod() {
    let Some(image) = Image::of(Processors::Amd64) else {
        return;
    };
    in_namespaces(|| async move {
        let folder = tempfile::tempdir().unwrap();
        let booted = Booted::start(&image, Interfaces::One, folder.path()).await;
        let machine = &booted.machine;
        // The payload came by version 2, and nothing else was asked for.
        assert_eq!(
            booted.metadata.requests(),
            ["PUT /latest/api/token", "GET /latest/user-data"]
        );

        // What the image leaves of the volume is scratch space.
        until_told(machine, "scratch space is on /dev/nvme0n1p2").await;
        // The clock is put right, and stays so.
        until_told(machine, "Amazon's time server, and is set").await;
        let looks = || {
            let console = machine.console().replace('\r', "");
            let lines = console.split('\n').filter(|line| line.contains("the clock is "));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        until("the clock was looked at again", WAIT_LIMIT, || looks().len() >= 2).await;
        let looks = looks();
        assert!(looks[0].contains("ms behind Amazon's"), "{looks:?}");
        assert!(!looks[1].contains("and is set"), "{looks:?}");
        let mut magic = [0; 2];
        let volume = File::open(machine.volume()).unwrap();
        volume
            .read_exact_at(&mut magic, SCRATCH_OFFSET + EXT4_MAGIC_OFFSET)
            .unwrap();
        assert_eq!(magic, EXT4_MAGIC);

        booted.delete_pod().await;
    });
}

#[test]
fn the_disk_for_arm_boots_by_uefi_and_its_agent_answers() {
    let Some(image) = Image::of(Processors::Arm64) else {
        return;
    };
    in_namespaces(|| async move {
        let folder = tempfile::tempdir().unwrap();
        let booted = Booted::start(&image, Interfaces::One, folder.path()).await;
        until_told(&booted.machine, "scratch space is on /dev/nvme0n1p2").await;
        booted.delete_pod().await;
    });
}

#[test]
fn a_second_interface_is_the_pods_whichever_the_kernel_finds_first() {
    let Some(image) = Image::of(Processors::Amd64) else {
        return;
    };
    in_namespaces(|| async move {
        let folder = tempfile::tempdir().unwrap();
        // The worker met the guest at the primary interface's address, once the metadata service had said which that is.
        let booted = Booted::start(&image, Interfaces::Two, folder.path()).await;
        until_told(&booted.machine, "eth0 is not the primary interface: eth1 is").await;
        until_told(&booted.machine, "the pod's address outside is 10.0.7.10/20").await;
        // At the other one's is the pod, where nobody listens.
        let other = SocketAddr::from((SECOND.address, AGENT_PORT));
        let refused = tokio::net::TcpStream::connect(other).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{refused}");
        // The pod is known by its own interface all the same.
        let agent = AgentServiceClient::new(booted.client.clone());
        let listed = agent
            .list_interfaces(limit(), &ListInterfacesRequest::new())
            .await;
        let listed = listed.unwrap().Interfaces;
        let listed: Vec<_> = listed.iter().map(|one| (one.name.as_str(), one.mtu)).collect();
        assert_eq!(listed, [("eth0", 8951)]);
        booted.delete_pod().await;
    });
}
