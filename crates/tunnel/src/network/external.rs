//! A pod's way to the outside past its worker: the VM's second Ethernet device.
//!
//! ```text
//! root netns of the VM                podns
//! eth0 ── to the worker: tunnel ──────── eth0       the pod's own network, and answers to whoever came that way
//! eth1 ── guard ── (MACVLAN) ─────────── external0  everything else, by IPv4
//! ```
//!
//! The device stays where the VM is, and the pod has a MACVLAN that passes everything on: a guard between the two is out of
//! the reach of whoever owns the pod's network.

use std::{
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
};

use peerpods_proto::payload::{IpNet, PodNetwork};
use rtnetlink::{LinkMacVlan, packet_route::link::MacVlanMode};

use super::{
    EXTERNAL_NAME, EthernetDevice, ExternalGuard, LinkConfig, NetworkError,
    guard::PROGRAM,
    netlink::{Link, Netlink, device},
};

/// The pod's end of the VM's second Ethernet device.
#[derive(Debug)]
pub struct ExternalLink {
    below: EthernetDevice,
    netns: PathBuf,
}

impl ExternalLink {
    /// Makes it in the namespace, started but without an address.
    ///
    /// # Errors
    /// [`NetworkError`]; the VM is then of no use to its pod.
    pub async fn make(
        below: EthernetDevice,
        netns: &Path,
        guard: ExternalGuard,
    ) -> Result<Self, NetworkError> {
        let namespace = std::fs::File::open(netns).map_err(|source| NetworkError::Namespace {
            path: netns.to_owned(),
            source,
        })?;
        let root = Netlink::here()?;
        root.have_no_addresses(below.link()).await?;
        root.filter(below.link(), guard.load()?.as_fd(), PROGRAM).await?;
        below.start().await?;
        let made = LinkMacVlan::new(EXTERNAL_NAME, below.link().index, MacVlanMode::Passthrough)
            .setns_by_fd(namespace.as_raw_fd());
        root.add(EXTERNAL_NAME, "make the device", made.build()).await?;
        let pod = Netlink::inside(netns)?;
        let made = find(&pod).await?;
        pod.have_no_addresses(&made).await?;
        let up = device(made.index).up();
        pod.change(EXTERNAL_NAME, "start the device", up).await?;
        Ok(Self {
            below,
            netns: netns.to_owned(),
        })
    }

    /// Its name in the pod's namespace.
    pub fn name(&self) -> &'static str {
        EXTERNAL_NAME
    }

    /// Its hardware address, which is that of the VM's device.
    pub fn mac(&self) -> [u8; 6] {
        self.below.mac()
    }

    /// Gives it its address, and what the pod has no other route for: to the gateway, or where there is none to the first
    /// address of its network. Comes after [`super::attach`], whose routes win where they are the same.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn configure(&self, config: &LinkConfig, pod_network: &PodNetwork) -> Result<(), NetworkError> {
        let (root, pod) = (Netlink::here()?, Netlink::inside(&self.netns)?);
        let mtu = device(self.below.link().index).mtu(config.mtu);
        root.change(self.below.name(), "set the MTU of the device", mtu)
            .await?;
        let link = find(&pod).await?;
        let mtu = device(link.index).mtu(config.mtu);
        pod.change(EXTERNAL_NAME, "set the MTU of the device", mtu)
            .await?;
        pod.add_address(&link, config.address).await?;
        let network = IpNet {
            address: config.address.network(),
            prefix: config.address.prefix,
        };
        let taken = pod_network.routes.iter().filter_map(|route| route.dst);
        if !taken
            .map(|net| (net.network(), net.prefix))
            .any(|net| net == (network.address, network.prefix))
        {
            pod.add_route(&link, Some(network), None).await?;
        }
        let gateway = config.gateway.unwrap_or_else(|| first_host(network));
        pod.add_route(&link, None, Some(gateway)).await
    }
}

async fn find(pod: &Netlink) -> Result<Link, NetworkError> {
    let found = pod.link(EXTERNAL_NAME).await?;
    found.ok_or_else(|| NetworkError::Protocol {
        action: "find the device",
        subject: EXTERNAL_NAME.to_owned(),
        cause: "it was made and is gone".to_owned(),
    })
}

/// Where EC2 has the router of a subnet.
fn first_host(network: IpNet) -> IpAddr {
    match network.address {
        IpAddr::V4(address) => IpAddr::V4(u32::from(address).saturating_add(1).into()),
        IpAddr::V6(address) => IpAddr::V6(u128::from(address).saturating_add(1).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnets_router_is_its_first_host() {
        let first = |text: &str| first_host(text.parse().unwrap()).to_string();
        assert_eq!(first("10.0.16.0/20"), "10.0.16.1");
        assert_eq!(first("fd00::/64"), "fd00::1");
    }
}
