//! From the kernel's hand-over to a system that can run a pod.

mod modules;
mod mounts;
mod platform;

use std::path::Path;

use peerpods_proto::payload::BootPayload;
use peerpods_tunnel::network;

pub(crate) use self::platform::Platform;
use crate::error::GuestError;

/// The pod's network namespace in the VM; the name is known to stock shims.
pub(crate) const POD_NAMESPACE: &str = "/run/netns/podns";

/// Makes file systems and loads modules; the process's root is then one that containers can pivot away from.
pub(crate) fn prepare() -> Result<Platform, GuestError> {
    mounts::kernel_views()?;
    let platform = Platform::find()?;
    if let Some(group) = platform.module_group() {
        mounts::devices()?;
        modules::load(group)?;
    }
    mounts::switch_root()?;
    Ok(platform)
}

/// Brings up the VM's network, reads what the VM is for, and joins the pod's network.
pub(crate) async fn join_pod(platform: Platform) -> Result<BootPayload, GuestError> {
    network::loopback_up().await?;
    if let Some(link) = platform.link()? {
        network::configure_link(&link).await?;
    }
    let payload = BootPayload::parse(&platform.user_data()?)?;
    let namespace = Path::new(POD_NAMESPACE);
    network::create_namespace(namespace)?;
    network::attach(&payload.forwarder.pod_network, namespace).await?;
    Ok(payload)
}
