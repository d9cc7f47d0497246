//! The agent in the pod's virtual machine: its clients, with a deadline for every call that has one.

use std::{future::Future, path::Path, time::Duration};

use peerpods_proto::{
    agent::{self as api, CheckRequest},
    agent_ttrpc::{AgentServiceClient, HealthClient},
    registry_ttrpc::ImageCredentialsClient,
    registry_wire::{ImageAccess, OfferRequest},
    statistics::AwaitChangeRequest,
    statistics_ttrpc::StatisticsClient,
};
use peerpods_tunnel::channel::{self, CONNECTION_FILE, Connection};
use ttrpc::{
    Code,
    asynchronous::{Client, transport::Socket},
    context::{self, Context},
};

use crate::error::Error;

/// Calls that only touch the guest's kernel.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Creating a container pulls its image, which for a large one takes as long as a node's pull would.
const CREATE_CONTAINER_TIMEOUT: Duration = Duration::from_secs(1200);
/// How long an agent that has just come up may need for its first connection.
const CONNECT_TIME: Duration = Duration::from_secs(30);
const CONNECT_RETRY_DELAY: Duration = Duration::from_millis(200);
/// An agent that shuts the machine down may never answer.
const DESTROY_TIMEOUT: Duration = Duration::from_secs(5);
/// The guest answers within half a minute.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// The means to dial the machine, if our adaptor left them; a stock one does not.
pub(crate) fn means_to_dial(pod_directory: &Path) -> Result<Option<Connection>, Error> {
    let file = pod_directory.join(CONNECTION_FILE);
    if !file.exists() {
        return Ok(None);
    }
    Connection::read(&file).map(Some).map_err(Error::Channel)
}

/// What one call needs: unlimited for calls that block as long as a process lives.
#[derive(Debug, Clone, Copy)]
enum Deadline {
    None,
    Within(Duration),
}

impl Deadline {
    fn context(self) -> Context {
        match self {
            Self::None => context::with_timeout(0),
            Self::Within(duration) => context::with_duration(duration),
        }
    }
}

/// A connection to the agent; clones share it.
#[derive(Clone)]
pub(crate) struct Agent {
    service: AgentServiceClient,
    health: HealthClient,
    credentials: ImageCredentialsClient,
    statistics: StatisticsClient,
}

/// What became of a wait for other figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// There may be others now.
    Awaited,
    /// The agent does not tell of changes.
    Untold,
}

/// Names one process of the guest: an empty `exec` is the container's first process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessId {
    pub(crate) container: String,
    pub(crate) exec: String,
}

impl std::fmt::Display for ProcessId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.exec.as_str() {
            "" => formatter.write_str(&self.container),
            exec => write!(formatter, "{} in {}", exec, self.container),
        }
    }
}

/// One of the two output streams of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    Stdout,
    Stderr,
}

impl Agent {
    /// Dials the machine itself where there are the means to, else the socket that the adaptor serves.
    pub(crate) async fn connect(connection: Option<&Connection>, socket: &Path) -> Result<Self, Error> {
        let client = if let Some(connection) = connection {
            let stream =
                retry(|| async { channel::connect(connection).await.map_err(Error::Channel) }).await?;
            Client::new(Socket::new(stream))
        } else {
            let address = format!("unix://{}", socket.display());
            retry(|| async {
                let connected = Client::connect(&address).await;
                connected.map_err(|source| Error::Agent {
                    action: format!("be reached at {address}"),
                    source,
                })
            })
            .await?
        };
        Ok(Self {
            service: AgentServiceClient::new(client.clone()),
            health: HealthClient::new(client.clone()),
            credentials: ImageCredentialsClient::new(client.clone()),
            statistics: StatisticsClient::new(client),
        })
    }

    pub(crate) async fn check(&self, within: Duration) -> Result<(), ttrpc::Error> {
        self.health
            .check(Deadline::Within(within).context(), &CheckRequest::new())
            .await
            .map(drop)
    }

    pub(crate) async fn create_sandbox(&self, request: api::CreateSandboxRequest) -> Result<(), Error> {
        let reply = self
            .service
            .create_sandbox(Deadline::Within(CALL_TIMEOUT).context(), &request)
            .await;
        done("set up the sandbox", reply).map(drop)
    }

    /// The last call: a machine that belongs to the sandbox powers off.
    pub(crate) async fn destroy_sandbox(&self) -> Result<(), Error> {
        let request = api::DestroySandboxRequest::new();
        let reply = self
            .service
            .destroy_sandbox(Deadline::Within(DESTROY_TIMEOUT).context(), &request)
            .await;
        done("end the sandbox", reply).map(drop)
    }

    pub(crate) async fn copy_file(&self, request: &api::CopyFileRequest) -> Result<(), Error> {
        let reply = self
            .service
            .copy_file(Deadline::Within(CALL_TIMEOUT).context(), request)
            .await;
        done(format!("store {}", request.path), reply).map(drop)
    }

    /// Gives the guest what a container's image is to be pulled with. A stock guest does not take it.
    pub(crate) async fn offer_credentials(&self, id: &str, access: ImageAccess) -> Result<(), Error> {
        let request = OfferRequest {
            container_id: id.to_owned(),
            access: Some(access).into(),
            ..Default::default()
        };
        let deadline = Deadline::Within(CALL_TIMEOUT);
        match self.credentials.offer(deadline.context(), &request).await {
            Err(error) if is_unknown_method(&error) => Ok(()),
            reply => done("take the image's registry credentials", reply).map(drop),
        }
    }

    pub(crate) async fn create_container(
        &self,
        name: &str,
        request: api::CreateContainerRequest,
    ) -> Result<(), Error> {
        let deadline = Deadline::Within(CREATE_CONTAINER_TIMEOUT);
        let reply = self.service.create_container(deadline.context(), &request).await;
        done(format!("create container {name}"), reply).map(drop)
    }

    pub(crate) async fn start_container(&self, id: &str) -> Result<(), Error> {
        let request = api::StartContainerRequest {
            container_id: id.to_owned(),
            ..Default::default()
        };
        let reply = self
            .service
            .start_container(Deadline::Within(CALL_TIMEOUT).context(), &request)
            .await;
        done("start the container", reply).map(drop)
    }

    pub(crate) async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let request = api::RemoveContainerRequest {
            container_id: id.to_owned(),
            ..Default::default()
        };
        let reply = self
            .service
            .remove_container(Deadline::Within(CALL_TIMEOUT).context(), &request)
            .await;
        done("remove the container", reply).map(drop)
    }

    pub(crate) async fn exec(
        &self,
        id: &ProcessId,
        process: peerpods_proto::oci::Process,
    ) -> Result<(), Error> {
        let request = api::ExecProcessRequest {
            container_id: id.container.clone(),
            exec_id: id.exec.clone(),
            process: Some(process).into(),
            ..Default::default()
        };
        let reply = self
            .service
            .exec_process(Deadline::Within(CALL_TIMEOUT).context(), &request)
            .await;
        done("start a process in the container", reply).map(drop)
    }

    pub(crate) async fn signal(&self, id: &ProcessId, signal: u32) -> Result<(), Error> {
        let request = api::SignalProcessRequest {
            container_id: id.container.clone(),
            exec_id: id.exec.clone(),
            signal,
            ..Default::default()
        };
        let reply = self
            .service
            .signal_process(Deadline::Within(CALL_TIMEOUT).context(), &request)
            .await;
        done(format!("send signal {signal} to {id}"), reply).map(drop)
    }

    /// Blocks until the process has ended.
    pub(crate) async fn wait(&self, id: &ProcessId) -> Result<i32, ttrpc::Error> {
        let request = api::WaitProcessRequest {
            container_id: id.container.clone(),
            exec_id: id.exec.clone(),
            ..Default::default()
        };
        Ok(self
            .service
            .wait_process(Deadline::None.context(), &request)
            .await?
            .status)
    }

    /// Blocks until there is output; empty output is the end of the stream.
    pub(crate) async fn read(
        &self,
        id: &ProcessId,
        from: Output,
        size: u32,
    ) -> Result<Vec<u8>, ttrpc::Error> {
        let request = api::ReadStreamRequest {
            container_id: id.container.clone(),
            exec_id: id.exec.clone(),
            len: size,
            ..Default::default()
        };
        let context = Deadline::None.context();
        let reply = match from {
            Output::Stdout => self.service.read_stdout(context, &request).await?,
            Output::Stderr => self.service.read_stderr(context, &request).await?,
        };
        Ok(reply.data)
    }

    /// Blocks while the process does not take its input.
    pub(crate) async fn write(&self, id: &ProcessId, data: Vec<u8>) -> Result<usize, ttrpc::Error> {
        let request = api::WriteStreamRequest {
            container_id: id.container.clone(),
            exec_id: id.exec.clone(),
            data,
            ..Default::default()
        };
        let reply = self
            .service
            .write_stdin(Deadline::None.context(), &request)
            .await?;
        Ok(usize::try_from(reply.len).unwrap_or(usize::MAX))
    }

    pub(crate) async fn close_stdin(&self, id: &ProcessId) -> Result<(), Error> {
        let request = api::CloseStdinRequest {
            container_id: id.container.clone(),
            exec_id: id.exec.clone(),
            ..Default::default()
        };
        let reply = self
            .service
            .close_stdin(Deadline::Within(CALL_TIMEOUT).context(), &request)
            .await;
        done("close a process's input", reply).map(drop)
    }

    pub(crate) async fn resize(&self, id: &ProcessId, width: u32, height: u32) -> Result<(), Error> {
        let request = api::TtyWinResizeRequest {
            container_id: id.container.clone(),
            exec_id: id.exec.clone(),
            row: height,
            column: width,
            ..Default::default()
        };
        let reply = self
            .service
            .tty_win_resize(Deadline::Within(CALL_TIMEOUT).context(), &request)
            .await;
        done("resize a terminal", reply).map(drop)
    }

    pub(crate) async fn update(
        &self,
        id: &str,
        resources: peerpods_proto::oci::LinuxResources,
    ) -> Result<(), Error> {
        let request = api::UpdateContainerRequest {
            container_id: id.to_owned(),
            resources: Some(resources).into(),
            ..Default::default()
        };
        let reply = self
            .service
            .update_container(Deadline::Within(CALL_TIMEOUT).context(), &request)
            .await;
        done("change the container's resources", reply).map(drop)
    }

    pub(crate) async fn pause(&self, id: &str) -> Result<(), Error> {
        let request = api::PauseContainerRequest {
            container_id: id.to_owned(),
            ..Default::default()
        };
        let reply = self
            .service
            .pause_container(Deadline::Within(CALL_TIMEOUT).context(), &request)
            .await;
        done("pause the container", reply).map(drop)
    }

    pub(crate) async fn resume(&self, id: &str) -> Result<(), Error> {
        let request = api::ResumeContainerRequest {
            container_id: id.to_owned(),
            ..Default::default()
        };
        let reply = self
            .service
            .resume_container(Deadline::Within(CALL_TIMEOUT).context(), &request)
            .await;
        done("resume the container", reply).map(drop)
    }

    pub(crate) async fn stats(&self, id: &str) -> Result<api::StatsContainerResponse, Error> {
        let request = api::StatsContainerRequest {
            container_id: id.to_owned(),
            ..Default::default()
        };
        let reply = self
            .service
            .stats_container(Deadline::Within(CALL_TIMEOUT).context(), &request)
            .await;
        done("measure the container", reply)
    }

    /// Blocks until the container's figures are not the known ones any more, for half a minute at most.
    pub(crate) async fn await_change(&self, id: &str, known: &api::StatsContainerResponse) -> Change {
        let request = AwaitChangeRequest {
            container_id: id.to_owned(),
            known: Some(known.clone()).into(),
            ..Default::default()
        };
        let deadline = Deadline::Within(CHANGE_TIMEOUT);
        match self.statistics.await_change(deadline.context(), &request).await {
            // An agent of Kata's knows no such request.
            Err(error) if is_unknown_method(&error) => Change::Untold,
            // Whatever else it was shows when the figures are asked for.
            Ok(_) | Err(_) => Change::Awaited,
        }
    }

    /// What the container left as its termination message.
    pub(crate) async fn termination_message(&self, id: &str) -> Result<String, Error> {
        let request = api::GetDiagnosticDataRequest {
            log_type: "termination_log".to_owned(),
            container_id: id.to_owned(),
            ..Default::default()
        };
        let reply = self
            .service
            .get_diagnostic_data(Deadline::Within(CALL_TIMEOUT).context(), &request)
            .await;
        done("read the termination message", reply).map(|reply| reply.data)
    }

    /// Blocks until a container runs out of memory, and names it.
    pub(crate) async fn out_of_memory(&self) -> Result<String, ttrpc::Error> {
        let request = api::GetOOMEventRequest::new();
        Ok(self
            .service
            .get_oom_event(Deadline::None.context(), &request)
            .await?
            .container_id)
    }
}

/// Says what was being done when a call failed.
fn done<T>(action: impl Into<String>, reply: ttrpc::Result<T>) -> Result<T, Error> {
    reply.map_err(|source| Error::Agent {
        action: action.into(),
        source,
    })
}

/// What the ttrpc client says when a call's own deadline has passed; the connection may be fine.
const DEADLINE_MESSAGE: &str = "deadline elapsed";

/// Whether the error says that the connection, rather than one call, failed.
pub(crate) fn is_connection_loss(error: &ttrpc::Error) -> bool {
    match error {
        ttrpc::Error::RpcStatus(_) => false,
        ttrpc::Error::Others(message) => !message.contains(DEADLINE_MESSAGE),
        _ => true,
    }
}

/// Whether an agent that could not be reached may be there in a moment.
fn is_worth_another(error: &Error) -> bool {
    match error {
        Error::Channel(error) => error.retryable(),
        _ => true,
    }
}

/// How a ttrpc server in Rust says that it has no such service, after the service's name.
const UNKNOWN_SERVICE: &str = " service does not exist";

/// Whether the other side does not know what it was asked, as stock programs do not know what is ours alone. For ttrpc in
/// Go an unknown service is unimplemented; in Rust it is an invalid argument, told from others by its words alone.
pub(crate) fn is_unknown_method(error: &ttrpc::Error) -> bool {
    let ttrpc::Error::RpcStatus(status) = error else {
        return false;
    };
    match status.code() {
        Code::UNIMPLEMENTED => true,
        Code::INVALID_ARGUMENT => status.message().ends_with(UNKNOWN_SERVICE),
        _ => false,
    }
}

async fn retry<T, F: Future<Output = Result<T, Error>>>(mut attempt: impl FnMut() -> F) -> Result<T, Error> {
    let deadline = tokio::time::Instant::now() + CONNECT_TIME;
    loop {
        match attempt().await {
            Err(error) if is_worth_another(&error) && tokio::time::Instant::now() < deadline => {
                tracing::debug!(error = error.chain(), "the agent does not answer yet");
                tokio::time::sleep(CONNECT_RETRY_DELAY).await;
            }
            result => return result,
        }
    }
}
