//! One container of the pod.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use libcontainer::container::Container as Runtime;
use oci_spec::runtime::{Process as ProcessSpec, Spec};
use rustix::mount::{UnmountFlags, unmount};
use tokio::sync::watch;

use super::Sandbox;
use crate::{
    container::{
        CONTAINERS, Cgroup, ContainerId, Limits, Process, ProcessId, ProcessOf, Processes, STATE, adapt,
        complete, make_missing_sources,
    },
    error::GuestError,
    scratch,
};

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// A container.
pub(super) enum Container {
    /// The pod's own: no image and no process, only an end.
    Pod { ended: watch::Sender<Option<i32>> },
    /// One with processes.
    Workload(Box<Workload>),
}

/// A container with processes.
pub(super) struct Workload {
    id: ContainerId,
    processes: Processes,
    spec: Spec,
    init: Arc<Process>,
    phase: Mutex<Phase>,
    execs: Mutex<BTreeMap<ProcessId, Arc<Process>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Created,
    Started,
}

impl Container {
    pub(super) fn pod() -> Self {
        Self::Pod {
            ended: watch::Sender::new(None),
        }
    }

    pub(super) fn workload(&self) -> Result<&Workload, GuestError> {
        match self {
            Self::Workload(workload) => Ok(workload),
            Self::Pod { .. } => Err(GuestError::Unsupported("a process in the pod's own container")),
        }
    }

    pub(super) async fn signal(&self, exec: Option<&ProcessId>, signal: i32) -> Result<(), GuestError> {
        match (self, exec) {
            (Self::Pod { ended }, _) => {
                if signal == SIGKILL || signal == SIGTERM {
                    ended.send_replace(Some(128 + signal));
                }
                Ok(())
            }
            (Self::Workload(workload), None) => workload.signal_init(signal),
            (Self::Workload(workload), Some(exec)) => workload.process(Some(exec))?.signal(signal),
        }
    }

    /// Waits for the end of a process and gives its status.
    pub(super) async fn wait(&self, exec: Option<&ProcessId>) -> Result<i32, GuestError> {
        match self {
            Self::Pod { ended } => {
                let mut ended = ended.subscribe();
                let status = ended.wait_for(Option::is_some).await.map(|status| *status);
                Ok(status.ok().flatten().unwrap_or(128 + SIGKILL))
            }
            Self::Workload(workload) => Ok(workload.process(exec)?.wait().await.0),
        }
    }

    /// Ends all processes and removes what the container has in the VM.
    pub(super) async fn remove(&self) -> Result<(), GuestError> {
        match self {
            Self::Pod { ended } => {
                ended.send_if_modified(|status| status.is_none() && status.replace(128 + SIGKILL).is_none());
                Ok(())
            }
            Self::Workload(workload) => workload.remove().await,
        }
    }
}

impl Workload {
    /// Creates the container; its first process waits to be started. What a failure leaves is removed.
    pub(super) async fn create(
        sandbox: &Sandbox,
        id: &ContainerId,
        spec: Spec,
        processes: Processes,
    ) -> Result<Self, GuestError> {
        let folder = folder(id);
        let rootfs = folder.join("rootfs");
        let spec = adapt(
            spec,
            id,
            &sandbox.namespaces()?,
            &processes,
            &rootfs,
            sandbox.limits,
        )?;
        make_missing_sources(&spec)?;
        let config = folder.join("config.json");
        let json = serde_json::to_vec(&spec).expect("a spec is plain data");
        fs::write(&config, json).map_err(GuestError::file("write", &config))?;
        let process = spec
            .process()
            .as_ref()
            .expect("`adapt` checked that there is a process");
        let what = ProcessOf::Container {
            bundle: &folder,
            spec: process,
        };
        let init = Process::create(id, what, &sandbox.reaper).await?;
        if sandbox.limits == Limits::Enforced {
            sandbox.out_of_memory.add(id)?;
        }
        if let Processes::Of(_) = processes {
            // In a namespace of its own the kernel ends all others with the first process.
            tokio::spawn(end_with(init.clone(), Cgroup::of(id)));
        }
        let (phase, execs) = (Mutex::new(Phase::Created), Mutex::default());
        Ok(Self {
            id: id.clone(),
            processes,
            spec,
            init,
            phase,
            execs,
        })
    }

    pub(super) async fn start(&self) -> Result<(), GuestError> {
        if *self.phase() == Phase::Started {
            return Err(self.wrong_state("start", "started already"));
        }
        let state = Path::new(STATE).join(self.id.as_str());
        let started = tokio::task::spawn_blocking(move || {
            let mut runtime = Runtime::load(state).map_err(|error| error.to_string())?;
            // With no hooks in the spec this forks nothing: it writes to the waiting process's socket.
            runtime.start().map_err(|error| error.to_string())
        });
        let started = started.await.unwrap_or_else(|error| Err(error.to_string()));
        let failed = |cause| GuestError::Runtime {
            action: "start",
            container: self.id.to_string(),
            cause,
        };
        started.map_err(failed)?;
        *self.phase() = Phase::Started;
        Ok(())
    }

    pub(super) async fn exec(
        &self,
        sandbox: &Sandbox,
        id: ProcessId,
        spec: ProcessSpec,
    ) -> Result<(), GuestError> {
        if *self.phase() == Phase::Created {
            return Err(self.wrong_state("run a process in", "not started"));
        }
        if self.init.exit().is_some() {
            return Err(self.wrong_state("run a process in", "ended"));
        }
        if self.execs().contains_key(&id) {
            return Err(GuestError::Exists(format!("process {id}")));
        }
        let first = self.spec.process().as_ref();
        let spec = complete(spec, first.expect("`adapt` checked that there is a process"));
        let process = Process::create(&self.id, ProcessOf::Exec { spec: &spec }, &sandbox.reaper).await?;
        let mut execs = self.execs();
        // Those whose end was seen, and whose output was read, are of no more use.
        execs.retain(|_, process| process.exit().is_none() || !process.stdio.drained());
        execs.insert(id, process);
        Ok(())
    }

    /// A process; the container's first one where no exec is named.
    pub(super) fn process(&self, exec: Option<&ProcessId>) -> Result<Arc<Process>, GuestError> {
        match exec {
            None => Ok(self.init.clone()),
            Some(exec) => {
                let found = self.execs().get(exec).cloned();
                found.ok_or_else(|| GuestError::NotFound(format!("process {exec} of container {}", self.id)))
            }
        }
    }

    fn signal_init(&self, signal: i32) -> Result<(), GuestError> {
        // The first process of a namespace ignores what it has no handler for, and its pod would wait out its whole
        // grace period.
        let is_ignored = signal == SIGTERM && self.processes == Processes::Own && !self.init.handles(SIGTERM);
        let signal = if is_ignored { SIGKILL } else { signal };
        if signal == SIGKILL {
            self.cgroup().kill()?;
        }
        self.init.signal(signal)
    }

    /// The pid namespace of its processes, for another container to join.
    pub(super) fn pid_namespace(&self) -> PathBuf {
        self.init.pid_namespace()
    }

    pub(super) fn cgroup(&self) -> Cgroup {
        Cgroup::of(&self.id)
    }

    /// What the container wrote where its termination message is expected.
    pub(super) fn mount_source(&self, destination: &str) -> Option<PathBuf> {
        let mounts = self.spec.mounts().iter().flatten();
        mounts
            .filter(|mount| mount.destination() == Path::new(destination))
            .find_map(|mount| mount.source().clone())
    }

    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        self.spec.annotations().as_ref()?.get(key).map(String::as_str)
    }

    async fn remove(&self) -> Result<(), GuestError> {
        self.cgroup().kill()?;
        self.init.signal(SIGKILL)?;
        self.init.wait().await;
        clean(&self.id).await
    }

    fn wrong_state(&self, action: &'static str, state: &'static str) -> GuestError {
        GuestError::WrongState {
            action,
            subject: format!("container {}", self.id),
            state,
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase
            .lock()
            .expect("nothing panics while it holds the phase")
    }

    fn execs(&self) -> MutexGuard<'_, BTreeMap<ProcessId, Arc<Process>>> {
        self.execs
            .lock()
            .expect("nothing panics while it holds the processes")
    }
}

/// Ends what a container still has when its first process has ended.
async fn end_with(init: Arc<Process>, cgroup: Cgroup) {
    init.wait().await;
    if let Err(error) = cgroup.kill() {
        tracing::error!("{}", error.chain());
    }
}

/// Where everything of a container is.
pub(super) fn folder(id: &ContainerId) -> PathBuf {
    Path::new(CONTAINERS).join(id.as_str())
}

/// Removes all that a container without processes has, or that a failed creation left.
pub(super) async fn clean(id: &ContainerId) -> Result<(), GuestError> {
    let cgroup = Cgroup::of(id);
    cgroup.kill()?;
    cgroup.remove().await?;
    let folder = folder(id);
    // It is no mount where the image was never pulled.
    let _ = unmount(folder.join("rootfs"), UnmountFlags::DETACH);
    for path in [folder, Path::new(STATE).join(id.as_str())] {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(GuestError::file("remove", path)(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    scratch::remove_container(id)
}
