//! A stand-in for the agent: its processes say what they are told to, and end when they are killed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use peerpods_proto::{
    agent::{self as api, Empty},
    agent_ttrpc::{AgentService, Health},
};
use tokio::sync::{
    Mutex as AsyncMutex,
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    watch,
};
use ttrpc::{Code, Result, asynchronous::TtrpcContext, get_status};

use super::Journal;

fn refused(code: Code, message: impl ToString) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(get_status(code, message))
}

/// Added to the signal that ended a process.
const SIGNALLED: i32 = 128;

type Key = (String, String);

struct Process {
    stdout: AsyncMutex<UnboundedReceiver<Vec<u8>>>,
    say: Mutex<Option<UnboundedSender<Vec<u8>>>>,
    exit: watch::Sender<Option<i32>>,
}

/// The agent of one machine.
#[derive(Clone)]
pub(crate) struct FakeAgent {
    journal: Journal,
    processes: Arc<Mutex<HashMap<Key, Arc<Process>>>>,
    pub containers: Arc<Mutex<Vec<api::CreateContainerRequest>>>,
    pub refusal: Arc<Mutex<Option<String>>>,
    /// The one whose input nobody takes.
    pub deaf: Arc<Mutex<Option<String>>>,
    /// Whether containers take as long to be created as this says so.
    pub slow: Arc<watch::Sender<bool>>,
}

impl FakeAgent {
    pub(crate) fn new(journal: Journal) -> Self {
        Self {
            journal,
            processes: Arc::default(),
            containers: Arc::default(),
            refusal: Arc::default(),
            deaf: Arc::default(),
            slow: Arc::default(),
        }
    }

    fn add(&self, container: &str, exec: &str) {
        let (say, stdout) = unbounded_channel();
        let process = Process {
            stdout: AsyncMutex::new(stdout),
            say: Mutex::new(Some(say)),
            exit: watch::Sender::new(None),
        };
        self.processes
            .lock()
            .unwrap()
            .insert((container.to_owned(), exec.to_owned()), Arc::new(process));
    }

    fn get(&self, container: &str, exec: &str) -> Result<Arc<Process>> {
        let found = self
            .processes
            .lock()
            .unwrap()
            .get(&(container.to_owned(), exec.to_owned()))
            .cloned();
        found.ok_or_else(|| refused(Code::NOT_FOUND, format!("no process {exec:?} in {container}")))
    }

    /// Makes a process write to its output.
    pub(crate) fn say(&self, container: &str, exec: &str, text: &str) {
        let process = self.get(container, exec).unwrap();
        let say = process.say.lock().unwrap();
        say.as_ref().unwrap().send(text.as_bytes().to_vec()).unwrap();
    }

    /// Ends a process.
    pub(crate) fn exit(&self, container: &str, exec: &str, status: i32) {
        let process = self.get(container, exec).unwrap();
        process.say.lock().unwrap().take();
        process.exit.send_replace(Some(status));
    }
}

#[async_trait]
impl Health for FakeAgent {
    async fn check(&self, _: &TtrpcContext, _: api::CheckRequest) -> Result<api::HealthCheckResponse> {
        self.journal.note("Check");
        Ok(api::HealthCheckResponse::new())
    }
}

#[async_trait]
impl AgentService for FakeAgent {
    async fn create_sandbox(&self, _: &TtrpcContext, request: api::CreateSandboxRequest) -> Result<Empty> {
        let (hostname, dns) = (&request.hostname, request.dns.join(";"));
        self.journal
            .note(format!("CreateSandbox {} {hostname} [{dns}]", request.sandbox_id));
        Ok(Empty::new())
    }

    async fn destroy_sandbox(&self, _: &TtrpcContext, _: api::DestroySandboxRequest) -> Result<Empty> {
        self.journal.note("DestroySandbox");
        Ok(Empty::new())
    }

    async fn copy_file(&self, _: &TtrpcContext, request: api::CopyFileRequest) -> Result<Empty> {
        let text = String::from_utf8_lossy(&request.data).into_owned();
        let name = request.path.rsplit_once('-').map_or("", |(_, name)| name);
        self.journal.note(format!("CopyFile {name} {text:?}"));
        Ok(Empty::new())
    }

    async fn create_container(
        &self,
        _: &TtrpcContext,
        request: api::CreateContainerRequest,
    ) -> Result<Empty> {
        if let Some(refusal) = self.refusal.lock().unwrap().clone() {
            return Err(refused(Code::INTERNAL, refusal));
        }
        let image = request
            .storages
            .iter()
            .find(|storage| storage.driver == "image_guest_pull")
            .unwrap();
        self.journal.note(format!(
            "CreateContainer {} {}",
            request.container_id, image.source
        ));
        // An error means that the test is over.
        let _ = self.slow.subscribe().wait_for(|slow| !slow).await;
        self.add(&request.container_id, "");
        self.containers.lock().unwrap().push(request);
        Ok(Empty::new())
    }

    async fn start_container(&self, _: &TtrpcContext, request: api::StartContainerRequest) -> Result<Empty> {
        self.journal
            .note(format!("StartContainer {}", request.container_id));
        Ok(Empty::new())
    }

    async fn remove_container(
        &self,
        _: &TtrpcContext,
        request: api::RemoveContainerRequest,
    ) -> Result<Empty> {
        self.journal
            .note(format!("RemoveContainer {}", request.container_id));
        Ok(Empty::new())
    }

    async fn exec_process(&self, _: &TtrpcContext, request: api::ExecProcessRequest) -> Result<Empty> {
        let arguments = request.process.Args.join(" ");
        self.journal
            .note(format!("ExecProcess {} {arguments}", request.exec_id));
        self.add(&request.container_id, &request.exec_id);
        Ok(Empty::new())
    }

    async fn signal_process(&self, _: &TtrpcContext, request: api::SignalProcessRequest) -> Result<Empty> {
        let (container, exec) = (&request.container_id, &request.exec_id);
        self.journal
            .note(format!("SignalProcess {container} {}", request.signal));
        self.get(container, exec)?;
        self.exit(
            container,
            exec,
            SIGNALLED + i32::try_from(request.signal).unwrap(),
        );
        Ok(Empty::new())
    }

    async fn wait_process(
        &self,
        _: &TtrpcContext,
        request: api::WaitProcessRequest,
    ) -> Result<api::WaitProcessResponse> {
        let process = self.get(&request.container_id, &request.exec_id)?;
        let mut exit = process.exit.subscribe();
        let status = exit.wait_for(Option::is_some).await.unwrap().unwrap();
        self.processes
            .lock()
            .unwrap()
            .remove(&(request.container_id, request.exec_id));
        Ok(api::WaitProcessResponse {
            status,
            ..Default::default()
        })
    }

    async fn read_stdout(
        &self,
        _: &TtrpcContext,
        request: api::ReadStreamRequest,
    ) -> Result<api::ReadStreamResponse> {
        let process = self.get(&request.container_id, &request.exec_id)?;
        let data = process.stdout.lock().await.recv().await.unwrap_or_default();
        Ok(api::ReadStreamResponse {
            data,
            ..Default::default()
        })
    }

    async fn read_stderr(
        &self,
        _: &TtrpcContext,
        request: api::ReadStreamRequest,
    ) -> Result<api::ReadStreamResponse> {
        let process = self.get(&request.container_id, &request.exec_id)?;
        process.exit.subscribe().wait_for(Option::is_some).await.unwrap();
        Ok(api::ReadStreamResponse::new())
    }

    /// Every process with input is `cat`.
    async fn write_stdin(
        &self,
        _: &TtrpcContext,
        request: api::WriteStreamRequest,
    ) -> Result<api::WriteStreamResponse> {
        if self.deaf.lock().unwrap().as_ref() == Some(&request.exec_id) {
            return std::future::pending().await;
        }
        let process = self.get(&request.container_id, &request.exec_id)?;
        let len = u32::try_from(request.data.len()).unwrap();
        process
            .say
            .lock()
            .unwrap()
            .as_ref()
            .unwrap()
            .send(request.data)
            .unwrap();
        Ok(api::WriteStreamResponse {
            len,
            ..Default::default()
        })
    }

    async fn close_stdin(&self, _: &TtrpcContext, request: api::CloseStdinRequest) -> Result<Empty> {
        self.journal.note("CloseStdin");
        self.exit(&request.container_id, &request.exec_id, 0);
        Ok(Empty::new())
    }

    async fn get_oom_event(&self, _: &TtrpcContext, _: api::GetOOMEventRequest) -> Result<api::OOMEvent> {
        std::future::pending().await
    }

    async fn get_diagnostic_data(
        &self,
        _: &TtrpcContext,
        _: api::GetDiagnosticDataRequest,
    ) -> Result<api::GetDiagnosticDataResponse> {
        Ok(api::GetDiagnosticDataResponse {
            data: "it is finished".to_owned(),
            ..Default::default()
        })
    }
}
