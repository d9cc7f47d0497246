//! The way of what pods send to the outside of their cluster.

use peerpods_proto::payload::{IpNet, PodNetwork};
use peerpods_provider::parse_switch;
use peerpods_tunnel::network::PodInterface;

use crate::settings::CloudProvider;

/// Networks that pods reach by their node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Networks(Vec<IpNet>);

/// Which way it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ExternalNetwork {
    /// The way of everything else: by this node.
    ViaNode,
    /// By a second network interface of the pod's VM.
    ViaVm {
        /// What pods reach by this node beside what their CNI has routes to.
        cluster: Vec<IpNet>,
    },
}

/// A provider whose VMs have no second interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "EXTERNAL_NETWORK_VIA_PODVM is for the provider aws, whose VMs can have a second network interface, and not for {0}: unset it"
)]
pub(crate) struct NoSecondInterface(&'static str);

impl ExternalNetwork {
    /// What the settings come to; warns of what pods will not reach.
    pub(crate) fn choose(
        provider: CloudProvider,
        via_vm: bool,
        cluster: Networks,
    ) -> Result<Self, NoSecondInterface> {
        if !via_vm {
            return Ok(Self::ViaNode);
        }
        match provider {
            CloudProvider::Aws => {}
            CloudProvider::Qemu | CloudProvider::Namespaces => {
                return Err(NoSecondInterface(provider.name()));
            }
        }
        if cluster.0.is_empty() {
            tracing::warn!(
                "POD_SUBNET_CIDRS is empty: of the cluster, its services and its DNS, pods reach only what their CNI has \
                 routes to, because everything else leaves by their VMs: name the cluster's networks of pods and services"
            );
        }
        Ok(Self::ViaVm { cluster: cluster.0 })
    }

    /// Has a pod's network be so.
    pub(crate) fn apply(&self, interface: &PodInterface, network: &mut PodNetwork) {
        match self {
            Self::ViaNode => {}
            Self::ViaVm { cluster } => {
                network.routes.extend(interface.routes_to(cluster));
                network.external_net_via_pod_vm = true;
            }
        }
    }
}

/// Reads `true` or `false`; a text that is empty is none, because a key that was emptied in a ConfigMap leaves one.
pub(crate) fn switch(text: &str) -> Result<bool, String> {
    match text.trim() {
        "" => Ok(false),
        said => parse_switch(said).ok_or_else(|| format!("{text:?} is neither true nor false")),
    }
}

/// Reads networks between commas; spaces around them are nobody's.
pub(crate) fn networks(text: &str) -> Result<Networks, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let networks: Result<Vec<IpNet>, String> = parts.map(network).collect();
    networks.map(Networks)
}

fn network(text: &str) -> Result<IpNet, String> {
    let network: IpNet = text
        .parse()
        .map_err(|_| format!("{text:?} is no network such as 10.244.0.0/16"))?;
    if network.prefix == 0 {
        return Err(format!(
            "{text} is every network: unset EXTERNAL_NETWORK_VIA_PODVM where all is to go by the node"
        ));
    }
    Ok(IpNet {
        address: network.network(),
        prefix: network.prefix,
    })
}

#[cfg(test)]
mod tests {
    use peerpods_proto::payload::Route;

    use super::*;

    fn route(destination: Option<&str>, gateway: &str) -> Route {
        Route {
            dst: destination.map(|text| text.parse().unwrap()),
            gw: Some(gateway.parse().unwrap()),
            dev: "eth0".to_owned(),
            protocol: Some("static".to_owned()),
            scope: Some("global".to_owned()),
        }
    }

    fn applied(external: &ExternalNetwork, routes: Vec<Route>) -> PodNetwork {
        let interface = PodInterface {
            name: "eth0".to_owned(),
            addresses: vec!["10.244.0.5/24".parse().unwrap()],
            mac: "0a:58:0a:f4:00:05".to_owned(),
            mtu: 8951,
            routes,
            neighbors: Vec::new(),
        };
        let node = "10.250.0.1/24".parse().unwrap();
        let mut network = interface.to_pod_network(node, 555_000, 4789, 0);
        external.apply(&interface, &mut network);
        network
    }

    #[test]
    fn networks_of_the_cluster_stay_with_the_node() {
        let cluster = networks("10.96.0.0/12, 10.244.3.0/16,,fd00:96::/112").unwrap();
        let external = ExternalNetwork::choose(CloudProvider::Aws, true, cluster).unwrap();
        let network = applied(&external, vec![route(None, "10.244.0.1")]);
        assert!(network.external_net_via_pod_vm);
        // The pod has no IPv6, so nothing of IPv6 either.
        assert_eq!(
            network.routes,
            [
                route(None, "10.244.0.1"),
                route(Some("10.96.0.0/12"), "10.244.0.1"),
                route(Some("10.244.0.0/16"), "10.244.0.1"),
            ]
        );
        let both = vec![route(None, "10.244.0.1"), route(Some("::/0"), "fd00:244::1")];
        let network = applied(&external, both);
        assert_eq!(
            network.routes.last(),
            Some(&route(Some("fd00:96::/112"), "fd00:244::1"))
        );
    }

    #[test]
    fn otherwise_nothing_changes() {
        let cluster = networks("10.96.0.0/12").unwrap();
        let external = ExternalNetwork::choose(CloudProvider::Qemu, false, cluster).unwrap();
        let network = applied(&external, vec![route(None, "10.244.0.1")]);
        assert!(!network.external_net_via_pod_vm);
        assert_eq!(network.routes, [route(None, "10.244.0.1")]);
    }

    #[test]
    fn vms_without_a_second_interface_are_named() {
        for provider in [CloudProvider::Qemu, CloudProvider::Namespaces] {
            let error = ExternalNetwork::choose(provider, true, Networks::default()).unwrap_err();
            let text = error.to_string();
            assert!(
                text.starts_with("EXTERNAL_NETWORK_VIA_PODVM") && text.contains(provider.name()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(
            (switch(" True "), switch("0"), switch("")),
            (Ok(true), Ok(false), Ok(false))
        );
        assert_eq!(networks(""), Ok(Networks::default()));
        for (wrong, named) in [
            ("10.0.0.0/8,web", "\"web\""),
            ("10.0.0.0", "10.0.0.0"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert!(networks(wrong).unwrap_err().contains(named), "{wrong}");
        }
        assert!(switch("perhaps").unwrap_err().contains("perhaps"));
    }
}
