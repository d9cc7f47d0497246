//! The adaptor's socket, as stock shims use it.

use std::{collections::HashMap, time::Duration};

use peerpods_proto::{
    hypervisor::{CreateVMRequest, StartVMRequest, StopVMRequest},
    hypervisor_ttrpc::HypervisorClient,
};
use ttrpc::{asynchronous::Client, context};

const SOCKET: &str = "unix:///run/peerpod/hypervisor.sock";

/// One connection.
pub(crate) struct Hypervisor {
    client: HypervisorClient,
}

impl Hypervisor {
    pub(crate) async fn connect() -> Self {
        Self {
            client: HypervisorClient::new(Client::connect(SOCKET).await.unwrap()),
        }
    }

    /// `CreateVM`, without a deadline; the path of the agent's socket.
    pub(crate) async fn create_vm(
        &self,
        id: &str,
        netns: &str,
        annotations: HashMap<String, String>,
    ) -> ttrpc::Result<String> {
        let request = CreateVMRequest {
            id: id.to_owned(),
            networkNamespacePath: netns.to_owned(),
            annotations,
            ..Default::default()
        };
        let created = self.client.create_vm(context::with_timeout(0), &request).await?;
        Ok(created.agentSocketPath)
    }

    /// `StartVM` with the deadline that travels in its request.
    pub(crate) async fn start_vm(&self, id: &str, deadline: Duration) -> ttrpc::Result<()> {
        let request = StartVMRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        let context = context::with_duration(deadline);
        self.client.start_vm(context, &request).await.map(drop)
    }

    /// `StopVM`, with a deadline or without.
    pub(crate) async fn stop_vm(&self, id: &str, deadline: Option<Duration>) -> ttrpc::Result<()> {
        let request = StopVMRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        let context = deadline.map_or_else(|| context::with_timeout(0), context::with_duration);
        self.client.stop_vm(context, &request).await.map(drop)
    }
}

/// The nine annotations that both shims send, with what they put into those that nobody set.
pub(crate) fn annotations(pod: &str) -> HashMap<String, String> {
    let cri = [("sandbox-name", pod), ("sandbox-namespace", "default")]
        .map(|(key, value)| (format!("io.kubernetes.cri.{key}"), value));
    let hypervisor = [
        ("machine_type", ""),
        ("image", ""),
        ("default_vcpus", "0"),
        ("default_memory", "0"),
        ("cc_init_data", ""),
        ("default_gpus", "0"),
        ("default_gpu_model", ""),
    ]
    .map(|(key, value)| (format!("io.katacontainers.config.hypervisor.{key}"), value));
    let all = cri.into_iter().chain(hypervisor);
    all.map(|(key, value)| (key, value.to_owned())).collect()
}
