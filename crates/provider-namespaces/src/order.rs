//! What the provider tells the launcher: one file in the instance's directory, which is the launcher's working directory.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The order's file.
pub const ORDER: &str = "order.json";
/// The boot payload's file, and its name in the guest.
pub const USER_DATA: &str = peerpods_provider::local::USER_DATA;
/// The link configuration's file, and its name in the guest.
pub const NETWORK: &str = "network";
/// What the guest says.
pub const CONSOLE: &str = "console.log";

/// One launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LaunchOrder {
    /// The program to run as PID 1.
    pub guest: PathBuf,
    /// The instance's control group.
    pub cgroup: PathBuf,
    /// The bridge that the guest's device is connected with.
    pub bridge: String,
    /// The name of the device on the bridge.
    pub device: String,
    /// The address of the guest's device.
    pub mac: [u8; 6],
    /// The largest packet of both devices.
    pub mtu: u32,
}
