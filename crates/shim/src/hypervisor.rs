//! Calls to the adaptor on this node, over the remote hypervisor protocol.
//!
//! Each call dials anew, so an adaptor that restarted meanwhile is found again.

use std::{collections::HashMap, env, path::PathBuf, time::Duration};

use peerpods_proto::{
    hypervisor::{CreateVMRequest, StartVMRequest, StopVMRequest},
    hypervisor_ttrpc::HypervisorClient,
};
use ttrpc::{asynchronous::Client, context};

use crate::error::Error;

/// Where the adaptor listens, unless `REMOTE_HYPERVISOR_ENDPOINT` says otherwise.
const SOCKET: &str = "/run/peerpod/hypervisor.sock";

/// The adaptor only inspects the pod's network and journals the sandbox here.
const CREATE_TIMEOUT: Duration = Duration::from_secs(120);
/// A cloud may take minutes to launch an instance and boot it; Kata's default is the same.
const START_TIMEOUT: Duration = Duration::from_secs(600);
/// The adaptor answers when the end is durably noted, which takes no cloud call.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// An adaptor that is being replaced is back within this time, as a rule.
const STOP_ATTEMPTS: u32 = 5;
const STOP_RETRY_DELAY: Duration = Duration::from_secs(2);

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

    async fn client(&self, action: &'static str) -> Result<HypervisorClient, Error> {
        let client = Client::connect(&self.address).await;
        Ok(HypervisorClient::new(
            client.map_err(|source| Error::Hypervisor { action, source })?,
        ))
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
        let client = self.client(ACTION).await?;
        let response = client
            .create_vm(context::with_duration(CREATE_TIMEOUT), &request)
            .await;
        let response = response.map_err(|source| Error::Hypervisor {
            action: ACTION,
            source,
        })?;
        Ok(response.agentSocketPath.into())
    }

    /// Launches the virtual machine; returns when its agent can be reached.
    pub(crate) async fn start(&self, sandbox: &str) -> Result<(), Error> {
        const ACTION: &str = "start the pod's virtual machine";
        let request = StartVMRequest {
            id: sandbox.to_owned(),
            ..Default::default()
        };
        let client = self.client(ACTION).await?;
        let response = client
            .start_vm(context::with_duration(START_TIMEOUT), &request)
            .await;
        response.map(drop).map_err(|source| Error::Hypervisor {
            action: ACTION,
            source,
        })
    }

    /// Ends the virtual machine. Asking twice, or for one that never started, does no harm.
    pub(crate) async fn stop(&self, sandbox: &str) -> Result<(), Error> {
        let mut attempt = 1;
        loop {
            match self.stop_once(sandbox).await {
                Err(error) if attempt < STOP_ATTEMPTS => {
                    tracing::warn!(
                        attempt,
                        error = error.chain(),
                        "the virtual machine was not stopped yet"
                    );
                    attempt += 1;
                    tokio::time::sleep(STOP_RETRY_DELAY).await;
                }
                result => return result,
            }
        }
    }

    async fn stop_once(&self, sandbox: &str) -> Result<(), Error> {
        const ACTION: &str = "stop the pod's virtual machine";
        let request = StopVMRequest {
            id: sandbox.to_owned(),
            ..Default::default()
        };
        let client = self.client(ACTION).await?;
        let response = client
            .stop_vm(context::with_duration(STOP_TIMEOUT), &request)
            .await;
        response.map(drop).map_err(|source| Error::Hypervisor {
            action: ACTION,
            source,
        })
    }
}
