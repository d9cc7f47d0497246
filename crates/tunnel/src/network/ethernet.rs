//! The VM's Ethernet devices: its own, by which its worker reaches it, and what it may have for its pod.

use std::net::IpAddr;

use peerpods_proto::payload::IpNet;
use rtnetlink::packet_route::link::LinkLayerType;
use serde::{Deserialize, Serialize};

use super::{
    NetworkError,
    inspect::addresses,
    netlink::{Link, Netlink, device, read_link},
};

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

/// An Ethernet device in the namespace of this process.
#[derive(Clone, Debug)]
pub struct EthernetDevice {
    link: Link,
    mac: [u8; 6],
}

impl EthernetDevice {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.link.name
    }

    /// Its hardware address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The device itself.
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Starts it, for whoever asks the network for an address.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn start(&self) -> Result<(), NetworkError> {
        let up = device(self.link.index).up();
        Netlink::here()?.change(self.name(), "start the device", up).await
    }

    /// Gives it its address, and starts it.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn configure(&self, config: &LinkConfig) -> Result<(), NetworkError> {
        configure(&Netlink::here()?, &self.link, config).await
    }

    /// Takes back what [`EthernetDevice::configure`] did.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn stop(&self) -> Result<(), NetworkError> {
        let netlink = Netlink::here()?;
        netlink.remove_addresses(&self.link).await?;
        let down = device(self.link.index).down();
        netlink.change(self.name(), "stop the device", down).await
    }
}

/// The VM's Ethernet devices in the kernel's order; never empty.
///
/// # Errors
/// [`NetworkError::NoEthernet`] where there is none.
pub async fn ethernet_devices() -> Result<Vec<EthernetDevice>, NetworkError> {
    let links = ethernet_links(&Netlink::here()?).await?;
    links.into_iter().map(with_mac).collect()
}

/// The first Ethernet device that has no address: once the VM has its own address, one that it has for its pod. None where
/// every device has one.
///
/// # Errors
/// [`NetworkError`].
pub async fn spare_ethernet() -> Result<Option<EthernetDevice>, NetworkError> {
    let netlink = Netlink::here()?;
    for link in ethernet_links(&netlink).await? {
        if addresses(&netlink, link.index).await?.is_empty() {
            return with_mac(link).map(Some);
        }
    }
    Ok(None)
}

/// Gives the VM's first Ethernet device its address and starts it.
///
/// # Errors
/// [`NetworkError::NoEthernet`] where there is none.
pub async fn configure_link(config: &LinkConfig) -> Result<(), NetworkError> {
    let netlink = Netlink::here()?;
    let links = ethernet_links(&netlink).await?;
    let first = links.first().ok_or(NetworkError::NoEthernet)?;
    configure(&netlink, first, config).await
}

async fn configure(netlink: &Netlink, link: &Link, config: &LinkConfig) -> Result<(), NetworkError> {
    let mut start = device(link.index).mtu(config.mtu).up();
    if let Some(mac) = &config.mac {
        start = start.address(parse_mac(mac)?.to_vec());
    }
    netlink.change(&link.name, "start the device", start).await?;
    netlink.add_address(link, config.address).await?;
    netlink.add_route(link, Some(config.address), None).await?;
    match config.gateway {
        Some(gateway) => netlink.add_route(link, None, Some(gateway)).await,
        None => Ok(()),
    }
}

/// The MTU of the VM's way to the worker: that of its Ethernet devices that have addresses.
pub(super) async fn path_mtu(netlink: &Netlink) -> Result<u32, NetworkError> {
    let mut least = None;
    for link in ethernet_links(netlink).await? {
        if !addresses(netlink, link.index).await?.is_empty() {
            least = Some(least.map_or(link.mtu, |mtu: u32| mtu.min(link.mtu)));
        }
    }
    least.ok_or(NetworkError::NoEthernet)
}

/// Those of the lowest numbers first; never empty.
async fn ethernet_links(netlink: &Netlink) -> Result<Vec<Link>, NetworkError> {
    let links = netlink.links().await?;
    let ethernet = links
        .iter()
        .filter(|link| link.header.link_layer_type == LinkLayerType::Ether);
    let mut links: Vec<Link> = ethernet.filter_map(read_link).collect();
    links.sort_by_key(|link| link.index);
    if links.is_empty() {
        return Err(NetworkError::NoEthernet);
    }
    Ok(links)
}

fn with_mac(link: Link) -> Result<EthernetDevice, NetworkError> {
    let mac = <[u8; 6]>::try_from(link.mac.as_slice());
    let mac = mac.map_err(|_| NetworkError::InvalidMac(format!("{:02x?}", link.mac)))?;
    Ok(EthernetDevice { link, mac })
}

/// Reads a hardware address, as in `0a:58:0a:f4:00:05`.
///
/// # Errors
/// [`NetworkError::InvalidMac`].
pub fn parse_mac(text: &str) -> Result<[u8; 6], NetworkError> {
    let bytes: Result<Vec<u8>, _> = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    let mac = bytes.ok().and_then(|bytes| bytes.try_into().ok());
    mac.ok_or_else(|| NetworkError::InvalidMac(text.to_owned()))
}
