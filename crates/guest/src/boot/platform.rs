//! Where the VM runs, and how it is told what it is for.

use std::{fs, io::Read};

use peerpods_proto::payload::PARSED_LIMIT;
use peerpods_tunnel::network::LinkConfig;
use zeroize::Zeroizing;

use crate::error::GuestError;

const VENDOR: &str = "/sys/class/dmi/id/sys_vendor";
/// Files that QEMU hands over, by the names under which the provider gave them.
const QEMU_FILES: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/peerpods";
/// A link configuration is a short JSON text.
const LINK_LIMIT: usize = 4096;

/// A place that VMs run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Platform {
    Qemu,
    Ec2,
}

impl Platform {
    /// Asks the firmware's tables.
    pub(super) fn find() -> Result<Self, GuestError> {
        let vendor = fs::read_to_string(VENDOR).map_err(GuestError::file("read", VENDOR))?;
        match vendor.trim() {
            "QEMU" => Ok(Self::Qemu),
            "Amazon EC2" => Ok(Self::Ec2),
            _ => Err(GuestError::NoPayload),
        }
    }

    /// The group of kernel modules for it.
    pub(super) fn module_group(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Ec2 => "ec2",
        }
    }

    /// The VM's own address, where the platform tells it in a file; EC2 has DHCP.
    pub(super) fn link(self) -> Result<Option<LinkConfig>, GuestError> {
        match self {
            Self::Qemu => {
                let json = qemu_file("network", LINK_LIMIT)?;
                let link = serde_json::from_slice(&json).map_err(|error| GuestError::Invalid {
                    field: "network",
                    problem: error.to_string(),
                })?;
                Ok(Some(link))
            }
            Self::Ec2 => Ok(None),
        }
    }

    /// The boot payload.
    pub(super) fn user_data(self) -> Result<Zeroizing<Vec<u8>>, GuestError> {
        match self {
            Self::Qemu => qemu_file("user-data", PARSED_LIMIT),
            // The metadata service is asked by the part that brings EC2.
            Self::Ec2 => Err(GuestError::NoPayload),
        }
    }
}

fn qemu_file(name: &str, limit: usize) -> Result<Zeroizing<Vec<u8>>, GuestError> {
    let path = format!("{QEMU_FILES}/{name}/raw");
    let mut bytes = Zeroizing::new(Vec::new());
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let read = fs::File::open(&path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    read.map_err(GuestError::file("read", path))?;
    Ok(bytes)
}
