//! The node's network, and a network beyond it that stands for the rest of the world.
//!
//! ```text
//!   pods 10.244.0.0/24 -- cni0 | node | knode0 10.250.0.1/24 -- VMs 10.250.0.100-200, guests in namespaces 201-240
//!                                          \-- veth -- 10.250.0.254 | outside | 198.51.100.1
//! ```

use std::{fs, process::Command};

use anyhow::{Context, Result};

use crate::process::run;

/// In the order in which they must be done. The MTU is that of clouds; pods have 50 less, for the tunnel's headers.
const COMMANDS: &[&str] = &[
    "link set lo up",
    "link add knode0 type bridge",
    "address add 10.250.0.1/24 dev knode0",
    "netns add outside",
    "link add outside0 mtu 9001 type veth peer name eth0 mtu 9001 netns outside",
    "link set outside0 master knode0 up",
    "link set knode0 mtu 9001 up",
    "-n outside link set lo up",
    "-n outside address add 198.51.100.1/32 dev lo",
    "-n outside address add 10.250.0.254/24 dev eth0",
    "-n outside link set eth0 up",
    "-n outside route add 10.244.0.0/24 via 10.250.0.1",
    // The subnets of instances, with PROVIDER=aws.
    "-n outside route add 172.31.0.0/16 via 10.250.0.1",
    "route add default via 10.250.0.254",
];
/// Of this network namespace alone.
const SYSCTLS: [(&str, &str); 2] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/bridge/bridge-nf-call-iptables", "1"),
];

/// Makes all links, addresses and routes.
pub(super) fn prepare() -> Result<()> {
    for arguments in COMMANDS {
        run(Command::new("ip").args(arguments.split(' ')))?;
    }
    for (name, value) in SYSCTLS {
        let path = format!("/proc/sys/{name}");
        if fs::exists(&path)? {
            fs::write(&path, value).with_context(|| format!("cannot write {path}"))?;
        }
    }
    Ok(())
}
