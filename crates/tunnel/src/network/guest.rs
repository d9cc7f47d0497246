//! The VM's end of the pod's tunnel, and what its namespaces are kept from.

use std::{net::IpAddr, os::fd::AsRawFd, path::Path};

use peerpods_proto::payload::{IpNet, PodNetwork, Route};
use rtnetlink::{
    LinkMacVlan,
    packet_route::{link::MacVlanMode, neighbour::NeighbourState},
};

use super::{
    NetworkError, TUNNEL_NAME,
    ethernet::{parse_mac, path_mtu},
    netlink::{Link, Netlink, device},
};

/// What VXLAN adds to a packet over IPv4: Ethernet 14, IP 20, UDP 8, VXLAN 8 bytes.
const OVERHEAD_IPV4: u32 = 50;
/// The same over IPv6, whose header has 40 bytes.
const OVERHEAD_IPV6: u32 = 70;

/// The pod's interface until it is in its namespace: the kernel refuses a name that the VM's own device has, even for a
/// device that it makes in another namespace.
const UNNAMED: &str = "pod0";

/// The table of what a pod sends from its own addresses, where its way to the outside is the VM's.
const TUNNEL_TABLE: u32 = 100;

/// The loopback device, in every namespace.
const LOOPBACK: &str = "lo";

/// Starts the loopback device of this process's namespace.
///
/// # Errors
/// [`NetworkError`].
pub async fn loopback_up() -> Result<(), NetworkError> {
    start_loopback(&Netlink::here()?).await
}

/// Keeps everything in this process's namespace from sending anything to `destination`.
///
/// # Errors
/// [`NetworkError`].
pub async fn prohibit(destination: IpNet) -> Result<(), NetworkError> {
    Netlink::here()?.prohibit(destination).await
}

/// As [`prohibit`], in the namespace `netns`.
///
/// # Errors
/// [`NetworkError`].
pub async fn prohibit_inside(netns: &Path, destination: IpNet) -> Result<(), NetworkError> {
    Netlink::inside(netns)?.prohibit(destination).await
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

/// Makes the pod's interface in `netns`, at the end of a tunnel to the worker.
///
/// A VXLAN device drops what carries its own MAC as source, and a bridge that sends a pod's packet back to it (a pod that
/// meets itself behind a service) leaves the pod's MAC there. The pod's interface is therefore a MACVLAN on the tunnel.
///
/// Where the pod's way to the outside is the VM's ([`super::ExternalLink`]), its own default routes of IPv4 are for what it
/// sends from its own addresses: what comes through the tunnel is answered through the tunnel.
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
        .address(parse_mac(&network.pod_hw_addr)?.to_vec())
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
        let Route { dst, gw, .. } = route;
        if !(network.external_net_via_pod_vm && is_default_ipv4(route)) {
            pod.add_route(interface, *dst, *gw).await?;
        }
        if network.external_net_via_pod_vm && is_ipv4(route) {
            pod.add_route_to(TUNNEL_TABLE, interface, *dst, *gw).await?;
        }
    }
    for net in std::iter::once(&network.pod_ip).chain(&network.further_pod_ips) {
        if let (true, IpAddr::V4(address)) = (network.external_net_via_pod_vm, net.address) {
            pod.add_rule(address, TUNNEL_TABLE).await?;
        }
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

fn overhead(remote: IpAddr) -> u32 {
    if remote.is_ipv4() {
        OVERHEAD_IPV4
    } else {
        OVERHEAD_IPV6
    }
}

fn is_ipv4(route: &Route) -> bool {
    let address = route.dst.map(|net| net.address).or(route.gw);
    address.is_none_or(|address| address.is_ipv4())
}

fn is_default_ipv4(route: &Route) -> bool {
    is_ipv4(route) && route.dst.is_none_or(|net| net.prefix == 0)
}
