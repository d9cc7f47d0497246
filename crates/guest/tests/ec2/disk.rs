//! The disk that is published, booted as EC2 would: by UEFI firmware, from an NVMe volume, with DHCP and the instance
//! metadata service beside it.
//!
//! `PEERPODS_TEST_DISK` names the disk and `PEERPODS_TEST_FIRMWARE` the folder of OVMF; `PEERPODS_TEST_DISK_ARM64` and
//! `PEERPODS_TEST_FIRMWARE_ARM64` those for ARM. Needs root and `/dev/net/tun`. Without them a test says so and passes.

use std::{
    env,
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use peerpods_proto::{
    agent::{CheckRequest, DestroySandboxRequest, ListInterfacesRequest},
    agent_ttrpc::{AgentServiceClient, HealthClient},
    payload::{
        BootPayload, ForwarderConfig, GuestSettings, InstanceMetadata, JoinSecret, PodNetwork, Route,
        ScratchEncryption, TunnelType,
    },
};
use peerpods_testkit::{
    ec2::{
        InterfaceFacts, METADATA_ADDRESS, Machine, MachineInterface, MachineSettings, MetadataService,
        Processors, Subnet, SubnetSettings, TIME_ADDRESS, TimeServer,
    },
    namespaces::{in_namespaces, until},
};
use peerpods_tunnel::channel::{AGENT_PORT, ClientIdentity, Connection, connect, join};
use tokio::time::{Instant, sleep};
use ttrpc::{
    asynchronous::{Client, transport::Socket},
    context,
};

use crate::{WAIT_LIMIT, user_data::facts};

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// More than the image has, as every root volume does.
const VOLUME_BYTES: u64 = 3 << 30;
/// Where scratch space begins: behind the image's partition. And where ext4 has its magic number.
const SCRATCH_OFFSET: u64 = 129 << 20;
const EXT4_MAGIC_OFFSET: u64 = 1024 + 0x38;
const EXT4_MAGIC: [u8; 2] = [0x53, 0xef];

/// How far the network's time is ahead of the machine's, whose hardware clock knows whole seconds only.
const TIME_AHEAD: Duration = Duration::from_secs(100);

/// Firmware and kernel are emulated, beside whatever else the machine does.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
const KNOCK_INTERVAL: Duration = Duration::from_millis(100);
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// A network interface of the instance.
struct Interface {
    device: &'static str,
    mac: &'static str,
    address: Ipv4Addr,
}

/// The primary one.
const OWN: Interface = Interface {
    device: "subnet0",
    mac: "02:00:00:00:00:07",
    address: Ipv4Addr::new(10, 0, 7, 9),
};
const SECOND: Interface = Interface {
    device: "subnet1",
    mac: "02:00:00:00:00:08",
    address: Ipv4Addr::new(10, 0, 7, 10),
};

impl Interface {
    fn subnet(&self, folder: &Path) -> Subnet {
        let settings = SubnetSettings {
            device: self.device,
            instance: self.address,
            mac: self.mac,
            router: ROUTER,
            prefix: 20,
        };
        Subnet::start(folder, settings).unwrap()
    }

    fn of_machine(&self) -> MachineInterface<'static> {
        MachineInterface {
            device: self.device,
            mac: self.mac,
        }
    }

    fn facts(&self) -> InterfaceFacts {
        InterfaceFacts {
            private_ip: self.address,
            mac: self.mac.to_owned(),
        }
    }
}

/// Which interfaces an instance has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Interfaces {
    One,
    /// The second is for what the pod sends to the outside, and the kernel finds it first.
    Two,
}

impl Interfaces {
    /// As EC2 numbers them.
    fn all(self) -> &'static [Interface] {
        match self {
            Self::One => &[OWN],
            Self::Two => &[OWN, SECOND],
        }
    }
}

/// A disk, and what boots it.
struct Image {
    disk: PathBuf,
    firmware: PathBuf,
    processors: Processors,
}

impl Image {
    fn of(processors: Processors) -> Option<Self> {
        let (disk, firmware) = match processors {
            Processors::Amd64 => ("PEERPODS_TEST_DISK", "PEERPODS_TEST_FIRMWARE"),
            Processors::Arm64 => ("PEERPODS_TEST_DISK_ARM64", "PEERPODS_TEST_FIRMWARE_ARM64"),
        };
        let path = |name| env::var_os(name).map(PathBuf::from);
        let Some((at, with)) = path(disk).zip(path(firmware)) else {
            eprintln!("skipped: {disk} and {firmware} name no disk and firmware to boot");
            return None;
        };
        Some(Self {
            disk: at,
            firmware: with,
            processors,
        })
    }
}

/// A machine that has booted, with what EC2 has around it, and the connection to its agent.
struct Booted {
    client: Client,
    machine: Machine,
    metadata: MetadataService,
    _subnets: Vec<Subnet>,
    _time: TimeServer,
}

impl Booted {
    async fn start(image: &Image, interfaces: Interfaces, folder: &Path) -> Self {
        let all = interfaces.all();
        let subnets = all.iter().map(|interface| interface.subnet(folder)).collect();
        let identity = ClientIdentity::issue("web").unwrap();
        let secret = JoinSecret::new([7; 32]);
        let mut facts = facts(Some(payload(&identity, &secret, interfaces)));
        facts.interfaces = all.iter().map(Interface::facts).collect();
        let metadata = MetadataService::start((METADATA_ADDRESS, 80).into(), 1, facts).unwrap();
        let time = TimeServer::start((TIME_ADDRESS, 123).into(), TIME_AHEAD, |_| true).unwrap();
        let found: Vec<_> = all.iter().rev().map(Interface::of_machine).collect();
        let started = Instant::now();
        let mut machine = Machine::start(MachineSettings {
            folder,
            image: &image.disk,
            volume_bytes: VOLUME_BYTES,
            processors: image.processors,
            firmware: &image.firmware,
            interfaces: &found,
            instance_type: "m6a.large",
            memory_mib: 512,
            vcpus: 1,
        })
        .unwrap();
        let client = meet(&mut machine, &identity, &secret).await;
        eprintln!(
            "the agent was met {:.1?} after the machine's start",
            started.elapsed()
        );
        let health = HealthClient::new(client.clone());
        health.check(limit(), &CheckRequest::new()).await.unwrap();
        Self {
            client,
            machine,
            metadata,
            _subnets: subnets,
            _time: time,
        }
    }

    /// Ends the pod, whose end is the machine's.
    async fn delete_pod(mut self) {
        let agent = AgentServiceClient::new(self.client);
        agent
            .destroy_sandbox(limit(), &DestroySandboxRequest::new())
            .await
            .unwrap();
        let deadline = Instant::now() + WAIT_LIMIT;
        while self.machine.ended().unwrap().is_none() {
            assert!(
                Instant::now() < deadline,
                "it goes on:\n{}",
                self.machine.console()
            );
            sleep(KNOCK_INTERVAL).await;
        }
        assert!(
            self.machine
                .console()
                .contains("powering off: the pod was deleted")
        );
    }
}

fn limit() -> context::Context {
    context::with_duration(REQUEST_LIMIT)
}

fn payload(identity: &ClientIdentity, join_secret: &JoinSecret, interfaces: Interfaces) -> Vec<u8> {
    let pod_network = PodNetwork {
        pod_ip: "10.244.0.9/24".parse().unwrap(),
        further_pod_ips: Vec::new(),
        pod_hw_addr: "0a:58:0a:f4:00:09".to_owned(),
        interface: "eth0".to_owned(),
        worker_node_ip: "10.0.0.1/20".parse().unwrap(),
        tunnel_type: TunnelType::Vxlan,
        routes: vec![Route {
            dst: None,
            gw: Some("10.244.0.1".parse().unwrap()),
            dev: "eth0".to_owned(),
            protocol: None,
            scope: None,
        }],
        neighbors: Vec::new(),
        mtu: 8951,
        index: 0,
        vxlan_port: 4789,
        vxlan_id: 555_000,
        dedicated: false,
        external_net_via_pod_vm: interfaces == Interfaces::Two,
    };
    let payload = BootPayload {
        forwarder: ForwarderConfig {
            pod_network,
            pod_namespace: "default".to_owned(),
            pod_name: "web".to_owned(),
            tls_client_ca: Some(identity.authority_pem.clone()),
            tls_server_key: None,
            tls_server_cert: None,
        },
        settings: Some(GuestSettings {
            join_secret: join_secret.clone(),
            lease: Duration::from_secs(3600),
            insecure_registries: Vec::new(),
            scratch_encryption: ScratchEncryption::None,
            instance_metadata: InstanceMetadata::Refuse,
        }),
    };
    payload.render().unwrap().as_bytes().to_vec()
}

/// Meets the guest, once it is up, and opens an agent connection.
async fn meet(machine: &mut Machine, identity: &ClientIdentity, secret: &JoinSecret) -> Client {
    let address = SocketAddr::from((OWN.address, AGENT_PORT));
    let deadline = Instant::now() + BOOT_LIMIT;
    let server_key = loop {
        let error = match join(address, identity, secret).await {
            Ok(server_key) => break server_key,
            Err(error) => peerpods_error::chain(&error),
        };
        let ended = machine.ended().unwrap();
        assert!(
            ended.is_none() && Instant::now() < deadline,
            "no agent: {error}; the machine: {ended:?}; its console:\n{}",
            machine.console()
        );
        sleep(KNOCK_INTERVAL).await;
    };
    let connection = Connection {
        address,
        server_key,
        client_certificate_pem: identity.certificate_pem.clone(),
        client_key_pem: identity.key_pem.clone(),
    };
    Client::new(Socket::new(connect(&connection).await.unwrap()))
}

/// Waits for words on the console.
async fn until_told(machine: &Machine, words: &str) {
    let deadline = Instant::now() + WAIT_LIMIT;
    while !machine.console().contains(words) {
        assert!(
            Instant::now() < deadline,
            "no {words:?} in:\n{}",
            machine.console()
        );
        sleep(KNOCK_INTERVAL).await;
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
