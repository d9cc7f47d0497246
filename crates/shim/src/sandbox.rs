//! The pod's virtual machine: how it comes up, how its life is watched, how it ends.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use containerd_shim_protos::events::task::TaskOOM;
use peerpods_proto::{
    agent::CreateSandboxRequest,
    oci::Spec,
    shim_settings::{ANNOUNCED_FILE, HostPaths},
};
use tokio::{
    sync::{mpsc::UnboundedReceiver, watch},
    time::{MissedTickBehavior, interval, sleep},
};
use ttrpc::Code;

use crate::{
    agent::{Agent, is_connection_loss, means_to_dial},
    annotations::{Annotations, ContainerKind},
    error::Error,
    events::Publisher,
    files::Files,
    forward,
    hypervisor::Hypervisor,
    limits::{self, PodLimits},
    log, mounts, resolver, spec,
    timeline::Timeline,
    watch::{Change, Watch},
};

/// Renews the lease of the machine, which is an hour by default, and finds a dead one.
const CHECK_PERIOD: Duration = Duration::from_secs(30);
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);
/// A busy machine may miss a check; one that misses this many in a row is dead.
const MISSED_CHECKS: u32 = 3;
/// Between two reports of the machine that a container ran out of memory, and before asking again for the first.
const OUT_OF_MEMORY_PAUSE: Duration = Duration::from_secs(1);
/// How much of an id that the machine made up is logged.
const ID_CHARACTERS: usize = 64;
/// CRI-O learns of an out-of-memory kill from this file in the bundle.
pub(crate) const OUT_OF_MEMORY_FILE: &str = "oom";

/// Whether the machine is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Liveness {
    Alive,
    Gone(String),
}

async fn follow(
    mut changes: UnboundedReceiver<Change>,
    files: Arc<Files>,
    liveness: watch::Sender<Liveness>,
) {
    while let Some(change) = changes.recv().await {
        match change {
            Change::Published(copy) => files.renew(&copy).await,
            Change::Ended(reason) => {
                liveness.send_if_modified(|now| {
                    let was_alive = *now == Liveness::Alive;
                    if was_alive {
                        tracing::error!(reason, "the pod's virtual machine has ended");
                        *now = Liveness::Gone(reason);
                    }
                    was_alive
                });
            }
        }
    }
}

/// Tells both runtimes that a container ran out of memory; that they may be told twice does no harm.
pub(crate) fn announce_out_of_memory(publisher: &Publisher, container_id: String, bundle_file: &Path) {
    if let Err(error) = fs::write(bundle_file, "") {
        tracing::debug!(%error, "out-of-memory mark not written");
    }
    publisher.publish(TaskOOM {
        container_id,
        ..Default::default()
    });
}

/// Returns when the machine has gone, with the reason.
pub(crate) async fn gone(liveness: &mut watch::Receiver<Liveness>) -> String {
    match liveness
        .wait_for(|now| matches!(now, Liveness::Gone(_)))
        .await
        .as_deref()
    {
        Ok(Liveness::Gone(reason)) => reason.clone(),
        Ok(Liveness::Alive) | Err(_) => "the shim ends".to_owned(),
    }
}

/// What shows that the machine is lost, after what was announced of its end, if anything was.
fn explained(announcement: &Path, loss: String) -> String {
    match fs::read_to_string(announcement) {
        Ok(words) => format!("{words}; {loss}"),
        Err(_) => loss,
    }
}

/// A running sandbox.
pub(crate) struct Sandbox {
    id: String,
    agent: Agent,
    pub(crate) hypervisor: Hypervisor,
    pub(crate) timeline: Timeline,
    pub(crate) files: Arc<Files>,
    pub(crate) host_paths: HostPaths,
    pub(crate) limits: PodLimits,
    /// What was announced of the machine's end is here, once it was.
    announcement: PathBuf,
    liveness: watch::Sender<Liveness>,
}

impl Sandbox {
    /// Brings up the machine and the sandbox in it. If it returns an error, the machine is stopped.
    pub(crate) async fn boot(
        id: &str,
        kind: &ContainerKind,
        spec: &Spec,
        hypervisor: &Hypervisor,
        shim_start: SystemTime,
    ) -> Result<Arc<Self>, Error> {
        let annotations = Annotations(&spec.Annotations);
        let (pod_namespace, pod_name) = annotations.pod(id);
        peerpods_log::is_about(pod_namespace, pod_name);
        if let (ContainerKind::Sandbox, Some(field)) = (kind, spec::host_namespace(spec)) {
            return Err(Error::HostNamespace(field));
        }
        let limits = limits::of_pod(spec)?;
        let namespace = spec::network_namespace(spec).unwrap_or_default();
        let annotations = annotations.for_adaptor(id);
        let booted = async {
            let socket = hypervisor
                .create(id, annotations, &namespace.to_string_lossy())
                .await?;
            Self::bring_up(id, spec, hypervisor, &socket, shim_start, limits).await
        }
        .await;
        if let Err(error) = &booted {
            tracing::error!(error = error.chain(), "the pod's virtual machine did not come up");
            if let Err(error) = hypervisor.stop(id).await {
                tracing::error!(error = error.chain(), "and it could not be stopped");
            }
        }
        booted
    }

    async fn bring_up(
        id: &str,
        spec: &Spec,
        hypervisor: &Hypervisor,
        socket: &Path,
        shim_start: SystemTime,
        limits: PodLimits,
    ) -> Result<Arc<Self>, Error> {
        let directory = socket
            .parent()
            .filter(|parent| parent.is_absolute())
            .ok_or_else(|| Error::Invalid {
                field: "agentSocketPath",
                problem: format!("{} is not an absolute path", socket.display()),
            })?;
        let settings = mounts::settings(directory);
        log::set_level(settings.log_level);
        let timeline = Timeline::in_directory(directory.to_owned());
        timeline.mark_at(shim_start, "shim-start");
        hypervisor.start(id).await?;
        let connection = means_to_dial(directory)?;
        let agent = Agent::connect(connection.as_ref(), socket).await?;
        let answer = agent.check(CHECK_TIMEOUT).await;
        answer.map_err(|source| Error::Agent {
            action: "answer".to_owned(),
            source,
        })?;
        timeline.mark("connected");
        let request = CreateSandboxRequest {
            hostname: spec.Hostname.clone(),
            dns: resolver::lines(spec)?,
            storages: vec![mounts::shared_memory(&spec.Mounts)],
            sandbox_pidns: spec::joins_processes(spec),
            sandbox_id: id.to_owned(),
            ..Default::default()
        };
        agent.create_sandbox(request).await?;
        timeline.mark("sandbox-created");
        let hypervisor = hypervisor.clone();
        let liveness = watch::Sender::new(Liveness::Alive);
        // Under an adaptor that keeps the machine to itself there is no way to it for forwarded connections.
        if let (Some(connection), Some(namespace)) = (connection, spec::network_namespace(spec)) {
            forward::start(&namespace, connection, liveness.subscribe());
        }
        let files = Self::follow_files(directory, &agent, &liveness);
        Ok(Arc::new(Self {
            id: id.to_owned(),
            files,
            host_paths: settings.host_paths,
            limits,
            announcement: directory.join(ANNOUNCED_FILE),
            agent,
            hypervisor,
            timeline,
            liveness,
        }))
    }

    /// Has configuration follow its sources, and the machine's end noticed where the adaptor tells of it.
    fn follow_files(directory: &Path, agent: &Agent, liveness: &watch::Sender<Liveness>) -> Arc<Files> {
        let started = Watch::start().and_then(|(watch, changes)| {
            watch.end_of(directory)?;
            Ok((watch, changes))
        });
        match started {
            Ok((watch, changes)) => {
                let files = Arc::new(Files::new(agent.clone(), Some(watch)));
                tokio::spawn(follow(changes, files.clone(), liveness.clone()));
                files
            }
            Err(error) => {
                tracing::warn!(error = error.chain(), "configuration will not follow changes");
                Arc::new(Files::new(agent.clone(), None))
            }
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The agent, as long as its machine is there.
    pub(crate) fn agent(&self) -> Result<&Agent, Error> {
        match &*self.liveness.borrow() {
            Liveness::Alive => Ok(&self.agent),
            Liveness::Gone(reason) => Err(Error::Lost(reason.clone())),
        }
    }

    pub(crate) fn liveness(&self) -> watch::Receiver<Liveness> {
        self.liveness.subscribe()
    }

    /// Watches the machine until it has gone.
    ///
    /// What the machine says of containers is taken only for those that are of this pod.
    pub(crate) fn watch(
        self: &Arc<Self>,
        publisher: Publisher,
        bundle: &Path,
        is_of_pod: impl Fn(&str) -> bool + Send + 'static,
    ) {
        let file = bundle.join(OUT_OF_MEMORY_FILE);
        let sandbox = self.clone();
        tokio::spawn(async move {
            let mut liveness = sandbox.liveness();
            let reason = tokio::select! {
                _ = gone(&mut liveness) => return,
                reason = sandbox.check_health() => reason,
                reason = sandbox.report_out_of_memory(publisher, &file, is_of_pod) => reason,
            };
            let reason = explained(&sandbox.announcement, reason);
            tracing::error!(reason, "the pod's virtual machine is lost");
            sandbox.liveness.send_replace(Liveness::Gone(reason));
            // Whatever is left of it must not go on without an owner.
            if let Err(error) = sandbox.hypervisor.stop(&sandbox.id).await {
                tracing::error!(error = error.chain(), "the lost virtual machine was not stopped");
            }
        });
    }

    /// Returns the reason when the machine does not answer any more.
    async fn check_health(&self) -> String {
        let mut ticks = interval(CHECK_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut missed = 0;
        loop {
            ticks.tick().await;
            match self.agent.check(CHECK_TIMEOUT).await {
                Ok(()) => missed = 0,
                Err(error) if is_connection_loss(&error) => return format!("connection lost: {error}"),
                Err(error) => {
                    missed += 1;
                    tracing::warn!(missed, %error, "health check failed");
                    if missed >= MISSED_CHECKS {
                        return format!("{missed} health checks failed, the last with: {error}");
                    }
                }
            }
        }
    }

    /// Reports kills; returns the reason when the connection is lost, which shows here first because a
    /// call is always pending.
    async fn report_out_of_memory(
        &self,
        publisher: Publisher,
        file: &Path,
        is_of_pod: impl Fn(&str) -> bool,
    ) -> String {
        loop {
            match self.agent.out_of_memory().await {
                Ok(container) => {
                    if is_of_pod(&container) {
                        announce_out_of_memory(&publisher, container, file);
                    } else {
                        let container = peerpods_error::shorten(&container, ID_CHARACTERS);
                        tracing::warn!(
                            container,
                            "the machine tells of a container that is not the pod's"
                        );
                    }
                    // One that never stops telling must not crowd out what the runtime has to learn.
                    sleep(OUT_OF_MEMORY_PAUSE).await;
                }
                Err(error) if is_connection_loss(&error) => return format!("connection lost: {error}"),
                Err(ttrpc::Error::RpcStatus(status)) if status.code() == Code::UNIMPLEMENTED => {
                    std::future::pending::<()>().await;
                }
                Err(error) => {
                    tracing::debug!(%error, "out-of-memory events are not available now");
                    sleep(OUT_OF_MEMORY_PAUSE).await;
                }
            }
        }
    }

    /// Ends the sandbox and its machine.
    pub(crate) async fn end(&self) -> Result<(), Error> {
        let alive = self.agent().is_ok();
        self.liveness.send_if_modified(|liveness| {
            let was_alive = *liveness == Liveness::Alive;
            if was_alive {
                *liveness = Liveness::Gone("the pod was stopped".to_owned());
            }
            was_alive
        });
        if alive && let Err(error) = self.agent.destroy_sandbox().await {
            tracing::debug!(error = error.chain(), "the sandbox did not end by itself");
        }
        self.hypervisor.stop(&self.id).await
    }
}
