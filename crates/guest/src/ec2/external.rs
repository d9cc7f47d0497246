//! A pod's way to the outside past its worker: the instance's second network interface.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use peerpods_proto::payload::PodNetwork;
use peerpods_tunnel::network::{
    EthernetDevice, ExternalGuard, ExternalLink, LinkConfig, NetworkError, prohibit_inside, spare_ethernet,
};
use tokio::time::{Instant, sleep};

use super::{
    METADATA_SERVICE, METADATA_SERVICE_IPV6,
    dhcp::{self, DhcpError},
    link_config, only,
};

/// An instance that is launched with two interfaces has both from the beginning; some workers attach the second one to an
/// instance that runs already.
const WAIT_LIMIT: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The pod has no way to the outside.
#[derive(Debug, thiserror::Error)]
pub enum ExternalError {
    /// There is no second interface.
    #[error(
        "the VM has no second network interface for what its pod sends to the outside: unset EXTERNAL_NETWORK_VIA_PODVM, or \
         launch VMs of a type that may have two"
    )]
    NoInterface,
    /// It cannot be used.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// It gets no address.
    #[error("the VM's second network interface gets no address")]
    Dhcp(#[from] DhcpError),
}

/// The second interface in the pod's namespace, where nothing uses it yet.
#[derive(Debug)]
pub struct External {
    link: ExternalLink,
    config: LinkConfig,
    namespace: PathBuf,
}

impl External {
    /// Brings the interface into the pod's namespace, and gets its address there: before the pod has one, which its requests
    /// would come from.
    ///
    /// # Errors
    /// [`ExternalError`]; the VM is then of no use to its pod.
    pub async fn join(namespace: &Path, pod: &PodNetwork) -> Result<Self, ExternalError> {
        let guard = ExternalGuard {
            metadata: METADATA_SERVICE,
            tunnel_port: pod.vxlan_port,
        };
        let link = ExternalLink::make(second_interface().await?, namespace, guard).await?;
        let lease = dhcp::acquire_inside(namespace, link.name(), link.mac()).await?;
        tracing::info!("the pod's address outside is {}/{}", lease.address, lease.prefix);
        Ok(Self {
            link,
            config: link_config(&lease),
            namespace: namespace.to_owned(),
        })
    }

    /// Sends by it what the pod has no other route for, after the pod has joined its own network. The metadata service is not
    /// there: asked for, it is refused at once.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn open(&self, pod: &PodNetwork) -> Result<(), NetworkError> {
        for service in [METADATA_SERVICE.into(), METADATA_SERVICE_IPV6.into()] {
            prohibit_inside(&self.namespace, only(service)).await?;
        }
        self.link.configure(&self.config, pod).await
    }
}

async fn second_interface() -> Result<EthernetDevice, ExternalError> {
    let deadline = Instant::now() + WAIT_LIMIT;
    loop {
        if let Some(device) = spare_ethernet().await? {
            return Ok(device);
        }
        if Instant::now() >= deadline {
            return Err(ExternalError::NoInterface);
        }
        sleep(LOOK_INTERVAL).await;
    }
}
