//! The hypervisor service: what shims call. Long work goes on when a caller goes away.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use peerpods_error::chain;
use peerpods_proto::payload::IpNet;
use peerpods_proto::{
    hypervisor::{
        CreateVMRequest, CreateVMResponse, StartVMRequest, StartVMResponse, StopVMRequest, StopVMResponse,
        VersionRequest, VersionResponse,
    },
    hypervisor_ttrpc::Hypervisor,
};
use peerpods_provider::PodIdentity;
use peerpods_tunnel::{
    channel::{ChannelError, ClientIdentity},
    network::{self, NetworkError},
};
use tracing::{Instrument, Span};
use ttrpc::{Code, asynchronous::TtrpcContext, get_status};

use crate::{
    agent::new_join_secret,
    external_network::ExternalNetwork,
    host::PodDirectories,
    request::{CreateVm, InvalidRequest, sandbox_id},
    sandbox::{self, Plan, Reason, Record, Sandboxes, State, TableError, attempt_now},
};

/// How long StopVM waits to see the VM gone. Its end is durable before, so the answer is a success either way; most
/// VMs are gone sooner, and then nothing is left when the container runtime takes the pod's network down.
const STOP_WAIT: Duration = Duration::from_secs(10);
/// The version of the hypervisor protocol.
const VERSION: &str = "0.0.0";

/// Who this node is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) cluster: String,
    pub(crate) node: String,
    /// The node's address for tunnels; found by the default route where it is not set.
    pub(crate) address: Option<IpNet>,
    pub(crate) vxlan_port: u16,
    pub(crate) external_network: ExternalNetwork,
}

/// The service; a clone is the same.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) sandboxes: Sandboxes,
    pub(crate) directories: PodDirectories,
    pub(crate) identity: Arc<Identity>,
}

/// A request that could not be fulfilled.
#[derive(Debug, thiserror::Error)]
enum ServiceError {
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error("cannot read the pod's network")]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Identity(#[from] ChannelError),
    #[error("cannot make the pod's directory")]
    Directory(#[source] std::io::Error),
    #[error("there is no randomness for a join secret")]
    NoRandomness,
    #[error("the adaptor is ending")]
    Ending,
}

impl From<ServiceError> for ttrpc::Error {
    fn from(error: ServiceError) -> Self {
        let code = match &error {
            ServiceError::Invalid(_) => Code::INVALID_ARGUMENT,
            ServiceError::Table(table) => match table {
                TableError::Unknown(_) => Code::NOT_FOUND,
                TableError::Exists { .. } => Code::ALREADY_EXISTS,
                TableError::NoVni => Code::RESOURCE_EXHAUSTED,
                TableError::Journal(_) => Code::INTERNAL,
                TableError::NoVm(reason) => match reason {
                    Reason::Refused(_) => Code::INVALID_ARGUMENT,
                    Reason::NoCapacity(_) => Code::RESOURCE_EXHAUSTED,
                    Reason::Requested | Reason::Abandoned => Code::FAILED_PRECONDITION,
                    Reason::NotLaunched(_)
                    | Reason::NotBooted(_)
                    | Reason::NotConnected(_)
                    | Reason::Ended(_) => Code::UNAVAILABLE,
                },
            },
            ServiceError::Network(_) | ServiceError::Ending => Code::UNAVAILABLE,
            ServiceError::Identity(_) | ServiceError::Directory(_) | ServiceError::NoRandomness => {
                Code::INTERNAL
            }
        };
        let message = chain(&error);
        tracing::warn!(code = ?code, "refused: {message}");
        ttrpc::Error::RpcStatus(get_status(code, message))
    }
}

impl Service {
    /// Of what is logged for a request about this sandbox.
    fn span(&self, id: &str) -> Span {
        let known = sandbox_id(id).ok().and_then(|id| self.sandboxes.plan(&id));
        known.map_or_else(|| of_unknown(id), |plan| plan.span())
    }

    async fn create(&self, request: CreateVm) -> Result<CreateVMResponse, ServiceError> {
        let answer = CreateVMResponse {
            agentSocketPath: self
                .directories
                .agent_socket(&request.sandbox)
                .to_string_lossy()
                .into_owned(),
            ..Default::default()
        };
        // A caller that lost the answer asks again.
        if let Some(State::Reserved { .. }) = self.sandboxes.state(&request.sandbox) {
            return Ok(answer);
        }
        let place = self.sandboxes.place(&request.sandbox)?;
        let plan = self.plan(request, place.vni).await?;
        let sandbox = plan.sandbox.clone();
        let state = State::Reserved {
            token: plan.launch_token(attempt_now()),
        };
        self.sandboxes.create(place, Record { plan, state }).await?;
        if let Err(source) = self.directories.make(&sandbox) {
            self.sandboxes.stop(&sandbox, Reason::Requested).await;
            return Err(ServiceError::Directory(source));
        }
        self.directories.mark(&sandbox, "create-vm");
        Ok(answer)
    }

    async fn plan(&self, request: CreateVm, vni: u32) -> Result<Plan, ServiceError> {
        let interface = network::inspect(&request.netns).await?;
        let node = match self.identity.address {
            Some(address) => address,
            None => network::node_address().await?,
        };
        let mut network = interface.to_pod_network(node, vni, self.identity.vxlan_port, 0);
        self.identity.external_network.apply(&interface, &mut network);
        Ok(Plan {
            cluster: self.identity.cluster.clone(),
            node: self.identity.node.clone(),
            pod: PodIdentity {
                sandbox: request.sandbox.to_string(),
                pod_namespace: request.pod_namespace,
                pod_name: request.pod_name,
                pod_uid: request.pod_uid,
            },
            shape: request.shape,
            netns: request.netns,
            network,
            identity: ClientIdentity::issue(request.sandbox.as_str())?,
            join_secret: new_join_secret().ok_or(ServiceError::NoRandomness)?,
            sandbox: request.sandbox,
        })
    }

    async fn stop(&self, request: StopVMRequest) -> Result<StopVMResponse, ServiceError> {
        let sandbox = sandbox_id(&request.id)?;
        self.sandboxes.stop(&sandbox, Reason::Requested).await;
        if tokio::time::timeout(STOP_WAIT, self.sandboxes.gone(&sandbox))
            .await
            .is_err()
        {
            tracing::info!("the VM's end goes on");
        }
        Ok(StopVMResponse::default())
    }
}

/// Runs to its end even if the caller does not wait for it; what it logs tells the pod.
async fn detached<T: Send + 'static>(
    span: Span,
    work: impl Future<Output = Result<T, ServiceError>> + Send + 'static,
) -> Result<T, ttrpc::Error> {
    let work = async { work.await.map_err(ttrpc::Error::from) };
    let ended = tokio::spawn(work.instrument(span)).await;
    ended.unwrap_or_else(|_| Err(ServiceError::Ending.into()))
}

/// Of what is logged for a request that names no sandbox that is known.
fn of_unknown(id: &str) -> Span {
    tracing::info_span!("sandbox", ?id)
}

#[async_trait]
impl Hypervisor for Service {
    async fn create_vm(&self, _: &TtrpcContext, request: CreateVMRequest) -> ttrpc::Result<CreateVMResponse> {
        let service = self.clone();
        let parsed = CreateVm::parse(&request);
        let span = match &parsed {
            Ok(create) => sandbox::span(&create.pod_namespace, &create.pod_name, &create.sandbox),
            Err(_) => of_unknown(&request.id),
        };
        detached(span, async move { service.create(parsed?).await }).await
    }

    async fn start_vm(&self, _: &TtrpcContext, request: StartVMRequest) -> ttrpc::Result<StartVMResponse> {
        let service = self.clone();
        detached(self.span(&request.id), async move {
            let sandbox = sandbox_id(&request.id)?;
            service.sandboxes.start(&sandbox).await?;
            Ok(StartVMResponse::default())
        })
        .await
    }

    async fn stop_vm(&self, _: &TtrpcContext, request: StopVMRequest) -> ttrpc::Result<StopVMResponse> {
        let service = self.clone();
        let span = self.span(&request.id);
        detached(span, async move { service.stop(request).await }).await
    }

    async fn version(&self, _: &TtrpcContext, _: VersionRequest) -> ttrpc::Result<VersionResponse> {
        Ok(VersionResponse {
            version: VERSION.to_owned(),
            ..Default::default()
        })
    }
}
