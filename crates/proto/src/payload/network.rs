//! The pod's network, with the key names and words of today's peer pods.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// An address with the length of its network's prefix, as in `10.244.0.5/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IpNet {
    /// The address.
    pub address: IpAddr,
    /// The prefix length: at most 32 or 128.
    pub prefix: u8,
}

/// A text that is no [`IpNet`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address with a prefix length, such as 10.244.0.5/24")]
pub struct InvalidIpNet(pub String);

impl IpNet {
    /// The network's own address: the host's bits are zero.
    pub fn network(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V4((u32::from(address) & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6((u128::from(address) & mask).into())
            }
        }
    }
}

impl FromStr for IpNet {
    type Err = InvalidIpNet;

    fn from_str(text: &str) -> Result<Self, InvalidIpNet> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            let address: IpAddr = address.parse().ok()?;
            let prefix: u8 = prefix.parse().ok()?;
            let longest = if address.is_ipv4() { 32 } else { 128 };
            (prefix <= longest).then_some(Self { address, prefix })
        };
        parse().ok_or_else(|| InvalidIpNet(text.to_owned()))
    }
}

impl TryFrom<String> for IpNet {
    type Error = InvalidIpNet;

    fn try_from(text: String) -> Result<Self, InvalidIpNet> {
        text.parse()
    }
}

impl From<IpNet> for String {
    fn from(net: IpNet) -> Self {
        net.to_string()
    }
}

impl fmt::Display for IpNet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix)
    }
}

/// How pod packets travel between worker and VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TunnelType {
    /// One unicast VXLAN per pod.
    Vxlan,
}

/// The pod's network as its CNI made it on the worker, and the tunnel that carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PodNetwork {
    /// The pod's first address.
    #[serde(rename = "podip")]
    pub pod_ip: IpNet,
    /// Further addresses of a pod with several; ours, unknown to a stock guest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_pod_ips: Vec<IpNet>,
    /// The pod interface's MAC address, as in `0a:58:0a:f4:00:05`.
    pub pod_hw_addr: String,
    /// The pod interface's name.
    pub interface: String,
    /// The worker's address on the side of the VM.
    pub worker_node_ip: IpNet,
    /// How packets travel.
    pub tunnel_type: TunnelType,
    /// The pod's routes; null where there are none.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub routes: Vec<Route>,
    /// The pod's permanent neighbours; null where there are none.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub neighbors: Vec<Neighbor>,
    /// The pod interface's MTU.
    pub mtu: u32,
    /// Counts the adaptor's pods.
    pub index: u32,
    /// The tunnel's UDP port.
    #[serde(default = "default_vxlan_port")]
    pub vxlan_port: u16,
    /// The tunnel's VNI.
    #[serde(default)]
    pub vxlan_id: u32,
    /// Whether the tunnel uses the VM's second address.
    #[serde(default)]
    pub dedicated: bool,
    /// Whether the pod's outside traffic leaves through the VM.
    #[serde(default)]
    pub external_net_via_pod_vm: bool,
}

/// One of the pod's routes; without a destination it is the default route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Route {
    /// Where to.
    #[serde(default, with = "maybe_text", skip_serializing_if = "Option::is_none")]
    pub dst: Option<IpNet>,
    /// Through which gateway; none for a link route.
    #[serde(default, with = "maybe_text", skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// Over which interface.
    #[serde(default)]
    pub dev: String,
    /// iproute2's word for who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// iproute2's word for its reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// One of the pod's neighbours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Neighbor {
    /// Its address.
    pub ip: IpAddr,
    /// Its MAC address.
    pub hw_addr: String,
    /// The interface.
    #[serde(default)]
    pub dev: String,
    /// iproute2's word for the entry's state.
    #[serde(default)]
    pub state: String,
}

const fn default_vxlan_port() -> u16 {
    4789
}

/// Go writes an empty list as null.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

mod maybe_text {
    //! Go writes an address that is not there as an empty text.

    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer, T: Display>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_str(""),
        }
    }

    pub(super) fn deserialize<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err: Display>,
    {
        match Option::<String>::deserialize(deserializer)?.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(D::Error::custom),
        }
    }
}
