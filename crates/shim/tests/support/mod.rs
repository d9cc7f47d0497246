//! Stand-ins for everything around the shim: the adaptor, the agent in the machine, and containerd's
//! event service. Each notes what it is asked, in one journal.

#![allow(dead_code)]

mod agent;
pub(crate) mod machine;
pub(crate) mod pod;
pub(crate) mod stranger;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use containerd_shim_protos::{
    api::{CreateTaskRequest, Empty, ForwardRequest},
    bootstrap_api::BootstrapParams,
    shim_async::{Events, TaskClient, create_events},
};
use peerpods_proto::{
    agent_ttrpc::{create_agent_service, create_health},
    hypervisor::{
        CreateVMRequest, CreateVMResponse, StartVMRequest, StartVMResponse, StopVMRequest, StopVMResponse,
    },
    hypervisor_ttrpc::{Hypervisor, create_hypervisor},
};
use protobuf::Message;
use tokio::sync::watch;
use ttrpc::asynchronous::{Client, Server, TtrpcContext};

pub(crate) use agent::FakeAgent;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What was asked of the stand-ins, in order.
#[derive(Clone)]
pub(crate) struct Journal(Arc<watch::Sender<Vec<String>>>);

impl Journal {
    pub(crate) fn note(&self, entry: impl Into<String>) {
        self.0.send_modify(|entries| entries.push(entry.into()));
    }

    pub(crate) fn entries(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// The entries with one of these beginnings.
    pub(crate) fn only(&self, beginnings: &[&str]) -> Vec<String> {
        let wanted = |entry: &String| beginnings.iter().any(|beginning| entry.starts_with(beginning));
        self.entries().into_iter().filter(wanted).collect()
    }

    pub(crate) async fn until(&self, entry: &str) {
        let mut entries = self.0.subscribe();
        let found = entries.wait_for(|entries| entries.iter().any(|one| one == entry));
        if tokio::time::timeout(PATIENCE, found).await.is_err() {
            panic!("{entry:?} was never asked; the journal is {:#?}", self.entries());
        }
    }
}

/// A node with one pod on it.
pub(crate) struct Node {
    pub directory: tempfile::TempDir,
    pub journal: Journal,
    pub agent: FakeAgent,
    servers: Vec<Server>,
    shims: Mutex<Vec<i32>>,
}

impl Node {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal(Arc::new(watch::Sender::new(Vec::new())));
        let agent = FakeAgent::new(journal.clone());
        let mut node = Self {
            directory,
            journal,
            agent,
            servers: Vec::new(),
            shims: Mutex::default(),
        };
        let pod = node.path("pods/sandbox");
        fs::create_dir_all(&pod).unwrap();
        let service = FakeAdaptor {
            journal: node.journal.clone(),
            agent_socket: pod.join("agent.ttrpc"),
        };
        node.serve("hypervisor.sock", create_hypervisor(Arc::new(service)))
            .await;
        let mut services = create_agent_service(Arc::new(node.agent.clone()));
        services.extend(create_health(Arc::new(node.agent.clone())));
        node.serve("pods/sandbox/agent.ttrpc", services).await;
        let events = FakeEvents {
            journal: node.journal.clone(),
        };
        node.serve("events.ttrpc", create_events(Arc::new(events))).await;
        node
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn serve(
        &mut self,
        name: &str,
        services: std::collections::HashMap<String, ttrpc::asynchronous::Service>,
    ) {
        let address = format!("unix://{}", self.path(name).display());
        let mut server = Server::new().bind(&address).unwrap().register_service(services);
        server.start().await.unwrap();
        self.servers.push(server);
    }

    /// Cuts the connections to the machine, as if it had died.
    pub(crate) async fn lose_machine(&mut self) {
        self.servers[1].shutdown().await.unwrap();
    }

    /// Writes a bundle as containerd does.
    pub(crate) fn bundle(&self, id: &str, spec: &serde_json::Value) -> PathBuf {
        let bundle = self.path(&format!("bundles/{id}"));
        fs::create_dir_all(&bundle).unwrap();
        fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
        bundle
    }

    pub(crate) fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        path
    }

    /// Runs the shim with an action, as containerd would, and returns its output.
    pub(crate) async fn shim(&self, id: &str, bundle: &Path, action: &str) -> std::process::Output {
        let parameters = BootstrapParams {
            instance_id: id.to_owned(),
            socket_dir: Some(self.path("s").display().to_string()),
            ..Default::default()
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_containerd-shim-kata-v2"));
        command
            .args([
                "-namespace",
                "k8s.io",
                "-address",
                "/run/containerd.sock",
                "-id",
                id,
                action,
            ])
            .current_dir(bundle)
            .env("TTRPC_ADDRESS", self.path("events.ttrpc"))
            .env("REMOTE_HYPERVISOR_ENDPOINT", self.path("hypervisor.sock"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let input = if action == "start" {
            parameters.write_to_bytes().unwrap()
        } else {
            Vec::new()
        };
        let run = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(&input).unwrap();
            child.wait_with_output().unwrap()
        });
        let output = run.await.unwrap();
        if let Ok(pid) = fs::read_to_string(bundle.join("shim.pid")) {
            self.shims.lock().unwrap().push(pid.parse().unwrap());
        }
        output
    }

    /// Starts the shim and connects to it.
    pub(crate) async fn start_shim(&self, id: &str, bundle: &Path) -> TaskClient {
        let output = self.shim(id, bundle, "start").await;
        let answer = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{answer}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(
            (answer["version"].as_i64(), answer["protocol"].as_str()),
            (Some(3), Some("ttrpc"))
        );
        TaskClient::new(
            Client::connect(answer["address"].as_str().unwrap())
                .await
                .unwrap(),
        )
    }

    pub(crate) fn create_request(&self, id: &str, bundle: &Path) -> CreateTaskRequest {
        CreateTaskRequest {
            id: id.to_owned(),
            bundle: bundle.display().to_string(),
            ..Default::default()
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for bundle in fs::read_dir(self.path("bundles")).into_iter().flatten().flatten() {
            let Ok(pid) = fs::read_to_string(bundle.path().join("shim.pid")) else {
                continue;
            };
            let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) else {
                continue;
            };
            let own =
                fs::read_to_string(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
            if own.contains("containerd-shim-kata-v2") {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

struct FakeAdaptor {
    journal: Journal,
    agent_socket: PathBuf,
}

#[async_trait]
impl Hypervisor for FakeAdaptor {
    async fn create_vm(&self, _: &TtrpcContext, request: CreateVMRequest) -> ttrpc::Result<CreateVMResponse> {
        let name = &request.annotations["io.kubernetes.cri.sandbox-name"];
        self.journal.note(format!(
            "CreateVM {} {name} {}",
            request.id, request.networkNamespacePath
        ));
        let path = self.agent_socket.display().to_string();
        Ok(CreateVMResponse {
            agentSocketPath: path,
            ..Default::default()
        })
    }

    async fn start_vm(&self, _: &TtrpcContext, request: StartVMRequest) -> ttrpc::Result<StartVMResponse> {
        self.journal.note(format!("StartVM {}", request.id));
        Ok(StartVMResponse::new())
    }

    async fn stop_vm(&self, _: &TtrpcContext, request: StopVMRequest) -> ttrpc::Result<StopVMResponse> {
        self.journal.note(format!("StopVM {}", request.id));
        Ok(StopVMResponse::new())
    }
}

struct FakeEvents {
    journal: Journal,
}

#[async_trait]
impl Events for FakeEvents {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let envelope = &request.envelope;
        assert_eq!(envelope.namespace, "k8s.io");
        let detail = match envelope.topic.as_str() {
            "/tasks/exit" => {
                let exit =
                    containerd_shim_protos::events::task::TaskExit::parse_from_bytes(&envelope.event.value);
                let exit = exit.unwrap();
                format!(" {} {}", exit.id, exit.exit_status)
            }
            _ => String::new(),
        };
        self.journal.note(format!("event {}{detail}", envelope.topic));
        Ok(Empty::new())
    }
}
