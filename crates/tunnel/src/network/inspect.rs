//! What the CNI made of the pod's network namespace, and where the node is.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use futures::TryStreamExt;
use peerpods_proto::payload::{IpNet, Neighbor, PodNetwork, Route, TunnelType};
use rtnetlink::packet_route::{
    AddressFamily,
    address::AddressAttribute,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType},
};

use super::{
    NetworkError,
    netlink::{Link, Netlink, read_link},
};

/// The pod's interface as the CNI made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodInterface {
    /// Its name, usually `eth0`.
    pub name: String,
    /// Its addresses; never empty.
    pub addresses: Vec<IpNet>,
    /// Its MAC address, as in `0a:58:0a:f4:00:05`.
    pub mac: String,
    /// Its MTU.
    pub mtu: u32,
    /// The routes over it.
    pub routes: Vec<Route>,
    /// Its permanent neighbours.
    pub neighbors: Vec<Neighbor>,
}

impl PodInterface {
    /// The network as the guest is told of it.
    pub fn to_pod_network(&self, node: IpNet, vni: u32, port: u16, index: u32) -> PodNetwork {
        let mut addresses = self.addresses.iter().copied();
        PodNetwork {
            pod_ip: addresses
                .next()
                .expect("a pod interface has an address: `inspect` checked it"),
            further_pod_ips: addresses.collect(),
            pod_hw_addr: self.mac.clone(),
            interface: self.name.clone(),
            worker_node_ip: node,
            tunnel_type: TunnelType::Vxlan,
            routes: self.routes.clone(),
            neighbors: self.neighbors.clone(),
            mtu: self.mtu,
            index,
            vxlan_port: port,
            vxlan_id: vni,
            dedicated: false,
            external_net_via_pod_vm: false,
        }
    }

    /// Routes to these networks that take the pod's default route's way; none to a network that it has a route to already, or
    /// of a family in which it has no default route and reaches nobody further away.
    pub fn routes_to(&self, networks: &[IpNet]) -> Vec<Route> {
        let way = |network: &IpNet| {
            let is_way = |route: &&Route| {
                let family = route.dst.map(|net| net.address).or(route.gw);
                let is_ipv6 = family.is_some_and(|address| address.is_ipv6());
                route.dst.is_none_or(|net| net.prefix == 0) && is_ipv6 == network.address.is_ipv6()
            };
            let default = self.routes.iter().find(is_way)?;
            Some(Route {
                dst: Some(*network),
                protocol: Some("static".to_owned()),
                ..default.clone()
            })
        };
        let is_new = |network: &&IpNet| {
            let of = |net: &IpNet| (net.network(), net.prefix);
            let mut known = self.routes.iter().filter_map(|route| route.dst.as_ref());
            !known.any(|net| of(net) == of(network))
        };
        networks.iter().filter(is_new).filter_map(way).collect()
    }
}

/// Reads the pod's network namespace; in a VM what it has past its worker is left out.
///
/// # Errors
/// [`NetworkError::NoPodInterface`] where the CNI left no interface with an address.
pub async fn inspect(netns: &Path) -> Result<PodInterface, NetworkError> {
    let netlink = Netlink::inside(netns)?;
    let links = netlink.links().await?;
    let mut links: Vec<Link> = links.iter().filter_map(read_link).collect();
    let external = links.iter().position(|link| link.name == super::EXTERNAL_NAME);
    let external = external.map(|position| links.remove(position).index);
    let mut routes = routes(&netlink).await?;
    routes.retain(|route| external.is_none() || device_of(route) != external);
    let default = routes
        .iter()
        .find(|route| destination(route).is_none())
        .and_then(device_of);
    let is_pod_interface = |link: &&Link| match default {
        Some(index) => link.index == index,
        None => link.name != "lo" && link.name != super::TUNNEL_NAME,
    };
    let none = || NetworkError::NoPodInterface(netns.to_owned());
    let link = links.iter().find(is_pod_interface).ok_or_else(none)?;
    let addresses = addresses(&netlink, link.index).await?;
    if addresses.is_empty() {
        return Err(none());
    }
    Ok(PodInterface {
        name: link.name.clone(),
        addresses,
        mac: mac_text(&link.mac),
        mtu: link.mtu,
        routes: routes
            .iter()
            .filter(|route| device_of(route) == Some(link.index))
            .map(|route| read_route(route, link))
            .collect(),
        neighbors: neighbours(&netlink, link).await?,
    })
}

/// The node's address on the way out, which is the one that VMs beside it reach.
///
/// # Errors
/// [`NetworkError::NoNodeAddress`].
pub async fn node_address() -> Result<IpNet, NetworkError> {
    let netlink = Netlink::here()?;
    let routes = routes(&netlink).await?;
    let default = routes
        .iter()
        .find(|route| destination(route).is_none())
        .and_then(device_of);
    let index = default.ok_or(NetworkError::NoNodeAddress)?;
    addresses(&netlink, index)
        .await?
        .first()
        .copied()
        .ok_or(NetworkError::NoNodeAddress)
}

/// Unicast routes of the main table that the CNI, DHCP or the kernel made; IPv4 first.
async fn routes(netlink: &Netlink) -> Result<Vec<RouteMessage>, NetworkError> {
    let mut found = netlink.routes(AddressFamily::Inet).await?;
    found.extend(netlink.routes(AddressFamily::Inet6).await?);
    found.retain(|route| {
        let made = [
            RouteProtocol::Static,
            RouteProtocol::Boot,
            RouteProtocol::Dhcp,
            RouteProtocol::Kernel,
        ];
        let link_local =
            destination(route).is_some_and(|net| is_link_local(net.address) || net.address.is_multicast());
        route.header.table == RouteHeader::RT_TABLE_MAIN
            && route.header.kind == RouteType::Unicast
            && made.contains(&route.header.protocol)
            && !link_local
    });
    Ok(found)
}

/// The addresses of a device that are more than link-local; IPv4 first.
pub(super) async fn addresses(netlink: &Netlink, index: u32) -> Result<Vec<IpNet>, NetworkError> {
    let listed = netlink
        .handle()
        .address()
        .get()
        .set_link_index_filter(index)
        .execute();
    let listed: Vec<_> = listed
        .try_collect()
        .await
        .map_err(|error| NetworkError::Protocol {
            action: "list",
            subject: "the addresses".to_owned(),
            cause: error.to_string(),
        })?;
    let mut found: Vec<IpNet> = listed
        .iter()
        .filter_map(|message| {
            let address = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            })?;
            Some(IpNet {
                address,
                prefix: message.header.prefix_len,
            })
        })
        .filter(|net| !is_link_local(net.address))
        .collect();
    found.sort_by_key(|net| net.address.is_ipv6());
    Ok(found)
}

async fn neighbours(netlink: &Netlink, link: &Link) -> Result<Vec<Neighbor>, NetworkError> {
    let listed: Vec<_> = netlink
        .handle()
        .neighbours()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(|error| NetworkError::Protocol {
            action: "list",
            subject: "the neighbours".to_owned(),
            cause: error.to_string(),
        })?;
    let permanent = listed.iter().filter(|neighbour| {
        neighbour.header.ifindex == link.index && neighbour.header.state == NeighbourState::Permanent
    });
    Ok(permanent
        .filter_map(|neighbour| {
            let mut ip = None;
            let mut mac = None;
            for attribute in &neighbour.attributes {
                match attribute {
                    NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                        ip = Some(IpAddr::V4(*address))
                    }
                    NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
                        ip = Some(IpAddr::V6(*address))
                    }
                    NeighbourAttribute::LinkLayerAddress(address) => mac = Some(mac_text(address)),
                    _ => {}
                }
            }
            let state = "permanent".to_owned();
            Some(Neighbor {
                ip: ip?,
                hw_addr: mac?,
                dev: link.name.clone(),
                state,
            })
        })
        .collect())
}

fn read_route(route: &RouteMessage, link: &Link) -> Route {
    let gateway = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        _ => None,
    });
    let protocol = if route.header.protocol == RouteProtocol::Kernel {
        "kernel"
    } else {
        "static"
    };
    Route {
        dst: destination(route).or_else(|| default_of(route)),
        gw: gateway,
        dev: link.name.clone(),
        protocol: Some(protocol.to_owned()),
        scope: Some(if gateway.is_some() { "global" } else { "link" }.to_owned()),
    }
}

/// IPv6's default route needs its family said; IPv4's is the one without destination.
fn default_of(route: &RouteMessage) -> Option<IpNet> {
    let is_ipv6 = route.header.address_family == AddressFamily::Inet6;
    is_ipv6.then(|| IpNet {
        address: std::net::Ipv6Addr::UNSPECIFIED.into(),
        prefix: 0,
    })
}

fn destination(route: &RouteMessage) -> Option<IpNet> {
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => ip(address),
        _ => None,
    })?;
    Some(IpNet {
        address,
        prefix: route.header.destination_prefix_length,
    })
}

fn device_of(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        // A link-local IPv4 address may be a CNI's gateway (Calico, AWS), so only the unspecified one is left out.
        IpAddr::V4(address) => address == Ipv4Addr::UNSPECIFIED,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn mac_text(mac: &[u8]) -> String {
    mac.iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(":")
}
