//! The task API: unpacks requests, packs answers, and leaves the rest to the shim.

use std::{collections::HashMap, process, sync::Arc};

use async_trait::async_trait;
use containerd_shim_protos::{
    api::{
        CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse,
        DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest, PauseRequest, PidsRequest,
        PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest, ShutdownRequest, StartRequest,
        StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse, Status, UpdateTaskRequest,
        WaitRequest, WaitResponse,
    },
    shim_async::{Task, create_task},
};
use ttrpc::{
    Result,
    asynchronous::{Service, TtrpcContext},
};

use crate::{
    error::Error,
    events::timestamp,
    process::State,
    shim::Shim,
    stats::{self, CgroupVersion},
    streams::StandardStreams,
};

/// The same messages have two names: one for containerd 2, one for its predecessors and CRI-O.
const NAMES: [&str; 2] = ["containerd.task.v3.Task", "containerd.task.v2.Task"];

/// The methods under all names by which runtimes call them.
pub(crate) fn services(shim: &Arc<Shim>) -> HashMap<String, Service> {
    let cgroup_version = CgroupVersion::of_this_node();
    NAMES
        .iter()
        .flat_map(|name| {
            let service = Arc::new(TaskService {
                shim: shim.clone(),
                cgroup_version,
            });
            create_task(service)
                .into_values()
                .map(|methods| ((*name).to_owned(), methods))
        })
        .collect()
}

struct TaskService {
    shim: Arc<Shim>,
    cgroup_version: CgroupVersion,
}

impl TaskService {
    /// Runs a change to its end, even if the runtime gives up on the request meanwhile: half a creation
    /// would leave what nobody knows of.
    async fn complete<T, R>(&self, change: impl FnOnce(Arc<Shim>) -> R) -> Result<T>
    where
        T: Send + 'static,
        R: Future<Output = std::result::Result<T, Error>> + Send + 'static,
    {
        match tokio::spawn(change(self.shim.clone())).await {
            Ok(result) => Ok(result?),
            Err(error) => Err(Error::Invalid {
                field: "request",
                problem: error.to_string(),
            }
            .into()),
        }
    }
}

#[async_trait]
impl Task for TaskService {
    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> Result<StateResponse> {
        let container = self.shim.container(&request.id)?;
        let process = container.process(&request.exec_id)?;
        let mut response = StateResponse {
            id: request.id,
            exec_id: request.exec_id,
            bundle: container.bundle.display().to_string(),
            pid: container.number.get(),
            stdin: process.streams.stdin.clone(),
            stdout: process.streams.stdout.clone(),
            stderr: process.streams.stderr.clone(),
            terminal: process.streams.terminal,
            ..Default::default()
        };
        let status = match process.state() {
            State::Created | State::Starting => Status::CREATED,
            State::Running => Status::RUNNING,
            State::Paused => Status::PAUSED,
            State::Exited(exit) => {
                response.exit_status = exit.status;
                response.exited_at = Some(timestamp(exit.at)).into();
                Status::STOPPED
            }
        };
        response.status = status.into();
        Ok(response)
    }

    async fn create(&self, _: &TtrpcContext, request: CreateTaskRequest) -> Result<CreateTaskResponse> {
        let id = request.id.clone();
        self.complete(|shim| async move { shim.create(request).await })
            .await?;
        Ok(CreateTaskResponse {
            pid: self.shim.container(&id)?.number.get(),
            ..Default::default()
        })
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> Result<StartResponse> {
        let pid = self.shim.container(&request.id)?.number.get();
        self.complete(|shim| async move { shim.start(&request.id, &request.exec_id).await })
            .await?;
        Ok(StartResponse {
            pid,
            ..Default::default()
        })
    }

    async fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> Result<DeleteResponse> {
        let deleted = self
            .complete(|shim| async move { shim.delete(&request.id, &request.exec_id).await })
            .await?;
        Ok(DeleteResponse {
            pid: deleted.pid,
            exit_status: deleted.exit.status,
            exited_at: Some(timestamp(deleted.exit.at)).into(),
            ..Default::default()
        })
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> Result<PidsResponse> {
        let process = ProcessInfo {
            pid: self.shim.container(&request.id)?.number.get(),
            ..Default::default()
        };
        Ok(PidsResponse {
            processes: vec![process],
            ..Default::default()
        })
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> Result<Empty> {
        self.shim.pause(&request.id).await?;
        Ok(Empty::new())
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> Result<Empty> {
        self.shim.resume(&request.id).await?;
        Ok(Empty::new())
    }

    async fn checkpoint(
        &self,
        _: &TtrpcContext,
        _: containerd_shim_protos::api::CheckpointTaskRequest,
    ) -> Result<Empty> {
        Err(Error::Unsupported("a checkpoint of a container in a virtual machine").into())
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> Result<Empty> {
        self.complete(|shim| async move { shim.kill(&request.id, &request.exec_id, request.signal).await })
            .await?;
        Ok(Empty::new())
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> Result<Empty> {
        let streams = StandardStreams {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        self.shim
            .exec(&request.id, &request.exec_id, &request.spec.value, streams)?;
        Ok(Empty::new())
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> Result<Empty> {
        self.shim
            .resize(&request.id, &request.exec_id, request.width, request.height)
            .await?;
        Ok(Empty::new())
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> Result<Empty> {
        let process = self.shim.process(&request.id, &request.exec_id)?;
        if request.stdin {
            process.close_input();
        }
        Ok(Empty::new())
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> Result<Empty> {
        self.shim.update(&request.id, &request.resources.value).await?;
        Ok(Empty::new())
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> Result<WaitResponse> {
        let exit = self.shim.process(&request.id, &request.exec_id)?.wait().await;
        Ok(WaitResponse {
            exit_status: exit.status,
            exited_at: Some(timestamp(exit.at)).into(),
            ..Default::default()
        })
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> Result<StatsResponse> {
        let response = self.shim.stats(&request.id).await?;
        let metrics = stats::metrics(&response, self.cgroup_version)?;
        Ok(StatsResponse {
            stats: Some(metrics).into(),
            ..Default::default()
        })
    }

    async fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> Result<ConnectResponse> {
        let container = self.shim.container(&request.id).ok();
        Ok(ConnectResponse {
            shim_pid: process::id(),
            task_pid: container.map_or_else(process::id, |container| container.number.get()),
            ..Default::default()
        })
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> Result<Empty> {
        self.complete(|shim| async move {
            shim.shutdown().await;
            Ok(())
        })
        .await?;
        Ok(Empty::new())
    }
}
