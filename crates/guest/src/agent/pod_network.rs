//! The pod's interface and routes, as the agent API describes them.

use std::path::Path;

use peerpods_proto::{
    agent as api,
    payload::{IpNet, Route},
    types,
};
use peerpods_tunnel::network::{PodInterface, inspect};

use crate::{boot::POD_NAMESPACE, error::GuestError};

/// `RT_SCOPE_UNIVERSE` and `RT_SCOPE_LINK` of linux/rtnetlink.h.
const SCOPE_UNIVERSE: u32 = 0;
const SCOPE_LINK: u32 = 253;

/// The pod's interface.
pub(super) async fn interfaces() -> Result<api::Interfaces, GuestError> {
    let interface = inspect(Path::new(POD_NAMESPACE)).await?;
    Ok(api::Interfaces {
        Interfaces: vec![interface_to_wire(&interface)],
        ..Default::default()
    })
}

/// The routes over it.
pub(super) async fn routes() -> Result<api::Routes, GuestError> {
    let interface = inspect(Path::new(POD_NAMESPACE)).await?;
    Ok(api::Routes {
        Routes: interface.routes.iter().map(route_to_wire).collect(),
        ..Default::default()
    })
}

fn interface_to_wire(interface: &PodInterface) -> types::Interface {
    let address = |net: &IpNet| types::IPAddress {
        family: family(net),
        address: net.address.to_string(),
        mask: net.prefix.to_string(),
        ..Default::default()
    };
    types::Interface {
        device: interface.name.clone(),
        name: interface.name.clone(),
        IPAddresses: interface.addresses.iter().map(address).collect(),
        mtu: interface.mtu.into(),
        hwAddr: interface.mac.clone(),
        ..Default::default()
    }
}

fn route_to_wire(route: &Route) -> types::Route {
    let is_ipv6 = match (route.dst, route.gw) {
        (Some(net), _) => net.address.is_ipv6(),
        (None, gateway) => gateway.is_some_and(|address| address.is_ipv6()),
    };
    let is_default = route.dst.is_none_or(|net| net.prefix == 0);
    types::Route {
        // Kata's agent leaves the destination of a default route out.
        dest: route
            .dst
            .filter(|_| !is_default)
            .map(|net| net.to_string())
            .unwrap_or_default(),
        gateway: route.gw.map(|address| address.to_string()).unwrap_or_default(),
        device: route.dev.clone(),
        scope: if route.gw.is_some() {
            SCOPE_UNIVERSE
        } else {
            SCOPE_LINK
        },
        family: if is_ipv6 {
            types::IPFamily::v6
        } else {
            types::IPFamily::v4
        }
        .into(),
        ..Default::default()
    }
}

fn family(net: &IpNet) -> protobuf::EnumOrUnknown<types::IPFamily> {
    if net.address.is_ipv6() {
        types::IPFamily::v6.into()
    } else {
        types::IPFamily::v4.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(dst: Option<&str>, gateway: Option<&str>) -> types::Route {
        route_to_wire(&Route {
            dst: dst.map(|text| text.parse().unwrap()),
            gw: gateway.map(|text| text.parse().unwrap()),
            dev: "eth0".to_owned(),
            protocol: None,
            scope: None,
        })
    }

    #[test]
    fn routes_have_family_and_scope() {
        let default = route(None, Some("10.244.0.1"));
        assert_eq!(
            (default.dest.as_str(), default.gateway.as_str()),
            ("", "10.244.0.1")
        );
        assert_eq!(default.scope, SCOPE_UNIVERSE);
        let link = route(Some("10.244.0.0/24"), None);
        assert_eq!((link.dest.as_str(), link.scope), ("10.244.0.0/24", SCOPE_LINK));
        let ipv6 = route(Some("::/0"), Some("fe80::1"));
        assert_eq!(
            (ipv6.dest.as_str(), ipv6.family),
            ("", types::IPFamily::v6.into())
        );
    }
}
