//! A container: its first process, the processes that joined it, and how it comes into the guest.

use std::{
    collections::HashMap,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use peerpods_proto::{agent::CreateContainerRequest, oci::Spec};

use crate::{
    agent::{Agent, ProcessId},
    annotations::{Annotations, ContainerKind},
    credentials,
    error::Error,
    limits,
    mounts::Plan,
    number::ProcessNumber,
    process::{Launch, Process},
    sandbox::Sandbox,
    spec::{self, Processes},
    streams::StandardStreams,
    usage::Usage,
};

/// What people see of the container that stands for the pod.
const SANDBOX_NAME: &str = "(sandbox)";
/// The agent's figure of how often the kernel killed for memory: the name in cgroup v2's `memory.events`.
const OUT_OF_MEMORY_KILLS: &str = "oom_kill";
/// Kubelet reads no more of it.
const MAX_TERMINATION_MESSAGE: usize = 4096;

/// A container of the pod.
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) kind: ContainerKind,
    pub(crate) bundle: PathBuf,
    pub(crate) init: Arc<Process>,
    pub(crate) number: ProcessNumber,
    pub(crate) usage: Usage,
    execs: Mutex<HashMap<String, Arc<Process>>>,
    termination_log: Option<PathBuf>,
}

/// What is known of a container before it exists.
pub(crate) struct Description<'a> {
    pub(crate) id: &'a str,
    pub(crate) kind: ContainerKind,
    pub(crate) bundle: &'a Path,
    pub(crate) spec: &'a Spec,
    pub(crate) processes: Processes,
    pub(crate) number: ProcessNumber,
    pub(crate) streams: StandardStreams,
}

impl Container {
    /// Brings the container's files into the guest and creates it there.
    pub(crate) async fn create(sandbox: &Sandbox, of: Description<'_>) -> Result<Self, Error> {
        let agent = sandbox.agent()?;
        let annotations = Annotations(&of.spec.Annotations);
        let name = match of.kind {
            ContainerKind::Sandbox => SANDBOX_NAME,
            ContainerKind::InSandbox(_) | ContainerKind::Single => {
                annotations.container_name().unwrap_or(of.id)
            }
        };
        let name = name.to_owned();
        let mut guest = spec::for_guest(of.spec, &of.kind, of.id, of.bundle, &of.processes)?;
        limits::set(&sandbox.limits.resources, &name, &mut guest)?;
        let plan = Plan::new(
            std::mem::take(&mut guest.Mounts),
            sandbox.id(),
            sandbox.host_paths,
            &sandbox.limits.volumes,
        )?;
        let image = spec::image_storage(annotations, &of.kind, of.id)?;
        let files = async {
            for copy in &plan.copies {
                sandbox.files.provide(copy).await?;
            }
            Ok(())
        };
        // Neither waits for the other: credentials come from the API server, files from this node.
        let credentials = async {
            match of.kind {
                ContainerKind::Sandbox => Ok(()),
                ContainerKind::InSandbox(_) | ContainerKind::Single => {
                    credentials::hand_over(sandbox, of.id, &image.source).await
                }
            }
        };
        tokio::try_join!(files, credentials)?;
        if let Some((destination, _)) = &plan.termination {
            let annotations = &mut guest.Annotations;
            annotations
                .entry(spec::TERMINATION_PATH.to_owned())
                .or_insert_with(|| destination.clone());
        }
        guest.Mounts = plan.mounts;
        let mut storages = plan.storages;
        storages.push(image);
        let request = CreateContainerRequest {
            container_id: of.id.to_owned(),
            storages,
            OCI: Some(guest).into(),
            sandbox_pidns: of.processes == Processes::Pod,
            ..Default::default()
        };
        agent.create_container(&name, request).await?;
        let process = ProcessId {
            container: of.id.to_owned(),
            exec: String::new(),
        };
        Ok(Self {
            id: of.id.to_owned(),
            name,
            kind: of.kind,
            bundle: of.bundle.to_owned(),
            init: Arc::new(Process::new(process, of.streams, Launch::Container)),
            number: of.number,
            usage: Usage::new(),
            execs: Mutex::default(),
            termination_log: plan.termination.map(|(_, file)| file),
        })
    }

    fn execs(&self) -> MutexGuard<'_, HashMap<String, Arc<Process>>> {
        // A panic elsewhere cannot leave the map half changed.
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container's first process, or the one that joined it under this name.
    pub(crate) fn process(&self, exec: &str) -> Result<Arc<Process>, Error> {
        if exec.is_empty() {
            return Ok(self.init.clone());
        }
        let found = self.execs().get(exec).cloned();
        found.ok_or_else(|| Error::NotFound {
            what: "process",
            id: exec.to_owned(),
        })
    }

    pub(crate) fn add_exec(&self, exec: &str, process: Process) -> Result<(), Error> {
        let mut execs = self.execs();
        if execs.contains_key(exec) {
            return Err(Error::AlreadyExists {
                what: "process",
                id: exec.to_owned(),
            });
        }
        execs.insert(exec.to_owned(), Arc::new(process));
        Ok(())
    }

    pub(crate) fn remove_exec(&self, exec: &str) {
        self.execs().remove(exec);
    }

    /// Whether the guest's kernel killed a process of the container for its memory.
    pub(crate) async fn ran_out_of_memory(&self, agent: &Agent) -> bool {
        match agent.stats(&self.id).await {
            Ok(stats) => stats
                .cgroup_stats
                .memory_stats
                .stats
                .get(OUT_OF_MEMORY_KILLS)
                .is_some_and(|count| *count > 0),
            Err(error) => {
                tracing::debug!(
                    container = self.id,
                    error = error.chain(),
                    "no figures of the container"
                );
                false
            }
        }
    }

    /// Brings what the container wrote as its last words to where kubelet looks for them.
    pub(crate) async fn save_termination_message(&self, agent: &Agent) {
        let Some(path) = &self.termination_log else { return };
        let message = match agent.termination_message(&self.id).await {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(
                    container = self.id,
                    error = error.chain(),
                    "no termination message"
                );
                return;
            }
        };
        write_message(path, &message);
    }

    /// Says where kubelet looks for the container's last words why there are none.
    pub(crate) fn save_loss(&self, reason: &str) {
        if let Some(path) = &self.termination_log {
            write_message(path, &format!("the pod's virtual machine is gone: {reason}"));
        }
    }
}

fn write_message(path: &Path, message: &str) {
    let end = message.floor_char_boundary(MAX_TERMINATION_MESSAGE);
    // Into the file that is there: kubelet made it, and a container without one has no message.
    let file = std::fs::OpenOptions::new().write(true).truncate(true).open(path);
    if let Err(error) = file.and_then(|mut file| file.write_all(&message.as_bytes()[..end])) {
        tracing::warn!(path = %path.display(), %error, "termination message not saved");
    }
}
