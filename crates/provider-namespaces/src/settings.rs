//! Where guests run on this node.

use std::{net::Ipv4Addr, path::PathBuf};

use peerpods_provider::{AddressPool, ProviderError};

/// Everything that [`crate::NamespacesProvider`] needs to know about its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespacesSettings {
    /// One directory per instance goes here; on a file system that forgets at reboot, as the processes do.
    pub state_dir: PathBuf,
    /// One group per instance goes into this control group of version 2; it must exist.
    pub cgroup: PathBuf,
    /// The guest program, static.
    pub guest: PathBuf,
    /// The program `peerpods-namespaces-launcher`.
    pub launcher: PathBuf,
    /// The bridge that guests' network devices join; it must exist.
    pub bridge: String,
    /// The addresses that guests get.
    pub pool: AddressPool,
    /// The length of the pool's network prefix.
    pub prefix_length: u8,
    /// The guests' default route.
    pub gateway: Ipv4Addr,
    /// The largest packet on the bridge.
    pub mtu: u32,
}

impl NamespacesSettings {
    /// Finds what cannot work before the first pod does.
    pub(crate) fn check(&self) -> Result<(), ProviderError> {
        let invalid = |message: String| Err(ProviderError::InvalidRequest(message));
        if !self.cgroup.join("cgroup.procs").exists() {
            return invalid(format!(
                "{} is no control group of version 2",
                self.cgroup.display()
            ));
        }
        for program in [&self.guest, &self.launcher] {
            if !program.is_file() {
                return invalid(format!("there is no program {}", program.display()));
            }
        }
        if self.pool.contains(self.gateway) {
            return invalid(format!(
                "the gateway {} is one of the pool's addresses {}",
                self.gateway, self.pool
            ));
        }
        Ok(())
    }
}
