//! Calls to the adaptor on this node, over the remote hypervisor protocol.
//!
//! Each call dials anew, so an adaptor that restarted meanwhile is found again.

use std::{collections::HashMap, env, path::PathBuf, time::Duration};

use peerpods_proto::{
    hypervisor::{CreateVMRequest, StartVMRequest, StopVMRequest},
    hypervisor_ttrpc::HypervisorClient,
    registry_ttrpc::RegistryCredentialsClient,
    registry_wire::{FindRequest, ImageAccess},
};
use tokio::time::{Instant, sleep};
use ttrpc::{asynchronous::Client, context};

use crate::{
    agent::{is_connection_loss, is_unknown_method},
    error::Error,
};

/// Where the adaptor listens, unless `REMOTE_HYPERVISOR_ENDPOINT` says otherwise.
const SOCKET: &str = "/run/peerpod/hypervisor.sock";

/// The adaptor only inspects the pod's network and journals the sandbox here.
const CREATE_TIMEOUT: Duration = Duration::from_secs(120);
/// A cloud may take minutes to launch an instance and boot it; Kata's default is the same.
const START_TIMEOUT: Duration = Duration::from_secs(600);
/// The adaptor answers when the end is durably noted, which takes no cloud call.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// The adaptor asks the API server for a pod and its Secrets, and gives up on each after seconds.
const FIND_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an adaptor may be away while it is replaced: it starts in well under a second, its image may have to be
/// pulled first.
const AWAY_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks whether it is back.
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// The adaptor's socket.
#[derive(Debug, Clone)]
pub(crate) struct Hypervisor {
    address: String,
}

impl Hypervisor {
    pub(crate) fn from_environment() -> Self {
        let socket = env::var_os("REMOTE_HYPERVISOR_ENDPOINT").map_or_else(|| SOCKET.into(), PathBuf::from);
        Self {
            address: format!("unix://{}", socket.display()),
        }
    }

    async fn client(&self, action: &'static str) -> Result<Client, Error> {
        let client = Client::connect(&self.address).await;
        client.map_err(|source| Error::Hypervisor { action, source })
    }

    /// Reserves a virtual machine and returns the path of the agent's socket.
    pub(crate) async fn create(
        &self,
        sandbox: &str,
        annotations: HashMap<String, String>,
        network_namespace: &str,
    ) -> Result<PathBuf, Error> {
        const ACTION: &str = "create a virtual machine for the pod";
        let request = CreateVMRequest {
            id: sandbox.to_owned(),
            annotations,
            networkNamespacePath: network_namespace.to_owned(),
            ..Default::default()
        };
        let response = self
            .call(ACTION, |client| {
                let request = request.clone();
                async move {
                    HypervisorClient::new(client)
                        .create_vm(context::with_duration(CREATE_TIMEOUT), &request)
                        .await
                }
            })
            .await?;
        Ok(response.agentSocketPath.into())
    }

    /// Launches the virtual machine; returns when its agent can be reached.
    pub(crate) async fn start(&self, sandbox: &str) -> Result<(), Error> {
        const ACTION: &str = "start the pod's virtual machine";
        let request = StartVMRequest {
            id: sandbox.to_owned(),
            ..Default::default()
        };
        self.call(ACTION, |client| {
            let request = request.clone();
            async move {
                HypervisorClient::new(client)
                    .start_vm(context::with_duration(START_TIMEOUT), &request)
                    .await
            }
        })
        .await
        .map(drop)
    }

    /// Ends the virtual machine. Asking twice, or for one that never started, does no harm.
    pub(crate) async fn stop(&self, sandbox: &str) -> Result<(), Error> {
        const ACTION: &str = "stop the pod's virtual machine";
        let request = StopVMRequest {
            id: sandbox.to_owned(),
            ..Default::default()
        };
        self.call(ACTION, |client| {
            let request = request.clone();
            async move {
                HypervisorClient::new(client)
                    .stop_vm(context::with_duration(STOP_TIMEOUT), &request)
                    .await
            }
        })
        .await
        .map(drop)
    }

    /// What the sandbox's pod has for the registry of an image; `None` from a stock adaptor, which does not know.
    pub(crate) async fn find_credentials(
        &self,
        sandbox: &str,
        image: &str,
    ) -> Result<Option<ImageAccess>, Error> {
        const ACTION: &str = "look for the image's registry credentials";
        let request = FindRequest {
            sandbox: sandbox.to_owned(),
            image: image.to_owned(),
            ..Default::default()
        };
        let answer = self.call(ACTION, |client| {
            let request = request.clone();
            async move {
                RegistryCredentialsClient::new(client)
                    .find(context::with_duration(FIND_TIMEOUT), &request)
                    .await
            }
        });
        match answer.await {
            Ok(access) => Ok(Some(access)),
            Err(Error::Hypervisor { source, .. }) if is_unknown_method(&source) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a call. An adaptor that goes away has what it was asked for in its journal, and the one that takes its
    /// place goes on with that: asked again, it answers for both.
    async fn call<T, F: Future<Output = ttrpc::Result<T>> + Send>(
        &self,
        action: &'static str,
        request: impl Fn(Client) -> F,
    ) -> Result<T, Error> {
        let mut back_by = Instant::now() + AWAY_LIMIT;
        loop {
            let error = match self.client(action).await {
                Ok(client) => match request(client).await {
                    Ok(response) => return Ok(response),
                    Err(source) if is_connection_loss(&source) => {
                        back_by = Instant::now() + AWAY_LIMIT;
                        Error::Hypervisor { action, source }
                    }
                    Err(source) => return Err(Error::Hypervisor { action, source }),
                },
                Err(error) => error,
            };
            if Instant::now() >= back_by {
                return Err(error);
            }
            tracing::debug!(error = error.chain(), "the adaptor is away; it is asked again");
            sleep(RETRY_DELAY).await;
        }
    }
}
