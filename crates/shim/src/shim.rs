//! The pod as the runtime sees it: one sandbox, its containers, and what can be asked of them.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::SystemTime,
};

use containerd_shim_protos::{
    api::CreateTaskRequest,
    events::task::{
        TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskIO, TaskPaused, TaskResumed,
        TaskStart,
    },
};
use peerpods_proto::{
    agent::StatsContainerResponse,
    oci,
    spec::{process_from_json, resources_from_json},
};
use tokio::sync::{Notify, OnceCell};

use crate::{
    agent::ProcessId,
    annotations::{Annotations, ContainerKind},
    container::{Container, Description},
    creations::{Creations, Outcome},
    error::Error,
    events::{Publisher, timestamp},
    hypervisor::Hypervisor,
    number::ProcessNumber,
    process::{Ending, Exit, KILLED_STATUS, Launch, Process, State},
    sandbox::{OUT_OF_MEMORY_FILE, Sandbox, announce_out_of_memory},
    spec::{self, Processes},
    streams::{StandardStreams, Wish},
};

/// Signals that end a process which has not started yet.
const SIGKILL: u32 = 9;
const SIGTERM: u32 = 15;

/// What there is of the pod's virtual machine, for the case that the shim has to end early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Machine {
    NotAsked,
    /// The adaptor was asked for it, so it has to be asked for its end.
    Asked,
    Ended,
}

/// A process that was forgotten: its container's number for the runtime, and how it ended.
pub(crate) struct Deleted {
    pub(crate) pid: u32,
    pub(crate) exit: Exit,
}

/// The shim of one pod.
pub(crate) struct Shim {
    id: String,
    started: SystemTime,
    pub(crate) publisher: Publisher,
    hypervisor: Hypervisor,
    machine: Mutex<Machine>,
    sandbox: OnceCell<Arc<Sandbox>>,
    /// What the pod's first container showed of its processes.
    processes_of_pod: OnceLock<Processes>,
    containers: Arc<Mutex<HashMap<String, Arc<Container>>>>,
    creations: Creations,
    ended: Notify,
}

impl Shim {
    pub(crate) fn new(id: &str, started: SystemTime, publisher: Publisher) -> Self {
        Self {
            id: id.to_owned(),
            started,
            publisher,
            hypervisor: Hypervisor::from_environment(),
            machine: Mutex::new(Machine::NotAsked),
            sandbox: OnceCell::new(),
            processes_of_pod: OnceLock::new(),
            containers: Arc::default(),
            creations: Creations::default(),
            ended: Notify::new(),
        }
    }

    fn containers(&self) -> MutexGuard<'_, HashMap<String, Arc<Container>>> {
        lock(&self.containers)
    }

    fn replace_machine(&self, now: Machine) -> Machine {
        std::mem::replace(
            &mut *self.machine.lock().unwrap_or_else(PoisonError::into_inner),
            now,
        )
    }

    pub(crate) fn container(&self, id: &str) -> Result<Arc<Container>, Error> {
        self.containers()
            .get(id)
            .cloned()
            .ok_or_else(|| Error::no_container(id))
    }

    pub(crate) fn process(&self, id: &str, exec: &str) -> Result<Arc<Process>, Error> {
        self.container(id)?.process(exec)
    }

    fn sandbox(&self) -> Result<&Arc<Sandbox>, Error> {
        self.sandbox.get().ok_or_else(|| Error::NotFound {
            what: "sandbox",
            id: self.id.clone(),
        })
    }

    pub(crate) async fn create(&self, request: CreateTaskRequest) -> Result<(), Error> {
        let creation = match self.containers().contains_key(&request.id) {
            false => self.creations.begin(&request.id),
            true => None,
        };
        let Some(creation) = creation else {
            return Err(Error::AlreadyExists {
                what: "container",
                id: request.id,
            });
        };
        let bundle = Path::new(&request.bundle);
        let spec = spec::load(bundle)?;
        let kind = Annotations(&spec.Annotations).kind()?;
        let sandbox = match &kind {
            ContainerKind::Sandbox | ContainerKind::Single => self.boot(&kind, &spec, bundle).await?,
            ContainerKind::InSandbox(id) if *id == self.id => self.sandbox()?.clone(),
            ContainerKind::InSandbox(id) => {
                return Err(Error::NotFound {
                    what: "sandbox",
                    id: id.clone(),
                });
            }
        };
        let owns_machine = !matches!(kind, ContainerKind::InSandbox(_));
        let streams = StandardStreams {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        };
        let created = async {
            let processes = self.processes(&kind, &spec)?;
            let number = self.number(&kind)?;
            let description = Description {
                id: &request.id,
                kind,
                bundle,
                spec: &spec,
                processes,
                number,
                streams,
            };
            Container::create(&sandbox, description).await
        };
        let container = match created.await {
            Ok(container) => container,
            Err(error) => {
                if owns_machine {
                    self.end_sandbox().await;
                }
                return Err(error);
            }
        };
        sandbox
            .timeline
            .mark(&format!("container-created {}", container.name));
        let pid = container.number.get();
        // Whoever gives it up from here on finds it among the containers.
        self.containers().insert(request.id.clone(), Arc::new(container));
        if creation.end() == Outcome::GivenUp {
            return Err(self.undo_creation(&request.id, owns_machine).await);
        }
        self.announce_creation(request, pid);
        Ok(())
    }

    /// The runtime does not wait for a container any more, and will never ask for its end: nobody but this shim would.
    async fn undo_creation(&self, id: &str, owns_machine: bool) -> Error {
        tracing::warn!(
            container = id,
            "given up by the runtime while it was being created"
        );
        self.containers().remove(id);
        self.remove_in_guest(id).await;
        if owns_machine {
            self.end_sandbox().await;
        }
        Error::no_container(id)
    }

    async fn remove_in_guest(&self, id: &str) {
        let Some(Ok(agent)) = self.sandbox.get().map(|sandbox| sandbox.agent()) else {
            return;
        };
        if let Err(error) = agent.remove_container(id).await {
            // Nothing depends on it: what is left goes with the machine.
            tracing::warn!(
                container = id,
                error = error.chain(),
                "container not removed in the guest"
            );
        }
    }

    /// Whose processes a container is to see. The pod and its first container have the same number for the runtime; what
    /// it means in this pod is told by that first container, which cannot join itself.
    fn processes(&self, kind: &ContainerKind, spec: &oci::Spec) -> Result<Processes, Error> {
        if !matches!(kind, ContainerKind::InSandbox(_)) {
            return Ok(Processes::Own);
        }
        let joins = spec::joins_processes(spec);
        let first = if joins { Processes::Pod } else { Processes::Own };
        match (self.processes_of_pod.get_or_init(|| first), joins) {
            (_, false) => Ok(Processes::Own),
            (Processes::Pod, true) => Ok(Processes::Pod),
            (Processes::Own | Processes::Container(_), true) => {
                let target = self.container_of(spec::joined_process(spec));
                target.map(Processes::Container)
            }
        }
    }

    /// The container that has this number for the runtime.
    fn container_of(&self, number: Option<u32>) -> Result<String, Error> {
        let containers = self.containers();
        let found = containers
            .values()
            .find(|one| matches!(one.kind, ContainerKind::InSandbox(_)) && Some(one.number.get()) == number);
        found.map(|one| one.id.clone()).ok_or_else(|| Error::NotFound {
            what: "the process to join,",
            id: number.unwrap_or_default().to_string(),
        })
    }

    /// A number for a new container: the shim's own while no container of the pod has it.
    fn number(&self, kind: &ContainerKind) -> Result<ProcessNumber, Error> {
        let is_taken = self.containers().values().any(|one| {
            matches!(one.kind, ContainerKind::InSandbox(_)) && matches!(one.number, ProcessNumber::Shim)
        });
        match kind {
            ContainerKind::InSandbox(_) if is_taken => ProcessNumber::of_a_thread(),
            ContainerKind::InSandbox(_) | ContainerKind::Sandbox | ContainerKind::Single => {
                Ok(ProcessNumber::Shim)
            }
        }
    }

    async fn boot(
        &self,
        kind: &ContainerKind,
        spec: &oci::Spec,
        bundle: &Path,
    ) -> Result<Arc<Sandbox>, Error> {
        let booting = self.sandbox.get_or_try_init(|| async {
            self.replace_machine(Machine::Asked);
            let booted = Sandbox::boot(&self.id, kind, spec, &self.hypervisor, self.started).await;
            match &booted {
                Ok(sandbox) => {
                    let containers = self.containers.clone();
                    let is_of_pod = move |id: &str| lock(&containers).contains_key(id);
                    sandbox.watch(self.publisher.clone(), bundle, is_of_pod);
                }
                Err(_) => drop(self.replace_machine(Machine::Ended)),
            }
            booted
        });
        booting.await.cloned()
    }

    fn announce_creation(&self, request: CreateTaskRequest, pid: u32) {
        self.publisher.publish(TaskCreate {
            container_id: request.id,
            bundle: request.bundle,
            io: Some(TaskIO {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                terminal: request.terminal,
                ..Default::default()
            })
            .into(),
            pid,
            ..Default::default()
        });
    }

    pub(crate) async fn start(self: &Arc<Self>, id: &str, exec: &str) -> Result<(), Error> {
        let container = self.container(id)?;
        let process = container.process(exec)?;
        let sandbox = self.sandbox()?.clone();
        let agent = sandbox.agent()?;
        let publisher = self.publisher.clone();
        let pid = container.number.get();
        let announce = || self.announce_start(id, exec, pid);
        let report = {
            let (container, agent, publisher) = (container.clone(), agent.clone(), publisher.clone());
            // The container that stands for the pod has no words and no memory.
            let is_first = exec.is_empty() && container.kind != ContainerKind::Sandbox;
            move |ending: Ending| async move {
                if !is_first {
                    return;
                }
                let exit = match ending {
                    Ending::Exit(exit) => exit,
                    Ending::Lost(reason) => return container.save_loss(&reason),
                };
                container.save_termination_message(&agent).await;
                if exit.status == KILLED_STATUS && container.ran_out_of_memory(&agent).await {
                    let file = container.bundle.join(OUT_OF_MEMORY_FILE);
                    announce_out_of_memory(&publisher, container.id.clone(), &file);
                }
            }
        };
        process.start(agent, sandbox.liveness(), announce, report).await?;
        tokio::spawn(announce_exit(publisher, process, pid));
        if exec.is_empty() {
            sandbox
                .timeline
                .mark(&format!("container-started {}", container.name));
        }
        Ok(())
    }

    fn announce_start(&self, id: &str, exec: &str, pid: u32) {
        let container_id = id.to_owned();
        if exec.is_empty() {
            self.publisher.publish(TaskStart {
                container_id,
                pid,
                ..Default::default()
            });
        } else {
            let exec_id = exec.to_owned();
            self.publisher.publish(TaskExecStarted {
                container_id,
                exec_id,
                pid,
                ..Default::default()
            });
        }
    }

    pub(crate) fn exec(
        &self,
        id: &str,
        exec: &str,
        spec: &[u8],
        streams: StandardStreams,
    ) -> Result<(), Error> {
        let container = self.container(id)?;
        let state = container.init.state();
        if state != State::Running {
            return Err(Error::WrongState {
                action: "exec in",
                id: id.to_owned(),
                state: state.name(),
            });
        }
        if exec.is_empty() {
            return Err(Error::Invalid {
                field: "exec_id",
                problem: "empty".into(),
            });
        }
        let mut process = process_from_json(spec)?;
        process.Terminal = streams.terminal;
        process.SelinuxLabel.clear();
        process.ApparmorProfile.clear();
        let process_id = ProcessId {
            container: id.to_owned(),
            exec: exec.to_owned(),
        };
        container.add_exec(
            exec,
            Process::new(process_id, streams, Launch::Exec(Box::new(process))),
        )?;
        self.publisher.publish(TaskExecAdded {
            container_id: id.to_owned(),
            exec_id: exec.to_owned(),
            ..Default::default()
        });
        Ok(())
    }

    /// Sends a signal. What has ended already does not exist for it, which is what runtimes expect.
    pub(crate) async fn kill(&self, id: &str, exec: &str, signal: u32) -> Result<(), Error> {
        let container = self.container(id)?;
        let process = container.process(exec)?;
        let ends = matches!(signal, SIGKILL | SIGTERM);
        match process.state() {
            State::Exited(_) => Err(Error::NotFound {
                what: "running process",
                id: process.id.to_string(),
            }),
            State::Created if ends => {
                process.abandon(Exit::now(KILLED_STATUS))?;
                announce_exit(self.publisher.clone(), process, container.number.get()).await;
                Ok(())
            }
            State::Created | State::Starting | State::Running | State::Paused => {
                let agent = self.sandbox()?.agent()?;
                match signal {
                    SIGKILL => process.wish(Wish::Killed),
                    SIGTERM => process.wish(Wish::End),
                    _ => {}
                }
                tokio::select! {
                    // It may have ended meanwhile.
                    _ = process.wait(), if ends => Ok(()),
                    sent = agent.signal(&process.id, signal) => match sent {
                        Err(_) if matches!(process.state(), State::Exited(_)) => Ok(()),
                        sent => sent,
                    },
                }
            }
        }
    }

    /// Forgets a process that has ended; with the first process of a container, the container. One that is still being
    /// created "does not exist", as runtimes expect, and never will: they ask so when they have given up its creation.
    pub(crate) async fn delete(&self, id: &str, exec: &str) -> Result<Deleted, Error> {
        if exec.is_empty() {
            self.creations.give_up(id);
        }
        let container = self.container(id)?;
        let process = container.process(exec)?;
        let exit = process.exited()?.unwrap_or_else(|| Exit::now(KILLED_STATUS));
        let pid = container.number.get();
        if !exec.is_empty() {
            container.remove_exec(exec);
            return Ok(Deleted { pid, exit });
        }
        self.remove_in_guest(id).await;
        if !matches!(container.kind, ContainerKind::InSandbox(_)) {
            self.end_sandbox().await;
        }
        self.containers().remove(id);
        self.publisher.publish(TaskDelete {
            container_id: id.to_owned(),
            pid,
            exit_status: exit.status,
            exited_at: Some(timestamp(exit.at)).into(),
            ..Default::default()
        });
        Ok(Deleted { pid, exit })
    }

    /// Ends the machine, if there is one. That it could not be reached is no reason to keep the pod: the
    /// runtime's cleanup asks once more, and at last the machine's lease lapses.
    async fn end_sandbox(&self) {
        if self.replace_machine(Machine::Ended) != Machine::Asked {
            return;
        }
        let ended = match self.sandbox.get() {
            Some(sandbox) => sandbox.end().await,
            None => self.hypervisor.stop(&self.id).await,
        };
        if let Err(error) = ended {
            tracing::error!(error = error.chain(), "the pod's virtual machine was not stopped");
        }
    }

    pub(crate) async fn pause(&self, id: &str) -> Result<(), Error> {
        let container = self.container(id)?;
        container.init.pause()?;
        if let Err(error) = self.sandbox()?.agent()?.pause(id).await {
            container.init.resume()?;
            return Err(error);
        }
        self.publisher.publish(TaskPaused {
            container_id: id.to_owned(),
            ..Default::default()
        });
        Ok(())
    }

    pub(crate) async fn resume(&self, id: &str) -> Result<(), Error> {
        let container = self.container(id)?;
        self.sandbox()?.agent()?.resume(id).await?;
        container.init.resume()?;
        self.publisher.publish(TaskResumed {
            container_id: id.to_owned(),
            ..Default::default()
        });
        Ok(())
    }

    pub(crate) async fn resize(&self, id: &str, exec: &str, width: u32, height: u32) -> Result<(), Error> {
        let process = self.process(id, exec)?;
        self.sandbox()?.agent()?.resize(&process.id, width, height).await
    }

    pub(crate) async fn update(&self, id: &str, resources: &[u8]) -> Result<(), Error> {
        self.container(id)?;
        let mut resources = resources_from_json(resources)?;
        spec::strip_resources(&mut resources);
        self.sandbox()?.agent()?.update(id, resources).await
    }

    pub(crate) async fn stats(&self, id: &str) -> Result<Arc<StatsContainerResponse>, Error> {
        let container = self.container(id)?;
        let stats = container.usage.get(self.sandbox()?.agent()?, id).await;
        match (stats, &container.kind) {
            // The sandbox container need not be more than a name in the guest.
            (Err(error), ContainerKind::Sandbox) => {
                tracing::debug!(error = error.chain(), "no stats of the sandbox");
                Ok(Arc::default())
            }
            (stats, _) => stats,
        }
    }

    /// Ends the shim if no container is left; otherwise there is nothing to do yet.
    pub(crate) async fn shutdown(&self) {
        if !self.containers().is_empty() {
            return;
        }
        // A creation may have been given up by the runtime while the machine was coming up.
        self.end_sandbox().await;
        self.ended.notify_one();
    }

    /// Returns when the shim is to end.
    pub(crate) async fn until_shutdown(&self) {
        self.ended.notified().await;
    }
}

fn lock<T>(map: &Mutex<HashMap<String, T>>) -> MutexGuard<'_, HashMap<String, T>> {
    // A panic elsewhere cannot leave the map half changed.
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn announce_exit(publisher: Publisher, process: Arc<Process>, pid: u32) {
    let exit = process.wait().await;
    let id = match process.id.exec.as_str() {
        "" => process.id.container.as_str(),
        exec => exec,
    };
    publisher.publish(TaskExit {
        container_id: process.id.container.clone(),
        id: id.to_owned(),
        pid,
        exit_status: exit.status,
        exited_at: Some(timestamp(exit.at)).into(),
        ..Default::default()
    });
}
