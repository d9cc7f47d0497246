//! A pod's network on the node, as a CNI leaves it: a namespace with `eth0` on the node's bridge.

use std::process::Command;

use crate::node::shell;

/// The CNI gives addresses from below; these it never reaches.
const ADDRESSES: std::ops::RangeInclusive<u8> = 200..=250;

/// The namespace; it is gone when this is.
pub(crate) struct Network {
    name: String,
    link: String,
    /// Its path.
    pub(crate) path: String,
    /// The pod's address.
    pub(crate) address: String,
}

impl Network {
    /// Makes one with an address that no other has.
    #[track_caller]
    pub(crate) fn new() -> Self {
        let number = ADDRESSES
            .into_iter()
            .find(|number| ip(&format!("netns add stock-{number}")))
            .expect("an address is free");
        let (name, link) = (format!("stock-{number}"), format!("stock{number}"));
        let network = Self {
            path: format!("/run/netns/{name}"),
            address: format!("10.244.0.{number}"),
            name,
            link,
        };
        let Self {
            name, link, address, ..
        } = &network;
        // The CNI makes the bridge with its first pod, which need not have come yet.
        if ip("link add cni0 mtu 8951 type bridge") {
            shell("ip address add 10.244.0.1/24 dev cni0 && ip link set cni0 up");
        }
        shell(&format!(
            "ip link add {link} mtu 8951 type veth peer name eth0 mtu 8951 netns {name} && \
             ip link set {link} master cni0 up && \
             ip -n {name} link set lo up && \
             ip -n {name} address add {address}/24 dev eth0 && \
             ip -n {name} link set eth0 up && \
             ip -n {name} route add default via 10.244.0.1"
        ));
        network
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        ip(&format!("netns delete {}", self.name));
        // It goes with its other end, but not at once.
        ip(&format!("link delete {}", self.link));
    }
}

/// `ip ARGUMENTS`: whether it succeeded.
fn ip(arguments: &str) -> bool {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    output.unwrap().status.success()
}
