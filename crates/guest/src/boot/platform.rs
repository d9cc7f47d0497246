//! Where the VM runs, and how it is told what it is for.
//!
//! Namespaces of another machine's kernel can stand in for a VM (`peerpods-provider-namespaces`): benchmarks then see
//! what this program costs, without emulation. Their sign is a directory in `/dev` from before this program mounts
//! anything there. In a VM it cannot be: `/dev` is then the initrd's, which the image's build leaves empty, and nothing
//! but the kernel has run. So the stand-in is part of every build, and what is measured is the program that ships.

use std::{fs, io::Read, path::Path};

use peerpods_proto::payload::PARSED_LIMIT;
use peerpods_tunnel::network::LinkConfig;
use zeroize::Zeroizing;

use crate::{container::Limits, error::GuestError};

const VENDOR: &str = "/sys/class/dmi/id/sys_vendor";
/// Files that QEMU hands over, by the names under which the provider gave them.
const QEMU_FILES: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/peerpods";
/// The same files, as the launcher of namespaces hands them over.
const NAMESPACES_FILES: &str = "/dev/peerpods";
/// A link configuration is a short JSON text.
const LINK_LIMIT: usize = 4096;
/// More random bytes than anybody gives.
const ENTROPY_LIMIT: usize = 4096;

/// A place that VMs run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Platform {
    Qemu,
    Ec2,
    /// No VM: namespaces of a kernel that others use too.
    Namespaces,
}

impl Platform {
    /// Looks for the launcher's sign, then asks the firmware's tables.
    pub(crate) fn find() -> Result<Self, GuestError> {
        if Path::new(NAMESPACES_FILES).is_dir() {
            return Ok(Self::Namespaces);
        }
        let vendor = fs::read_to_string(VENDOR).map_err(GuestError::file("read", VENDOR))?;
        match vendor.trim() {
            "QEMU" => Ok(Self::Qemu),
            "Amazon EC2" => Ok(Self::Ec2),
            _ => Err(GuestError::UnknownPlatform),
        }
    }

    /// The group of kernel modules for it; none where the kernel and its devices are not this program's to set up.
    pub(super) fn module_group(self) -> Option<&'static str> {
        match self {
            Self::Qemu => Some("qemu"),
            Self::Ec2 => Some("ec2"),
            Self::Namespaces => None,
        }
    }

    /// Whether the kernel is the VM's own.
    pub(crate) fn has_kernel(self) -> bool {
        match self {
            Self::Qemu | Self::Ec2 => true,
            Self::Namespaces => false,
        }
    }

    /// Whether containers' limits are enforced here. The controllers of a shared kernel belong to its machine.
    pub(crate) fn limits(self) -> Limits {
        match self {
            Self::Qemu | Self::Ec2 => Limits::Enforced,
            Self::Namespaces => Limits::NotAvailable,
        }
    }

    /// Where the platform hands over files; EC2 has services on the network instead.
    pub(super) fn files(self) -> Option<HandedOver> {
        match self {
            Self::Qemu => Some(HandedOver::Firmware),
            Self::Namespaces => Some(HandedOver::Folder),
            Self::Ec2 => None,
        }
    }
}

/// What the VM is told by whoever launched it, in files.
#[derive(Clone, Copy, Debug)]
pub(super) enum HandedOver {
    /// Items of QEMU's firmware configuration device.
    Firmware,
    /// A folder that the launcher of namespaces made.
    Folder,
}

impl HandedOver {
    /// The VM's own address.
    pub(super) fn link(self) -> Result<LinkConfig, GuestError> {
        parse_link(&self.read("network", LINK_LIMIT)?)
    }

    /// The boot payload.
    pub(super) fn user_data(self) -> Result<Zeroizing<Vec<u8>>, GuestError> {
        self.read("user-data", PARSED_LIMIT)
    }

    /// Whether the VM is somebody's. One that is not is a template: its network item is blank.
    pub(super) fn has_identity(self) -> Result<bool, GuestError> {
        match self {
            Self::Firmware => Ok(!self.read("network", LINK_LIMIT)?.trim_ascii().is_empty()),
            // Nobody saves those.
            Self::Folder => Ok(true),
        }
    }

    /// Random bytes that the provider gave this VM alone.
    pub(super) fn entropy(self) -> Result<Zeroizing<Vec<u8>>, GuestError> {
        self.read("entropy", ENTROPY_LIMIT)
    }

    fn read(self, name: &str, limit: usize) -> Result<Zeroizing<Vec<u8>>, GuestError> {
        match self {
            Self::Firmware => read_file(format!("{QEMU_FILES}/{name}/raw"), limit),
            Self::Folder => read_file(format!("{NAMESPACES_FILES}/{name}"), limit),
        }
    }
}

fn parse_link(json: &[u8]) -> Result<LinkConfig, GuestError> {
    serde_json::from_slice(json).map_err(|error| GuestError::Invalid {
        field: "network",
        problem: error.to_string(),
    })
}

fn read_file(path: String, limit: usize) -> Result<Zeroizing<Vec<u8>>, GuestError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let read = fs::File::open(&path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    read.map_err(GuestError::file("read", path))?;
    Ok(bytes)
}
