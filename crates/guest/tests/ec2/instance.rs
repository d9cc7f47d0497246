//! An instance as EC2 boots the published disk: by UEFI firmware, from an NVMe volume, with DHCP, the instance metadata service and
//! a time server beside it. For tests, and for the benchmark of boots.
#![allow(clippy::unwrap_used)] // Whoever uses it stops where its place fails.
#![allow(dead_code)] // The benchmark uses a part of it.

use std::{
    env,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use peerpods_proto::{
    agent::{CheckRequest, DestroySandboxRequest},
    agent_ttrpc::{AgentServiceClient, HealthClient},
    payload::{
        BootPayload, ForwarderConfig, GuestSettings, InstanceMetadata, JoinSecret, PodNetwork, Route,
        ScratchEncryption, TunnelType,
    },
};
use peerpods_testkit::ec2::{
    InstanceFacts, InterfaceFacts, METADATA_ADDRESS, Machine, MachineInterface, MachineSettings,
    MetadataService, Processors, Subnet, SubnetSettings, TIME_ADDRESS, TimeServer,
};
use peerpods_tunnel::channel::{AGENT_PORT, ClientIdentity, Connection, connect, join};
use tokio::time::{Instant, sleep};
use ttrpc::{
    asynchronous::{Client, transport::Socket},
    context,
};

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// More than the image has, as every root volume does.
const VOLUME_BYTES: u64 = 3 << 30;
/// How far the network's time is ahead of the machine's, whose hardware clock knows whole seconds only.
const TIME_AHEAD: Duration = Duration::from_secs(100);

/// Firmware and kernel are emulated, beside whatever else the machine does.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
const END_LIMIT: Duration = Duration::from_secs(60);
const KNOCK_INTERVAL: Duration = Duration::from_millis(100);
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// What the metadata service tells of an instance with one interface.
pub(crate) fn facts(user_data: Option<Vec<u8>>) -> InstanceFacts {
    InstanceFacts {
        instance_id: "i-0123456789abcdef0".to_owned(),
        image_id: "ami-0123456789abcdef0".to_owned(),
        instance_type: "m6a.large".to_owned(),
        account_id: "123456789012".to_owned(),
        region: "eu-central-1".to_owned(),
        availability_zone: "eu-central-1a".to_owned(),
        interfaces: vec![InterfaceFacts {
            private_ip: Ipv4Addr::new(10, 0, 7, 9),
            mac: "02:00:00:00:00:07".to_owned(),
        }],
        user_data,
    }
}

/// A network interface of the instance.
pub(crate) struct Interface {
    device: &'static str,
    mac: &'static str,
    pub(crate) address: Ipv4Addr,
}

/// The primary one.
pub(crate) const OWN: Interface = Interface {
    device: "subnet0",
    mac: "02:00:00:00:00:07",
    address: Ipv4Addr::new(10, 0, 7, 9),
};
pub(crate) const SECOND: Interface = Interface {
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
pub(crate) enum Interfaces {
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
pub(crate) struct Image {
    disk: PathBuf,
    firmware: PathBuf,
    processors: Processors,
}

impl Image {
    pub(crate) fn of(processors: Processors) -> Option<Self> {
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
pub(crate) struct Booted {
    pub(crate) client: Client,
    pub(crate) machine: Machine,
    pub(crate) metadata: MetadataService,
    _subnets: Vec<Subnet>,
    _time: TimeServer,
}

impl Booted {
    pub(crate) async fn start(image: &Image, interfaces: Interfaces, folder: &Path) -> Self {
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
    pub(crate) async fn delete_pod(mut self) {
        let agent = AgentServiceClient::new(self.client);
        agent
            .destroy_sandbox(limit(), &DestroySandboxRequest::new())
            .await
            .unwrap();
        let deadline = Instant::now() + END_LIMIT;
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

pub(crate) fn limit() -> context::Context {
    context::with_duration(REQUEST_LIMIT)
}

/// The network of an instance's pod, whose default route is by its worker.
pub(crate) fn pod_network(interfaces: Interfaces) -> PodNetwork {
    PodNetwork {
        pod_ip: "10.244.0.5/24".parse().unwrap(),
        further_pod_ips: Vec::new(),
        pod_hw_addr: "0a:58:0a:f4:00:05".to_owned(),
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
    }
}

fn payload(identity: &ClientIdentity, join_secret: &JoinSecret, interfaces: Interfaces) -> Vec<u8> {
    let payload = BootPayload {
        forwarder: ForwarderConfig {
            pod_network: pod_network(interfaces),
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
