//! What the drivers have done, for real: the provider, the node's network and the pod directories.

mod interruption;
mod orphans;
mod pod_directory;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use peerpods_error::chain;
use peerpods_proto::payload::{
    BootPayload, ForwarderConfig, GuestSettings, InstanceMetadata, ScratchEncryption,
};
use peerpods_provider::{Instance, LaunchRequest, LaunchToken, Provider};
use peerpods_tunnel::{
    channel::{self, Connection, ServerKeyPin},
    network::WorkerTunnel,
};
use tokio::time::timeout;
use zeroize::Zeroizing;

use self::interruption::Announcement;
pub(crate) use self::orphans::end_orphans;
pub(crate) use self::pod_directory::PodDirectories;
use crate::{
    agent::{self, Credentials},
    kubernetes::Cluster,
    launch::launch_within,
    peer_pods::{PeerPods, Shown},
    relay::Relay,
    retry::Pauses,
    sandbox::{Effects, Limits, Plan, Reason},
    warm::{Pool, Turn, WarmVm},
};

/// EC2's limit for a name tag is longer; this is what fits a host name.
const NAME_LIMIT: usize = 63;

/// What every VM of this node is told.
#[derive(Clone, Debug)]
pub(crate) struct GuestDefaults {
    pub(crate) lease: Duration,
    pub(crate) insecure_registries: Vec<String>,
    pub(crate) scratch_encryption: ScratchEncryption,
    pub(crate) instance_metadata: InstanceMetadata,
    pub(crate) agent_port: u16,
}

/// This node.
pub(crate) struct Node {
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) directories: PodDirectories,
    pub(crate) guest: GuestDefaults,
    pub(crate) limits: Limits,
    pub(crate) pool: Pool,
    /// What the cluster sees of the VMs, where it is to see something.
    pub(crate) peer_pods: Option<PeerPods>,
    /// Where pods are told of what comes over their VMs.
    pub(crate) cluster: Cluster,
}

#[async_trait]
impl Effects for Node {
    fn take_warm(&self, plan: &Plan) -> Option<WarmVm> {
        self.pool.take(&plan.shape)
    }

    fn is_crowded(&self) -> bool {
        self.pool.is_crowded()
    }

    async fn queue(&self, plan: &Plan) -> Result<Turn, Reason> {
        self.pool.queue(&plan.shape).await
    }

    async fn claim(&self, plan: &Plan, warm: &WarmVm) -> Result<(), String> {
        self.directories.mark(&plan.sandbox, "start-vm");
        self.announce(plan).await;
        let payload = self.payload(plan).map_err(|reason| reason.to_string())?;
        let name = name(plan);
        let bound = self.provider.claim(&warm.instance.id, &plan.pod, &name);
        match timeout(self.limits.launch, bound).await {
            Ok(bound) => bound.map_err(|error| chain(&error))?,
            Err(_) => {
                return Err(format!(
                    "the provider did not answer within {:?}",
                    self.limits.launch
                ));
            }
        }
        let connection = warm.connection(self.guest.agent_port);
        if let Err(error) = channel::claim(&connection, &payload).await {
            // Its answer was lost, now or to an adaptor that was killed; who knows the pod's secret has taken the claim.
            let joined = channel::join(connection.address, &plan.identity, &plan.join_secret).await;
            joined.map_err(|_| chain(&error))?;
        }
        self.directories.mark(&plan.sandbox, "instance-claimed");
        Ok(())
    }

    async fn discard(&self, _: &Plan, warm: &WarmVm) {
        let mut pauses = Pauses::new(&self.limits);
        while let Err(error) = self.provider.terminate(&warm.instance.id).await {
            tracing::warn!(error = chain(&error), "the warm VM's end is tried again");
            pauses.next_unbounded().await;
        }
    }

    async fn launch(&self, plan: &Plan, token: &LaunchToken) -> Result<Instance, Reason> {
        self.directories.mark(&plan.sandbox, "start-vm");
        self.announce(plan).await;
        let request = self.request(plan, token)?;
        let launched = launch_within(&self.limits, || self.provider.launch(&request)).await?;
        self.directories.mark(&plan.sandbox, "instance-launched");
        Ok(launched)
    }

    async fn join(&self, plan: &Plan, instance: &Instance) -> Result<ServerKeyPin, Reason> {
        self.show(plan, Shown::Booting(instance.clone()));
        let tunnel = tunnel(plan, instance)?;
        tunnel
            .attach()
            .await
            .map_err(|error| Reason::NotConnected(chain(&error)))?;
        let server_key = self.meet(plan, instance).await?;
        self.directories.mark(&plan.sandbox, "agent-answers");
        Ok(server_key)
    }

    async fn serve(
        &self,
        plan: &Plan,
        instance: &Instance,
        server_key: ServerKeyPin,
        reachable: Box<dyn FnOnce() + Send>,
    ) -> Reason {
        let opened = self.open(plan, instance, server_key).await;
        let _relay = match opened {
            Ok(relay) => relay,
            Err(reason) => return reason,
        };
        self.directories.mark(&plan.sandbox, "vm-ready");
        self.show(plan, Shown::Ready(instance.clone()));
        reachable();
        let reason = self.watch(plan, instance).await;
        // Shims are told before what they hold of the VM is taken away.
        self.directories.tell_end(&plan.sandbox, &reason.to_string());
        reason
    }

    async fn drain(&self, plan: &Plan, token: &LaunchToken, instance: Option<&Instance>) {
        if let Some(peer_pods) = &self.peer_pods {
            peer_pods.show_end(plan, instance);
        }
        let mut pauses = Pauses::new(&self.limits);
        while let Err(error) = self.try_drain(plan, token, instance).await {
            tracing::warn!(error, "the VM's end is tried again");
            pauses.next_unbounded().await;
        }
    }
}

impl Node {
    /// Before anything is launched or claimed the cluster sees it, where there is something to see it with.
    async fn announce(&self, plan: &Plan) {
        if let Some(peer_pods) = &self.peer_pods {
            peer_pods.announce(plan).await;
        }
    }

    fn show(&self, plan: &Plan, shown: Shown) {
        if let Some(peer_pods) = &self.peer_pods {
            peer_pods.show(plan, shown);
        }
    }

    /// Waits for the agent of a VM that boots.
    async fn meet(&self, plan: &Plan, instance: &Instance) -> Result<ServerKeyPin, Reason> {
        let credentials = Credentials {
            identity: &plan.identity,
            join_secret: &plan.join_secret,
        };
        let (port, limit) = (self.guest.agent_port, self.limits.boot);
        let announcement = Announcement::default();
        let met = tokio::select! {
            // Of an end at the same moment it is the cause.
            biased;
            never = self.pass_interruption_on(plan, instance, &announcement) => match never {},
            met = agent::await_join(self.provider.as_ref(), instance, port, credentials, limit) => met,
        };
        met.map_err(|reason| announcement.explain(reason))
    }

    /// Waits for the end of a VM that serves.
    async fn watch(&self, plan: &Plan, instance: &Instance) -> Reason {
        let announcement = Announcement::default();
        let reason = tokio::select! {
            biased;
            never = self.pass_interruption_on(plan, instance, &announcement) => match never {},
            reason = agent::await_death(self.provider.as_ref(), instance) => reason,
        };
        announcement.explain(reason)
    }

    /// Tunnel up, connection file written, socket for stock shims open.
    async fn open(
        &self,
        plan: &Plan,
        instance: &Instance,
        server_key: ServerKeyPin,
    ) -> Result<Relay, Reason> {
        // After a restart of the node's network, or of the adaptor in the middle of it, something may be missing.
        let tunnel = tunnel(plan, instance)?;
        tunnel
            .attach()
            .await
            .map_err(|error| Reason::NotConnected(chain(&error)))?;
        let connection = Connection {
            address: agent::address(instance, self.guest.agent_port),
            server_key,
            client_certificate_pem: plan.identity.certificate_pem.clone(),
            client_key_pem: plan.identity.key_pem.clone(),
        };
        let unusable = |error: &dyn std::error::Error| Reason::NotConnected(chain(error));
        self.directories
            .make(&plan.sandbox)
            .map_err(|error| unusable(&error))?;
        connection
            .write(&self.directories.connection_file(&plan.sandbox))
            .map_err(|error| unusable(&error))?;
        Relay::open(&self.directories.agent_socket(&plan.sandbox), connection)
            .map_err(|error| unusable(&error))
    }

    async fn try_drain(
        &self,
        plan: &Plan,
        token: &LaunchToken,
        instance: Option<&Instance>,
    ) -> Result<(), String> {
        if let Some(instance) = instance {
            self.provider
                .terminate(&instance.id)
                .await
                .map_err(|error| chain(&error))?;
        }
        // What was launched without an answer is found by its token.
        if let Some(found) = self.provider.find(token).await.map_err(|error| chain(&error))? {
            self.provider
                .terminate(&found.id)
                .await
                .map_err(|error| chain(&error))?;
        }
        let tunnel = worker_tunnel(plan, std::net::Ipv4Addr::UNSPECIFIED.into());
        tunnel.detach().await.map_err(|error| chain(&error))?;
        self.directories
            .remove(&plan.sandbox)
            .map_err(|error| chain(&error))?;
        // Last: the sandbox's record goes next, and the object must not be forgotten with it.
        match &self.peer_pods {
            Some(peer_pods) => peer_pods.release(plan).await.map_err(|error| chain(&error)),
            None => Ok(()),
        }
    }

    /// All that the pod's guest is told.
    fn payload(&self, plan: &Plan) -> Result<Zeroizing<Vec<u8>>, Reason> {
        let payload = BootPayload {
            forwarder: ForwarderConfig {
                pod_network: plan.network.clone(),
                pod_namespace: plan.pod.pod_namespace.clone(),
                pod_name: plan.pod.pod_name.clone(),
                tls_client_ca: Some(plan.identity.authority_pem.clone()),
                tls_server_key: None,
                tls_server_cert: None,
            },
            settings: Some(GuestSettings {
                join_secret: plan.join_secret.clone(),
                lease: self.guest.lease,
                insecure_registries: self.guest.insecure_registries.clone(),
                scratch_encryption: self.guest.scratch_encryption,
                instance_metadata: self.guest.instance_metadata,
            }),
        };
        let rendered = payload.render().map_err(|error| Reason::Refused(chain(&error)))?;
        Ok(Zeroizing::new(rendered.as_bytes().to_vec()))
    }

    fn request(&self, plan: &Plan, token: &LaunchToken) -> Result<LaunchRequest, Reason> {
        Ok(LaunchRequest {
            token: token.clone(),
            owner: plan.owner(),
            shape: plan.shape.clone(),
            name: name(plan),
            tags: std::collections::BTreeMap::new(),
            payload: self.payload(plan)?,
        })
    }
}

/// `podvm-POD-SANDBOX`, as today's peer pods are named.
fn name(plan: &Plan) -> String {
    let short: String = plan.sandbox.as_str().chars().take(8).collect();
    let room = NAME_LIMIT - "podvm--".len() - short.len();
    let pod: String = plan.pod.pod_name.chars().take(room).collect();
    format!("podvm-{pod}-{short}")
}

fn tunnel(plan: &Plan, instance: &Instance) -> Result<WorkerTunnel, Reason> {
    let remote = instance.addresses.first().copied();
    let remote =
        remote.ok_or_else(|| Reason::NotLaunched(format!("instance {} has no address", instance.id)))?;
    Ok(worker_tunnel(plan, remote))
}

fn worker_tunnel(plan: &Plan, remote: std::net::IpAddr) -> WorkerTunnel {
    WorkerTunnel {
        netns: PathBuf::from(&plan.netns),
        pod_interface: plan.network.interface.clone(),
        vni: plan.network.vxlan_id,
        port: plan.network.vxlan_port,
        remote,
    }
}

#[cfg(test)]
mod tests;
