//! From the kernel's hand-over to a system that can run a pod.

mod modules;
mod mounts;
mod platform;
mod template;
mod unsafe_reseed;

use std::path::Path;

use peerpods_proto::payload::{PodNetwork, UserData};
use peerpods_tunnel::network;

pub(crate) use self::{
    modules::load as load_modules,
    platform::Platform,
    template::{RESUMED_ARGUMENT, hold},
};
use crate::{
    ec2::{self, external::External},
    error::GuestError,
};

/// The kernel modules that every platform needs.
const COMMON_MODULES: &str = "common";
/// The kernel modules that guard a pod's own way to the outside.
const EXTERNAL_MODULES: &str = "external";
/// The pod's network namespace in the VM; the name is known to stock shims.
pub(crate) const POD_NAMESPACE: &str = "/run/netns/podns";

/// Makes file systems and loads modules; the process's root is then one that containers can pivot away from.
pub(crate) fn prepare() -> Result<Platform, GuestError> {
    mounts::kernel_views()?;
    let platform = Platform::find()?;
    if let Some(group) = platform.module_group() {
        mounts::devices()?;
        modules::load(group)?;
        modules::load(COMMON_MODULES)?;
    }
    mounts::switch_root()?;
    Ok(platform)
}

/// Brings up the VM's network and reads what the VM is for.
pub(crate) async fn read_user_data(platform: Platform) -> Result<UserData, GuestError> {
    network::loopback_up().await?;
    let user_data = match platform.files() {
        Some(files) => {
            network::configure_link(&files.link()?).await?;
            files.user_data()?
        }
        None => ec2::read_user_data().await?,
    };
    Ok(UserData::parse(&user_data)?)
}

/// Makes the pod's network namespace, and joins the pod's network with it. What fails here fails the pod.
pub(crate) async fn join_pod(platform: Platform, pod: &PodNetwork) -> Result<(), GuestError> {
    let namespace = Path::new(POD_NAMESPACE);
    network::create_namespace(namespace)?;
    if !pod.external_net_via_pod_vm {
        return Ok(network::attach(pod, namespace).await?);
    }
    if platform.module_group().is_some() {
        modules::load(EXTERNAL_MODULES)?;
    }
    let external = External::join(namespace, pod).await?;
    network::attach(pod, namespace).await?;
    Ok(external.open(pod).await?)
}
