//! The worker's end of a pod's tunnel.

use std::{
    net::IpAddr,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use super::{
    NetworkError, TUNNEL_NAME,
    netlink::{Netlink, device},
};

/// What the tunnel of one pod needs to be known; the same values attach and detach it, in any order, any number of times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerTunnel {
    /// The pod's network namespace.
    pub netns: PathBuf,
    /// The CNI's interface there.
    pub pod_interface: String,
    /// The tunnel's VNI, unique on the node.
    pub vni: u32,
    /// The tunnel's UDP port.
    pub port: u16,
    /// The VM's address.
    pub remote: IpAddr,
}

impl WorkerTunnel {
    /// Connects the pod's interface with the VM. What is there already stays; what a crash left half-made is completed.
    ///
    /// # Errors
    /// [`NetworkError`]; nothing that was made is lost: [`WorkerTunnel::detach`] finds it.
    pub async fn attach(&self) -> Result<(), NetworkError> {
        let pod = Netlink::inside(&self.netns)?;
        let interface = pod.link(&self.pod_interface).await?;
        let interface = interface.ok_or_else(|| NetworkError::NoPodInterface(self.netns.clone()))?;
        if pod.link(TUNNEL_NAME).await?.is_none() {
            self.make_device().await?;
        }
        let missing = || NetworkError::Protocol {
            action: "find the device",
            subject: TUNNEL_NAME.to_owned(),
            cause: "it was made and is gone".to_owned(),
        };
        let tunnel = pod.link(TUNNEL_NAME).await?.ok_or_else(missing)?;
        pod.have_no_addresses(&tunnel).await?;
        let change = device(tunnel.index).mtu(interface.mtu).up();
        pod.change(TUNNEL_NAME, "start the device", change).await?;
        pod.redirect(&interface, &tunnel).await?;
        pod.redirect(&tunnel, &interface).await
    }

    /// Undoes [`WorkerTunnel::attach`], whatever of it there is; a namespace that is gone took its part with it.
    ///
    /// # Errors
    /// [`NetworkError`]: something is left; the same call can be made again.
    pub async fn detach(&self) -> Result<(), NetworkError> {
        self.remove_unmoved(&Netlink::here()?).await?;
        if !is_namespace(&self.netns) {
            return Ok(());
        }
        let pod = Netlink::inside(&self.netns)?;
        if let Some(interface) = pod.link(&self.pod_interface).await? {
            pod.end_redirect(&interface).await?;
        }
        match pod.link(TUNNEL_NAME).await? {
            Some(tunnel) => pod.delete_link(tunnel.index, TUNNEL_NAME).await,
            None => Ok(()),
        }
    }

    /// Makes the device on the node, where its UDP side stays, and moves it into the pod's namespace.
    async fn make_device(&self) -> Result<(), NetworkError> {
        let node = Netlink::here()?;
        self.remove_unmoved(&node).await?;
        let name = self.unmoved_name();
        let made = node.add_vxlan(&name, self.vni, self.port, self.remote).await?;
        let namespace = std::fs::File::open(&self.netns).map_err(|source| NetworkError::Namespace {
            path: self.netns.clone(),
            source,
        })?;
        let change = device(made.index)
            .name(TUNNEL_NAME)
            .setns_by_fd(namespace.as_raw_fd());
        node.change(&name, "move into the pod's namespace the device", change)
            .await
    }

    /// Removes what a crash left between making and moving.
    async fn remove_unmoved(&self, node: &Netlink) -> Result<(), NetworkError> {
        let name = self.unmoved_name();
        match node.link(&name).await? {
            Some(left) => node.delete_link(left.index, &name).await,
            None => Ok(()),
        }
    }

    /// The device's name until it is moved: 15 characters at most, as the kernel demands.
    fn unmoved_name(&self) -> String {
        format!("ppvxlan{}", self.vni)
    }
}

/// Whether a namespace is mounted there: an empty file is what remains of one.
pub fn is_namespace(path: &Path) -> bool {
    let inside = rustix::fs::statfs(path);
    inside.is_ok_and(|statistics| statistics.f_type == NSFS_MAGIC)
}

/// NSFS_MAGIC of linux/magic.h.
const NSFS_MAGIC: rustix::fs::FsWord = 0x6e73_6673;
