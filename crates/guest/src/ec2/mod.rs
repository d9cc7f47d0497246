//! EC2: the VM's address comes by DHCP, and what it is for by the instance metadata service.

pub mod dhcp;
pub mod external;
pub mod metadata;

use std::{
    fmt::Write,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use peerpods_proto::payload::IpNet;
use peerpods_tunnel::{
    forward::{ForwardError, open_outlet},
    network::{self, EthernetDevice, LinkConfig, NetworkError},
};
use zeroize::Zeroizing;

use self::{
    dhcp::{DhcpError, Lease},
    metadata::MetadataError,
};
use crate::error::GuestError;

/// The metadata service, where EC2 has it in every network.
const METADATA_SERVICE: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Where it is in networks of IPv6, on instances that are told to have it there too.
const METADATA_SERVICE_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254);
const METADATA_PORT: u16 = 80;
/// The MTU where the network names none: that of Ethernet. A VPC names 9001.
const DEFAULT_MTU: u32 = 1500;
/// The VM's own resolver: that of its network, for the registries that images come from.
const RESOLVER_FILE: &str = "/etc/resolv.conf";

/// Joins the VM's network, and fetches the boot payload.
///
/// Afterwards the metadata service is out of reach of everything in the VM, until [`open_metadata`]: nothing here needs it
/// again, and what it tells (credentials of the instance's role among it) is not for containers. The pod's network never led
/// to it: all of that goes through the tunnel.
pub(crate) async fn read_user_data() -> Result<Zeroizing<Vec<u8>>, GuestError> {
    let service = format!("http://{METADATA_SERVICE}");
    join_network(&service).await?;
    let user_data = metadata::user_data(&service).await?;
    close_metadata().await?;
    Ok(user_data)
}

/// Joins the network by the instance's primary interface. A second one is the pod's, and the kernel may count it as the first:
/// `service`, the metadata service's URL, says which is which, by either of them.
///
/// # Errors
/// [`JoinError`].
pub async fn join_network(service: &str) -> Result<(), JoinError> {
    let devices = network::ethernet_devices().await?;
    let [first, further @ ..] = devices.as_slice() else {
        return Err(NetworkError::NoEthernet.into());
    };
    join_by(first).await?;
    if further.is_empty() {
        return Ok(());
    }
    let primary = metadata::primary_mac(service).await?;
    if first.mac() == primary {
        return Ok(());
    }
    let own = further.iter().find(|device| device.mac() == primary);
    let own = own.ok_or(JoinError::NoPrimary)?;
    tracing::info!("{} is not the primary interface: {} is", first.name(), own.name());
    first.stop().await?;
    join_by(own).await
}

async fn join_by(device: &EthernetDevice) -> Result<(), JoinError> {
    device.start().await?;
    let lease = dhcp::acquire(device.name(), device.mac()).await?;
    tracing::info!("the VM's address is {}/{}", lease.address, lease.prefix);
    device.configure(&link_config(&lease)).await?;
    fs::write(RESOLVER_FILE, resolver_lines(&lease)).map_err(JoinError::Resolver)
}

/// The VM cannot join its network.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// A device cannot be used.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// It gets no address.
    #[error("the VM gets no address")]
    Dhcp(#[from] DhcpError),
    /// What interface is whose cannot be had.
    #[error("which of its interfaces is the VM's own is not known")]
    Metadata(#[from] MetadataError),
    /// The primary interface has no device here.
    #[error("the VM has no device for its primary network interface")]
    NoPrimary,
    /// The network's resolvers cannot be written down.
    #[error("cannot write {RESOLVER_FILE}")]
    Resolver(#[source] std::io::Error),
}

/// Keeps everything in this network namespace from the metadata service.
///
/// # Errors
/// [`NetworkError`].
pub async fn close_metadata() -> Result<(), NetworkError> {
    for service in [METADATA_SERVICE.into(), METADATA_SERVICE_IPV6.into()] {
        network::prohibit(only(service)).await?;
    }
    Ok(())
}

/// Lets the pod in `namespace` reach the metadata service, as the VM does.
///
/// # Errors
/// [`ForwardError`]; then it does not.
pub async fn open_metadata(namespace: &Path) -> Result<(), ForwardError> {
    let service = METADATA_SERVICE.into();
    network::permit(only(service)).await?;
    network::add_loopback_address(namespace, only(service)).await?;
    open_outlet(namespace, SocketAddr::new(service, METADATA_PORT))
}

fn only(address: IpAddr) -> IpNet {
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    IpNet { address, prefix }
}

/// An address of EC2 is its interface's for the interface's life, so it stays when the lease would have ended.
fn link_config(lease: &Lease) -> LinkConfig {
    LinkConfig {
        address: IpNet {
            address: lease.address.into(),
            prefix: lease.prefix,
        },
        gateway: lease.router.map(IpAddr::V4),
        mtu: lease.mtu.map_or(DEFAULT_MTU, u32::from),
        mac: None,
    }
}

fn resolver_lines(lease: &Lease) -> String {
    let mut text = String::new();
    for resolver in &lease.resolvers {
        writeln!(text, "nameserver {resolver}").expect("writing to memory does not fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_becomes_the_links_configuration() {
        let lease = Lease {
            server: [10, 0, 0, 1].into(),
            address: [10, 0, 7, 9].into(),
            prefix: 20,
            router: Some([10, 0, 0, 1].into()),
            resolvers: vec![[10, 0, 0, 2].into()],
            mtu: Some(9001),
        };
        let link = link_config(&lease);
        assert_eq!(link.address.to_string(), "10.0.7.9/20");
        assert_eq!(link.mtu, 9001);
        assert_eq!(resolver_lines(&lease), "nameserver 10.0.0.2\n");
        assert_eq!(link_config(&Lease { mtu: None, ..lease }).mtu, 1500);
    }
}
