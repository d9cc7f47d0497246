//! The pod network: one unicast VXLAN per pod, and its two ends.
//!
//! ```text
//! worker                                                             VM
//! node netns      │ pod netns                                        │ root netns      │ podns
//! bridge ── veth ─┼─ eth0 ⇄ (tc redirect) ⇄ vxlan1 ── UDP ───────────┼─ UDP ── vxlan1 ─┼─ eth0 (MACVLAN): address,
//!                 │                                                  │                 │ MAC, routes, neighbours
//! ```
//!
//! The CNI's interface stays as it is on the worker, so that its routes and policies keep working; everything that arrives
//! there goes into the tunnel, and everything from the tunnel leaves there. The worker's VXLAN device is made in the node's
//! namespace and then moved: the UDP side stays where the device was made.

mod error;
mod ethernet;
mod external;
mod guard;
mod guest;
mod inspect;
mod namespace;
mod netlink;
mod unsafe_namespace;
mod worker;

pub use error::NetworkError;
pub use ethernet::{EthernetDevice, LinkConfig, configure_link, ethernet_devices, parse_mac, spare_ethernet};
pub use external::ExternalLink;
pub use guard::ExternalGuard;
pub use guest::{add_loopback_address, attach, loopback_up, permit, prohibit, prohibit_inside};
pub use inspect::{PodInterface, inspect, node_address};
pub use namespace::{create_namespace, run_inside};
pub use worker::{WorkerTunnel, is_namespace};

/// The name of the VXLAN device on either side, as with today's peer pods.
const TUNNEL_NAME: &str = "vxlan1";
/// The name of a pod's way to the outside past its worker.
const EXTERNAL_NAME: &str = "external0";
