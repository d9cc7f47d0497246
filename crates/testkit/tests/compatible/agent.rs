//! The agent's socket, as stock shims use it.

use std::{fmt::Debug, time::Duration};

use peerpods_proto::{
    agent::{self as api},
    agent_ttrpc::{AgentServiceClient, HealthClient},
};
use ttrpc::{
    Code,
    asynchronous::Client,
    context::{self, Context},
};

/// What shims allow most requests.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// What shims allow the creation of a container, an image pull included.
const CREATE_LIMIT: Duration = Duration::from_secs(60);

/// One connection to the agent.
#[derive(Clone)]
pub(crate) struct Agent {
    /// The agent's service, for requests that have no method here.
    pub(crate) service: AgentServiceClient,
    health: HealthClient,
}

/// The process that a request means: stock shims write its names in different ways.
#[derive(Clone, Copy)]
pub(crate) struct Process<'a> {
    pub(crate) container: &'a str,
    pub(crate) exec: &'a str,
}

/// `SIGTERM`.
pub(crate) const TERM: u32 = 15;
/// `SIGKILL`.
pub(crate) const KILL: u32 = 9;

impl Agent {
    pub(crate) async fn connect(socket: &str) -> Self {
        let client = Client::connect(&format!("unix://{socket}")).await.unwrap();
        Self {
            service: AgentServiceClient::new(client.clone()),
            health: HealthClient::new(client),
        }
    }

    pub(crate) async fn check(&self) -> ttrpc::Result<api::HealthCheckResponse> {
        self.health.check(soon(), &api::CheckRequest::new()).await
    }

    /// `CreateSandbox` as both shims send it: the lines of a resolv.conf, and the memory for `/dev/shm`.
    pub(crate) async fn create_sandbox(&self, id: &str, hostname: &str) -> ttrpc::Result<()> {
        let shm = api::Storage {
            driver: "ephemeral".to_owned(),
            source: "shm".to_owned(),
            fstype: "tmpfs".to_owned(),
            options: texts(&["noexec", "nosuid", "nodev", "mode=1777", "size=67108864"]),
            mount_point: "/run/kata-containers/sandbox/shm".to_owned(),
            ..Default::default()
        };
        let request = api::CreateSandboxRequest {
            hostname: hostname.to_owned(),
            dns: texts(&["search default.svc.cluster.local", "nameserver 10.96.0.10", ""]),
            storages: vec![shm],
            sandbox_id: id.to_owned(),
            ..Default::default()
        };
        self.service.create_sandbox(soon(), &request).await.map(drop)
    }

    pub(crate) async fn create_container(&self, request: &api::CreateContainerRequest) -> ttrpc::Result<()> {
        let context = context::with_duration(CREATE_LIMIT);
        self.service.create_container(context, request).await.map(drop)
    }

    pub(crate) async fn start_container(&self, container: &str) -> ttrpc::Result<()> {
        let request = api::StartContainerRequest {
            container_id: container.to_owned(),
            ..Default::default()
        };
        self.service.start_container(soon(), &request).await.map(drop)
    }

    pub(crate) async fn remove_container(&self, container: &str) -> ttrpc::Result<()> {
        let request = api::RemoveContainerRequest {
            container_id: container.to_owned(),
            ..Default::default()
        };
        self.service.remove_container(soon(), &request).await.map(drop)
    }

    pub(crate) async fn signal(&self, process: Process<'_>, signal: u32) -> ttrpc::Result<()> {
        let request = api::SignalProcessRequest {
            container_id: process.container.to_owned(),
            exec_id: process.exec.to_owned(),
            signal,
            ..Default::default()
        };
        self.service.signal_process(soon(), &request).await.map(drop)
    }

    /// `WaitProcess`, which has no deadline.
    pub(crate) async fn wait(&self, process: Process<'_>) -> ttrpc::Result<i32> {
        let request = api::WaitProcessRequest {
            container_id: process.container.to_owned(),
            exec_id: process.exec.to_owned(),
            ..Default::default()
        };
        let ended = self.service.wait_process(for_ever(), &request).await?;
        Ok(ended.status)
    }

    /// `WriteStdin`; without bytes it is the Rust shim's end of input.
    pub(crate) async fn write(&self, process: Process<'_>, data: &str) -> ttrpc::Result<u32> {
        let request = api::WriteStreamRequest {
            container_id: process.container.to_owned(),
            exec_id: process.exec.to_owned(),
            data: data.into(),
            ..Default::default()
        };
        let written = self.service.write_stdin(for_ever(), &request).await?;
        Ok(written.len)
    }

    /// `ReadStdout` until it gives nothing.
    pub(crate) async fn stdout(&self, process: Process<'_>) -> String {
        let (request, mut all) = (read_request(process), Vec::new());
        loop {
            let read = self.service.read_stdout(for_ever(), &request).await.unwrap();
            if read.data.is_empty() {
                return String::from_utf8(all).unwrap();
            }
            all.extend(read.data);
        }
    }

    /// `ReadStderr` until it gives nothing.
    pub(crate) async fn stderr(&self, process: Process<'_>) -> String {
        let (request, mut all) = (read_request(process), Vec::new());
        loop {
            let read = self.service.read_stderr(for_ever(), &request).await.unwrap();
            if read.data.is_empty() {
                return String::from_utf8(all).unwrap();
            }
            all.extend(read.data);
        }
    }

    /// `GetDiagnosticData` for the termination message.
    pub(crate) async fn termination_message(&self, container: &str) -> ttrpc::Result<String> {
        let request = api::GetDiagnosticDataRequest {
            log_type: "termination_log".to_owned(),
            container_id: container.to_owned(),
            ..Default::default()
        };
        let found = self.service.get_diagnostic_data(soon(), &request).await?;
        Ok(found.data)
    }
}

fn read_request(process: Process<'_>) -> api::ReadStreamRequest {
    api::ReadStreamRequest {
        container_id: process.container.to_owned(),
        exec_id: process.exec.to_owned(),
        // The Rust shim's copies have this size; the Go shim's have four times as much.
        len: 8192,
        ..Default::default()
    }
}

/// The deadline of most requests.
pub(crate) fn soon() -> Context {
    context::with_duration(REQUEST_LIMIT)
}

/// Requests that last as long as a process or a pod.
pub(crate) fn for_ever() -> Context {
    context::with_timeout(0)
}

/// The status code of a refusal.
#[track_caller]
pub(crate) fn code<T: Debug>(answer: ttrpc::Result<T>) -> Code {
    match answer {
        Err(ttrpc::Error::RpcStatus(status)) => status.code(),
        other => panic!("no refusal: {other:?}"),
    }
}

pub(crate) fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}
