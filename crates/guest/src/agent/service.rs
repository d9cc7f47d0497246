//! The requests of the agent API, parsed and answered.
//!
//! Shapes and orders of calls: `agent.proto`, and what Kata's shims do.

use std::{io::Read, sync::Arc};

use async_trait::async_trait;
use peerpods_proto::{
    agent::{self as api, Empty},
    agent_ttrpc::AgentService,
    spec::{TARGET_CONTAINER, process_from_wire, resources_from_wire, spec_from_wire},
};
use protobuf::MessageField;
use ttrpc::asynchronous::TtrpcContext;

use super::{
    Sandbox,
    container::{Container, Workload, clean, folder},
    pod_network, resolver, statistics, storage,
};
use crate::{
    container::{ContainerId, ProcessId, Processes, Stream, Usage, apply_sysctls},
    error::GuestError,
};

/// The most that one read returns: a message holds 4 MiB.
const READ_LIMIT: usize = 1 << 20;
/// A termination message is not longer, says Kubernetes.
const TERMINATION_MESSAGE_LIMIT: u64 = 4096;
const TERMINATION_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// What the container is in its pod.
const CONTAINER_TYPES: [&str; 3] = [
    "io.katacontainers.pkg.oci.container_type",
    "io.kubernetes.cri.container-type",
    "io.kubernetes.cri-o.ContainerType",
];

/// Answers the worker.
pub(super) struct Service {
    pub(super) sandbox: Arc<Sandbox>,
}

impl Service {
    async fn create(&self, request: api::CreateContainerRequest) -> Result<(), GuestError> {
        let id = ContainerId::parse(&request.container_id)?;
        let missing = || GuestError::Invalid {
            field: "OCI",
            problem: "it is missing".to_owned(),
        };
        let spec = spec_from_wire(request.OCI.as_ref().ok_or_else(missing)?)?;
        let place = self.sandbox.place(&id)?;
        let annotations = spec.annotations().clone().unwrap_or_default();
        let is_pod = |key: &&str| {
            matches!(
                annotations.get(*key).map(String::as_str),
                Some("sandbox" | "pod_sandbox")
            )
        };
        if CONTAINER_TYPES.iter().any(is_pod) {
            let linux = spec.linux().as_ref();
            let sysctls = linux.and_then(|linux| linux.sysctl().clone()).unwrap_or_default();
            apply_sysctls(&sysctls, &self.sandbox.namespaces()?)?;
            place.fill(Arc::new(Container::pod()));
            return Ok(());
        }
        let processes = if request.sandbox_pidns {
            Processes::Of(self.sandbox.pod_processes()?)
        } else if let Some(target) = annotations.get(TARGET_CONTAINER) {
            Processes::Of(self.find(target)?.workload()?.pid_namespace())
        } else {
            Processes::Own
        };
        let made = self.make(&id, spec, processes, &request.storages).await;
        match made {
            Ok(workload) => {
                place.fill(Arc::new(Container::Workload(Box::new(workload))));
                Ok(())
            }
            Err(error) => {
                if let Err(left) = clean(&id).await {
                    tracing::error!("{}", left.chain());
                }
                Err(error)
            }
        }
    }

    async fn make(
        &self,
        id: &ContainerId,
        spec: oci_spec::runtime::Spec,
        processes: Processes,
        storages: &[api::Storage],
    ) -> Result<Workload, GuestError> {
        let folder = folder(id);
        std::fs::create_dir_all(&folder).map_err(GuestError::file("make", folder))?;
        for one in storages {
            storage::provide(&self.sandbox, id, one).await?;
        }
        Workload::create(&self.sandbox, id, spec, processes).await
    }

    fn find(&self, container: &str) -> Result<Arc<Container>, GuestError> {
        self.sandbox.container(&ContainerId::parse(container)?)
    }

    /// What a container uses now.
    pub(super) fn figures(&self, container: &str) -> Result<api::StatsContainerResponse, GuestError> {
        Ok(match self.find(container)?.as_ref() {
            Container::Pod { .. } => statistics::container(Usage::default()),
            Container::Workload(workload) => statistics::container(workload.cgroup().usage()),
        })
    }

    async fn remove(&self, container: &str) -> Result<(), GuestError> {
        let id = ContainerId::parse(container)?;
        let found = self.sandbox.container(&id)?;
        found.remove().await?;
        self.sandbox.forget(&id);
        Ok(())
    }

    async fn read(
        &self,
        request: api::ReadStreamRequest,
        stream: Stream,
    ) -> Result<api::ReadStreamResponse, GuestError> {
        let exec = exec_of(&request.container_id, &request.exec_id)?;
        let found = self.find(&request.container_id)?;
        let Container::Workload(workload) = found.as_ref() else {
            // The pod's own container has no process: its output has ended from the beginning.
            return Ok(api::ReadStreamResponse::default());
        };
        let process = workload.process(exec.as_ref())?;
        let limit = usize::try_from(request.len)
            .unwrap_or(READ_LIMIT)
            .clamp(1, READ_LIMIT);
        let data = process.stdio.read(stream, limit).await?;
        Ok(api::ReadStreamResponse {
            data,
            ..Default::default()
        })
    }

    async fn write(&self, request: api::WriteStreamRequest) -> Result<api::WriteStreamResponse, GuestError> {
        let exec = exec_of(&request.container_id, &request.exec_id)?;
        let found = self.find(&request.container_id)?;
        found
            .workload()?
            .process(exec.as_ref())?
            .stdio
            .write(&request.data)
            .await?;
        let len = u32::try_from(request.data.len()).unwrap_or(u32::MAX);
        Ok(api::WriteStreamResponse {
            len,
            ..Default::default()
        })
    }

    fn termination_message(&self, request: &api::GetDiagnosticDataRequest) -> Result<String, GuestError> {
        let found = self.find(&request.container_id)?;
        let Container::Workload(workload) = found.as_ref() else {
            return Ok(String::new());
        };
        let source = workload
            .annotation(TERMINATION_PATH)
            .and_then(|path| workload.mount_source(path));
        let Some(file) = source.and_then(|path| std::fs::File::open(path).ok()) else {
            return Ok(String::new());
        };
        let mut bytes = Vec::new();
        file.take(TERMINATION_MESSAGE_LIMIT)
            .read_to_end(&mut bytes)
            .map_err(GuestError::system("read the termination message"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The process that a request means: stock shims name the first one by the container's id, or not at all.
fn exec_of(container: &str, exec: &str) -> Result<Option<ProcessId>, GuestError> {
    if exec.is_empty() || exec == container {
        Ok(None)
    } else {
        ProcessId::parse(exec).map(Some)
    }
}

#[async_trait]
impl AgentService for Service {
    async fn create_sandbox(
        &self,
        _: &TtrpcContext,
        request: api::CreateSandboxRequest,
    ) -> ttrpc::Result<Empty> {
        self.sandbox.create(&request.hostname)?;
        resolver::provide(&request.dns)?;
        for one in &request.storages {
            storage::provide_to_pod(&self.sandbox, one).await?;
        }
        Ok(Empty::new())
    }

    async fn destroy_sandbox(&self, _: &TtrpcContext, _: api::DestroySandboxRequest) -> ttrpc::Result<Empty> {
        self.sandbox.destroy();
        Ok(Empty::new())
    }

    async fn create_container(
        &self,
        _: &TtrpcContext,
        request: api::CreateContainerRequest,
    ) -> ttrpc::Result<Empty> {
        self.create(request).await?;
        Ok(Empty::new())
    }

    async fn start_container(
        &self,
        _: &TtrpcContext,
        request: api::StartContainerRequest,
    ) -> ttrpc::Result<Empty> {
        match self.find(&request.container_id)?.as_ref() {
            Container::Pod { .. } => {}
            Container::Workload(workload) => workload.start().await?,
        }
        Ok(Empty::new())
    }

    async fn remove_container(
        &self,
        _: &TtrpcContext,
        request: api::RemoveContainerRequest,
    ) -> ttrpc::Result<Empty> {
        self.remove(&request.container_id).await?;
        Ok(Empty::new())
    }

    async fn exec_process(&self, _: &TtrpcContext, request: api::ExecProcessRequest) -> ttrpc::Result<Empty> {
        let missing = || GuestError::Invalid {
            field: "process",
            problem: "it is missing".to_owned(),
        };
        let spec =
            process_from_wire(request.process.as_ref().ok_or_else(missing)?).map_err(GuestError::from)?;
        let id = ProcessId::parse(&request.exec_id)?;
        let found = self.find(&request.container_id)?;
        found.workload()?.exec(&self.sandbox, id, spec).await?;
        Ok(Empty::new())
    }

    async fn signal_process(
        &self,
        _: &TtrpcContext,
        request: api::SignalProcessRequest,
    ) -> ttrpc::Result<Empty> {
        let exec = exec_of(&request.container_id, &request.exec_id)?;
        let signal = i32::try_from(request.signal).unwrap_or(0);
        self.find(&request.container_id)?
            .signal(exec.as_ref(), signal)
            .await?;
        Ok(Empty::new())
    }

    async fn wait_process(
        &self,
        _: &TtrpcContext,
        request: api::WaitProcessRequest,
    ) -> ttrpc::Result<api::WaitProcessResponse> {
        let exec = exec_of(&request.container_id, &request.exec_id)?;
        let status = self.find(&request.container_id)?.wait(exec.as_ref()).await?;
        Ok(api::WaitProcessResponse {
            status,
            ..Default::default()
        })
    }

    async fn read_stdout(
        &self,
        _: &TtrpcContext,
        request: api::ReadStreamRequest,
    ) -> ttrpc::Result<api::ReadStreamResponse> {
        Ok(self.read(request, Stream::Output).await?)
    }

    async fn read_stderr(
        &self,
        _: &TtrpcContext,
        request: api::ReadStreamRequest,
    ) -> ttrpc::Result<api::ReadStreamResponse> {
        Ok(self.read(request, Stream::Error).await?)
    }

    async fn write_stdin(
        &self,
        _: &TtrpcContext,
        request: api::WriteStreamRequest,
    ) -> ttrpc::Result<api::WriteStreamResponse> {
        Ok(self.write(request).await?)
    }

    async fn close_stdin(&self, _: &TtrpcContext, request: api::CloseStdinRequest) -> ttrpc::Result<Empty> {
        let exec = exec_of(&request.container_id, &request.exec_id)?;
        let found = self.find(&request.container_id)?;
        found
            .workload()?
            .process(exec.as_ref())?
            .stdio
            .close_input()
            .await;
        Ok(Empty::new())
    }

    async fn tty_win_resize(
        &self,
        _: &TtrpcContext,
        request: api::TtyWinResizeRequest,
    ) -> ttrpc::Result<Empty> {
        let exec = exec_of(&request.container_id, &request.exec_id)?;
        let cells = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
        let found = self.find(&request.container_id)?;
        let process = found.workload()?.process(exec.as_ref())?;
        process.stdio.resize(cells(request.row), cells(request.column))?;
        Ok(Empty::new())
    }

    async fn stats_container(
        &self,
        _: &TtrpcContext,
        request: api::StatsContainerRequest,
    ) -> ttrpc::Result<api::StatsContainerResponse> {
        Ok(self.figures(&request.container_id)?)
    }

    async fn update_container(
        &self,
        _: &TtrpcContext,
        request: api::UpdateContainerRequest,
    ) -> ttrpc::Result<Empty> {
        let missing = || GuestError::Invalid {
            field: "resources",
            problem: "they are missing".to_owned(),
        };
        let wire = request.resources.as_ref().ok_or_else(missing)?;
        let resources = resources_from_wire(wire).map_err(GuestError::from)?;
        let found = self.find(&request.container_id)?;
        found.workload()?.cgroup().update(&resources)?;
        Ok(Empty::new())
    }

    async fn pause_container(
        &self,
        _: &TtrpcContext,
        request: api::PauseContainerRequest,
    ) -> ttrpc::Result<Empty> {
        self.find(&request.container_id)?
            .workload()?
            .cgroup()
            .freeze(true)?;
        Ok(Empty::new())
    }

    async fn resume_container(
        &self,
        _: &TtrpcContext,
        request: api::ResumeContainerRequest,
    ) -> ttrpc::Result<Empty> {
        self.find(&request.container_id)?
            .workload()?
            .cgroup()
            .freeze(false)?;
        Ok(Empty::new())
    }

    async fn copy_file(&self, _: &TtrpcContext, request: api::CopyFileRequest) -> ttrpc::Result<Empty> {
        super::copy::copy(&request)?;
        Ok(Empty::new())
    }

    async fn get_guest_details(
        &self,
        _: &TtrpcContext,
        _: api::GuestDetailsRequest,
    ) -> ttrpc::Result<api::GuestDetailsResponse> {
        let details = api::AgentDetails {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            init_daemon: true,
            storage_handlers: ["image_guest_pull", "ephemeral", "local"]
                .map(str::to_owned)
                .to_vec(),
            supports_seccomp: true,
            ..Default::default()
        };
        Ok(api::GuestDetailsResponse {
            agent_details: MessageField::some(details),
            ..Default::default()
        })
    }

    async fn get_oom_event(
        &self,
        _: &TtrpcContext,
        _: api::GetOOMEventRequest,
    ) -> ttrpc::Result<api::OOMEvent> {
        let container = self.sandbox.out_of_memory.next().await;
        Ok(api::OOMEvent {
            container_id: container.to_string(),
            ..Default::default()
        })
    }

    async fn get_diagnostic_data(
        &self,
        _: &TtrpcContext,
        request: api::GetDiagnosticDataRequest,
    ) -> ttrpc::Result<api::GetDiagnosticDataResponse> {
        let data = self.termination_message(&request)?;
        Ok(api::GetDiagnosticDataResponse {
            data,
            ..Default::default()
        })
    }

    async fn remove_stale_virtiofs_share_mounts(
        &self,
        _: &TtrpcContext,
        _: api::RemoveStaleVirtiofsShareMountsRequest,
    ) -> ttrpc::Result<Empty> {
        Ok(Empty::new())
    }

    async fn list_interfaces(
        &self,
        _: &TtrpcContext,
        _: api::ListInterfacesRequest,
    ) -> ttrpc::Result<api::Interfaces> {
        Ok(pod_network::interfaces().await?)
    }

    async fn list_routes(&self, _: &TtrpcContext, _: api::ListRoutesRequest) -> ttrpc::Result<api::Routes> {
        Ok(pod_network::routes().await?)
    }

    async fn get_metrics(&self, _: &TtrpcContext, _: api::GetMetricsRequest) -> ttrpc::Result<api::Metrics> {
        Ok(api::Metrics {
            metrics: statistics::machine()?,
            ..Default::default()
        })
    }

    async fn get_volume_stats(
        &self,
        _: &TtrpcContext,
        request: api::VolumeStatsRequest,
    ) -> ttrpc::Result<api::VolumeStatsResponse> {
        Ok(statistics::volume(&request.volume_guest_path)?)
    }
}
