//! Where VMs live on this machine, and what they get unless a pod says otherwise.

use std::{net::Ipv4Addr, num::NonZeroU32, path::PathBuf, str::FromStr};

use peerpods_provider::{AddressPool, ProviderError};

use crate::shape;

/// Everything that [`crate::QemuProvider`] needs to know about its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QemuSettings {
    /// One directory per instance goes here; on a file system that forgets at reboot, as the VMs do.
    pub state_dir: PathBuf,
    /// The kernel of VMs whose pods name no image.
    pub kernel: PathBuf,
    /// The initrd of those VMs.
    pub initrd: PathBuf,
    /// `NAME/vmlinuz` and `NAME/initrd.img` for pods that name an image.
    pub images_dir: PathBuf,
    /// The bridge that VMs' network devices join; it must exist.
    pub bridge: String,
    /// The addresses that VMs get.
    pub pool: AddressPool,
    /// The length of the pool's network prefix.
    pub prefix_length: u8,
    /// The VMs' default route.
    pub gateway: Ipv4Addr,
    /// The largest packet on the bridge.
    pub mtu: u32,
    /// How the guest's instructions run.
    pub accelerator: Accelerator,
    /// CPUs of a VM whose pod asks for none.
    pub default_vcpus: u32,
    /// Memory of a VM whose pod asks for none.
    pub default_memory_mib: u32,
    /// The scratch disk of every VM. Without one, images and what containers write take the VM's memory.
    pub scratch: Option<ScratchSettings>,
    /// Where a VM is saved once, in memory and state, for others of the default size to be resumed from; on a disk, as its
    /// memory is a file. Without it every VM boots.
    pub template_dir: Option<PathBuf>,
    /// The QEMU program, a path or a name to look up.
    pub binary: PathBuf,
    /// Where that program is, and runs.
    pub placement: Placement,
}

/// Where QEMU runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Beside this program.
    #[default]
    Here,
    /// On the node, and this program is in a container there, of which the VMs are no part.
    Node(NodePlacement),
}

/// What this program's container must have for it: the node's process numbers, its network, all capabilities, and the state
/// directory under the same path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlacement {
    /// The control group of all VMs, below the root of each hierarchy.
    pub cgroup: String,
}

/// The scratch disks of VMs: sparse files without names, gone with their VMs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScratchSettings {
    /// Where the files are: on a disk, and on a file system that can have files without names (`O_TMPFILE`).
    pub directory: PathBuf,
    /// How large each appears to its VM.
    pub size_gib: NonZeroU32,
}

impl ScratchSettings {
    pub(crate) fn size_bytes(&self) -> u64 {
        u64::from(self.size_gib.get()) << 30
    }
}

impl QemuSettings {
    /// Finds contradictions before the first pod does.
    pub(crate) fn check(&self) -> Result<(), ProviderError> {
        let invalid = |message: String| Err(ProviderError::InvalidRequest(message));
        if self.prefix_length > 30 {
            return invalid(format!(
                "a network with prefix length {} has no room for VMs",
                self.prefix_length
            ));
        }
        let network = |address: Ipv4Addr| address.to_bits() >> (32 - u32::from(self.prefix_length).max(1));
        let outside = |address| network(address) != network(self.gateway);
        if self.prefix_length > 0 && self.pool.ends().into_iter().any(outside) {
            return invalid(format!(
                "the gateway {} is not in the network of the pool {}",
                self.gateway, self.pool
            ));
        }
        if self.pool.contains(self.gateway) {
            return invalid(format!(
                "the gateway {} is one of the pool's addresses {}",
                self.gateway, self.pool
            ));
        }
        shape::check_vcpus(self.default_vcpus)?;
        shape::check_memory(self.default_memory_mib)
    }
}

/// How the guest's instructions run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accelerator {
    /// KVM if a kernel really boots with it, else TCG.
    #[default]
    Auto,
    /// The machine's own virtualization.
    Kvm,
    /// Emulation: works everywhere, slower.
    Tcg,
}

/// A text that is no [`Accelerator`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an accelerator is auto, kvm or tcg, not {0:?}")]
pub struct InvalidAccelerator(pub String);

impl FromStr for Accelerator {
    type Err = InvalidAccelerator;

    fn from_str(text: &str) -> Result<Self, InvalidAccelerator> {
        match text {
            "auto" => Ok(Self::Auto),
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            _ => Err(InvalidAccelerator(text.to_owned())),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Accelerator, QemuSettings};

    pub(crate) fn settings() -> QemuSettings {
        QemuSettings {
            state_dir: "/run/instances".into(),
            kernel: "/boot/vmlinuz".into(),
            initrd: "/boot/initrd.img".into(),
            images_dir: "/run/images".into(),
            bridge: "bridge0".to_owned(),
            pool: "10.250.0.100-10.250.0.102".parse().unwrap(),
            prefix_length: 24,
            gateway: [10, 250, 0, 1].into(),
            mtu: 9001,
            accelerator: Accelerator::Tcg,
            default_vcpus: 1,
            default_memory_mib: 512,
            scratch: None,
            template_dir: None,
            binary: "qemu-system-x86_64".into(),
            placement: super::Placement::Here,
        }
    }

    #[test]
    fn contradictions_are_found() {
        settings().check().unwrap();
        let wrong = |change: fn(&mut QemuSettings)| {
            let mut settings = settings();
            change(&mut settings);
            settings.check().unwrap_err().to_string()
        };
        assert!(wrong(|settings| settings.gateway = [10, 251, 0, 1].into()).contains("10.251.0.1"));
        assert!(wrong(|settings| settings.gateway = [10, 250, 0, 101].into()).contains("one of the pool's"));
        assert!(wrong(|settings| settings.prefix_length = 31).contains("31"));
        assert!(wrong(|settings| settings.default_vcpus = 0).contains("CPUs"));
        assert!(wrong(|settings| settings.default_memory_mib = 16).contains("memory"));
    }
}
