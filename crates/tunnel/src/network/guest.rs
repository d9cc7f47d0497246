//! The VM's end of the pod's tunnel, and the VM's own network.

use std::{net::IpAddr, os::fd::AsRawFd, path::Path};

use peerpods_proto::payload::{IpNet, PodNetwork, Route};
use rtnetlink::{
    LinkMacVlan,
    packet_route::{
        link::{LinkLayerType, MacVlanMode},
        neighbour::NeighbourState,
    },
};
use serde::{Deserialize, Serialize};

use super::{
    NetworkError, TUNNEL_NAME,
    netlink::{Link, Netlink, device, read_link},
};

/// What VXLAN adds to a packet over IPv4: Ethernet 14, IP 20, UDP 8, VXLAN 8 bytes.
const OVERHEAD_IPV4: u32 = 50;
/// The same over IPv6, whose header has 40 bytes.
const OVERHEAD_IPV6: u32 = 70;

/// The pod's interface until it is in its namespace: the kernel refuses a name that the VM's own device has, even for a
/// device that it makes in another namespace.
const UNNAMED: &str = "pod0";

/// The loopback device, in every namespace.
const LOOPBACK: &str = "lo";

/// The VM's own address, as a local provider tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkConfig {
    /// The address with its network's prefix length.
    pub address: IpNet,
    /// The way out, where there is one.
    pub gateway: Option<IpAddr>,
    /// The MTU of the path to the worker.
    pub mtu: u32,
    /// The device's MAC address, where it is not to keep that of the device: a copy of a saved VM has the saved one's.
    #[serde(default)]
    pub mac: Option<String>,
}

/// Starts the loopback device of this process's namespace.
///
/// # Errors
/// [`NetworkError`].
pub async fn loopback_up() -> Result<(), NetworkError> {
    start_loopback(&Netlink::here()?).await
}

/// The VM's own device, started but without an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartedLink {
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub mac: [u8; 6],
}

/// Starts the VM's first Ethernet device, for whoever asks the network for an address.
///
/// # Errors
/// [`NetworkError::NoEthernet`] where there is none.
pub async fn start_link() -> Result<StartedLink, NetworkError> {
    let netlink = Netlink::here()?;
    let Link { index, name, mac, .. } = first_ethernet(&netlink).await?;
    let mac = <[u8; 6]>::try_from(mac).map_err(|mac| NetworkError::InvalidMac(format!("{mac:02x?}")))?;
    netlink
        .change(&name, "start the device", device(index).up())
        .await?;
    Ok(StartedLink { name, mac })
}

/// Keeps everything in this process's namespace from sending anything to `destination`.
///
/// # Errors
/// [`NetworkError`].
pub async fn prohibit(destination: IpNet) -> Result<(), NetworkError> {
    Netlink::here()?.prohibit(destination).await
}

/// Takes back what [`prohibit`] did.
///
/// # Errors
/// [`NetworkError`].
pub async fn permit(destination: IpNet) -> Result<(), NetworkError> {
    Netlink::here()?.permit(destination).await
}

/// Lets the loopback of a namespace have one more address.
///
/// # Errors
/// [`NetworkError`].
pub async fn add_loopback_address(netns: &Path, address: IpNet) -> Result<(), NetworkError> {
    let inside = Netlink::inside(netns)?;
    start_loopback(&inside).await?;
    let loopback = inside.link(LOOPBACK).await?.ok_or(NetworkError::NoEthernet)?;
    inside.add_address(&loopback, address).await
}

/// Gives the VM's first Ethernet device its address and starts it.
///
/// # Errors
/// [`NetworkError::NoEthernet`] where there is none.
pub async fn configure_link(config: &LinkConfig) -> Result<(), NetworkError> {
    let netlink = Netlink::here()?;
    let link = &first_ethernet(&netlink).await?;
    let mut start = device(link.index).mtu(config.mtu).up();
    if let Some(mac) = &config.mac {
        start = start.address(parse_mac(mac)?);
    }
    netlink.change(&link.name, "start the device", start).await?;
    netlink.add_address(link, config.address).await?;
    netlink.add_route(link, Some(config.address), None).await?;
    match config.gateway {
        Some(gateway) => netlink.add_route(link, None, Some(gateway)).await,
        None => Ok(()),
    }
}

/// Makes the pod's interface in `netns`, at the end of a tunnel to the worker.
///
/// A VXLAN device drops what carries its own MAC as source, and a bridge that sends a pod's packet back to it (a pod that
/// meets itself behind a service) leaves the pod's MAC there. The pod's interface is therefore a MACVLAN on the tunnel.
///
/// # Errors
/// [`NetworkError`]; the VM is then of no use to its pod.
pub async fn attach(network: &PodNetwork, netns: &Path) -> Result<(), NetworkError> {
    let namespace = std::fs::File::open(netns).map_err(|source| NetworkError::Namespace {
        path: netns.to_owned(),
        source,
    })?;
    let root = Netlink::here()?;
    let remote = network.worker_node_ip.address;
    let mtu = path_mtu(&root).await?.saturating_sub(overhead(remote));
    let mtu = network.mtu.min(mtu);
    let tunnel = root
        .add_vxlan(TUNNEL_NAME, network.vxlan_id, network.vxlan_port, remote)
        .await?;
    root.have_no_addresses(&tunnel).await?;
    let start = device(tunnel.index).mtu(mtu).up();
    root.change(TUNNEL_NAME, "start the device", start).await?;
    let interface = LinkMacVlan::new(UNNAMED, tunnel.index, MacVlanMode::Bridge)
        .address(parse_mac(&network.pod_hw_addr)?)
        .mtu(mtu)
        .setns_by_fd(namespace.as_raw_fd());
    root.add(UNNAMED, "make the pod's device", interface.build())
        .await?;

    let pod = Netlink::inside(netns)?;
    start_loopback(&pod).await?;
    let made = pod.link(UNNAMED).await?.ok_or(NetworkError::NoEthernet)?;
    let name = network.interface.clone();
    let interface = Link { name, ..made };
    let start = device(interface.index).name(&interface.name).up();
    pod.change(&interface.name, "start the device", start).await?;
    configure(&pod, &interface, network).await
}

async fn configure(pod: &Netlink, interface: &Link, network: &PodNetwork) -> Result<(), NetworkError> {
    for net in std::iter::once(&network.pod_ip).chain(&network.further_pod_ips) {
        pod.add_address(interface, *net).await?;
    }
    // A gateway must be reachable before a route through it is taken, and may be known only as a neighbour.
    for neighbour in &network.neighbors {
        let add = pod
            .handle()
            .neighbours()
            .add(interface.index, neighbour.ip)
            .replace();
        let add = add
            .state(NeighbourState::Permanent)
            .link_layer_address(&parse_mac(&neighbour.hw_addr)?);
        add.execute().await.map_err(|error| NetworkError::Protocol {
            action: "add the neighbour",
            subject: neighbour.ip.to_string(),
            cause: error.to_string(),
        })?;
    }
    let (links, gateways): (Vec<&Route>, Vec<&Route>) =
        network.routes.iter().partition(|route| route.gw.is_none());
    for route in links.into_iter().chain(gateways) {
        pod.add_route(interface, route.dst, route.gw).await?;
    }
    Ok(())
}

async fn start_loopback(netlink: &Netlink) -> Result<(), NetworkError> {
    let Some(loopback) = netlink.link(LOOPBACK).await? else {
        return Ok(());
    };
    netlink
        .change(LOOPBACK, "start the device", device(loopback.index).up())
        .await
}

async fn first_ethernet(netlink: &Netlink) -> Result<Link, NetworkError> {
    let links = netlink.links().await?;
    let ethernet = links
        .iter()
        .filter(|link| link.header.link_layer_type == LinkLayerType::Ether)
        .filter_map(read_link);
    ethernet
        .min_by_key(|link| link.index)
        .ok_or(NetworkError::NoEthernet)
}

/// The MTU of the VM's way to the worker: that of its Ethernet devices.
async fn path_mtu(netlink: &Netlink) -> Result<u32, NetworkError> {
    let links = netlink.links().await?;
    let ethernet = links
        .iter()
        .filter(|link| link.header.link_layer_type == LinkLayerType::Ether);
    let mtus = ethernet.filter_map(read_link).map(|link| link.mtu);
    mtus.min().ok_or(NetworkError::NoEthernet)
}

fn overhead(remote: IpAddr) -> u32 {
    if remote.is_ipv4() {
        OVERHEAD_IPV4
    } else {
        OVERHEAD_IPV6
    }
}

fn parse_mac(text: &str) -> Result<Vec<u8>, NetworkError> {
    let bytes: Result<Vec<u8>, _> = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    match bytes {
        Ok(bytes) if bytes.len() == 6 => Ok(bytes),
        Ok(_) | Err(_) => Err(NetworkError::InvalidMac(text.to_owned())),
    }
}
