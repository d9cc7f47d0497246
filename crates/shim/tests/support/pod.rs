//! A pod whose shim is the real program.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use containerd_shim_protos::{
    api::{
        CloseIORequest, ConnectRequest, CreateTaskRequest, DeleteRequest, ExecProcessRequest, KillRequest,
        StartRequest, WaitRequest,
    },
    shim_async::TaskClient,
};
use protobuf::well_known_types::any::Any;
use serde_json::json;
use tokio::net::unix::pipe;
use ttrpc::context::with_duration;

use super::{Node, PATIENCE};

/// What containerd writes for a pod's sandbox.
pub(crate) fn sandbox_spec(resolv_conf: &Path) -> serde_json::Value {
    json!({
        "ociVersion": "1.1.0",
        "hostname": "web",
        "mounts": [{"destination": "/etc/resolv.conf", "type": "bind", "source": resolv_conf, "options": ["rbind"]}],
        "annotations": {
            "io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": "sandbox",
            "io.kubernetes.cri.sandbox-name": "web", "io.kubernetes.cri.sandbox-namespace": "shop"
        },
        "linux": {"namespaces": [{"type": "network", "path": "/run/netns/cni-1"}, {"type": "pid"}, {"type": "ipc"}]}
    })
}

/// What it writes for a container in it.
pub(crate) fn container_spec(termination: &Path) -> serde_json::Value {
    json!({
        "ociVersion": "1.1.0",
        "mounts": [{"destination": "/dev/termination-log", "type": "bind", "source": termination, "options": ["rbind"]}],
        "annotations": {
            "io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "sandbox",
            "io.kubernetes.cri.container-name": "app", "io.kubernetes.cri.image-name": "registry/app:1"
        },
        "process": {"args": ["app"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
        "linux": {"namespaces": [{"type": "mount"}]}
    })
}

/// A pod, and the client that containerd is for it.
pub(crate) struct Pod {
    pub node: Node,
    pub task: TaskClient,
}

impl Pod {
    /// A pod whose sandbox runs.
    pub(crate) async fn running() -> Self {
        Self::running_on(Node::new().await).await
    }

    /// The same on a node that is prepared.
    pub(crate) async fn running_on(node: Node) -> Self {
        let resolv_conf = node.path("resolv.conf");
        fs::write(&resolv_conf, "nameserver 10.96.0.10\n").unwrap();
        let bundle = node.bundle("sandbox", &sandbox_spec(&resolv_conf));
        let task = node.start_shim("sandbox", &bundle).await;
        let pod = Self { node, task };
        pod.create(pod.node.create_request("sandbox", &bundle))
            .await
            .unwrap();
        pod.start("sandbox", "").await;
        pod
    }

    pub(crate) async fn create(&self, request: CreateTaskRequest) -> ttrpc::Result<()> {
        self.task
            .create(with_duration(PATIENCE), &request)
            .await
            .map(drop)
    }

    pub(crate) async fn start(&self, id: &str, exec_id: &str) {
        let request = StartRequest {
            id: id.into(),
            exec_id: exec_id.into(),
            ..Default::default()
        };
        self.task.start(with_duration(PATIENCE), &request).await.unwrap();
    }

    pub(crate) async fn kill(&self, id: &str) {
        self.kill_within(id, PATIENCE).await;
    }

    pub(crate) async fn kill_within(&self, id: &str, limit: Duration) {
        let request = KillRequest {
            id: id.into(),
            signal: 9,
            all: true,
            ..Default::default()
        };
        self.task.kill(with_duration(limit), &request).await.unwrap();
    }

    pub(crate) async fn kill_process(&self, id: &str, exec_id: &str) {
        let request = KillRequest {
            id: id.into(),
            exec_id: exec_id.into(),
            signal: 9,
            ..Default::default()
        };
        self.task.kill(with_duration(PATIENCE), &request).await.unwrap();
    }

    /// Adds `cat` to the container, which is to be started; returns where its input goes and its output comes from.
    pub(crate) async fn exec(&self, exec_id: &str) -> (PathBuf, pipe::Receiver) {
        let stdin = self.node.fifo(&format!("{exec_id}-stdin"));
        let stdout = self.node.fifo(&format!("{exec_id}-stdout"));
        let reader = pipe::OpenOptions::new().open_receiver(&stdout).unwrap();
        let spec = json!({"args": ["cat"], "cwd": "/", "user": {"uid": 0, "gid": 0}}).to_string();
        let request = ExecProcessRequest {
            id: "app".into(),
            exec_id: exec_id.into(),
            stdin: stdin.display().to_string(),
            stdout: stdout.display().to_string(),
            spec: Some(Any {
                value: spec.into_bytes(),
                ..Default::default()
            })
            .into(),
            ..Default::default()
        };
        self.task.exec(with_duration(PATIENCE), &request).await.unwrap();
        (stdin, reader)
    }

    /// Tells that there is no more input for an exec.
    pub(crate) async fn close_input(&self, exec_id: &str) {
        let close = CloseIORequest {
            id: "app".into(),
            exec_id: exec_id.into(),
            stdin: true,
            ..Default::default()
        };
        self.task.close_io(with_duration(PATIENCE), &close).await.unwrap();
    }

    pub(crate) async fn wait(&self, id: &str, exec_id: &str) -> u32 {
        let request = WaitRequest {
            id: id.into(),
            exec_id: exec_id.into(),
            ..Default::default()
        };
        self.task
            .wait(with_duration(PATIENCE), &request)
            .await
            .unwrap()
            .exit_status
    }

    pub(crate) async fn delete(&self, id: &str, exec_id: &str) -> u32 {
        let request = DeleteRequest {
            id: id.into(),
            exec_id: exec_id.into(),
            ..Default::default()
        };
        self.task
            .delete(with_duration(PATIENCE), &request)
            .await
            .unwrap()
            .exit_status
    }

    /// A running container whose output can be read.
    pub(crate) async fn container(&self) -> pipe::Receiver {
        let stdout = self.node.fifo("app-stdout");
        let reader = pipe::OpenOptions::new().open_receiver(&stdout).unwrap();
        self.create_app(&stdout.display().to_string()).await;
        reader
    }

    /// A running container without output.
    pub(crate) async fn silent_container(&self) {
        self.create_app("").await;
    }

    /// Waits until the shim's process is gone: nobody answers any more.
    pub(crate) async fn until_ended(&self) {
        let question = ConnectRequest::new();
        let ended = async {
            while matches!(
                self.task.connect(with_duration(PATIENCE), &question).await,
                Ok(_) | Err(ttrpc::Error::RpcStatus(_))
            ) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let ended = tokio::time::timeout(PATIENCE, ended).await;
        ended.expect("a shim that was told to end does so");
    }

    async fn create_app(&self, stdout: &str) {
        let termination = self
            .node
            .path("pods/0ab5f1c2-77aa-4c1e-9d55-0123456789ab/containers/app");
        fs::create_dir_all(&termination).unwrap();
        fs::write(termination.join("1a2b"), "").unwrap();
        let bundle = self
            .node
            .bundle("app", &container_spec(&termination.join("1a2b")));
        let _ = self.node.start_shim("app", &bundle).await;
        let request = CreateTaskRequest {
            stdout: stdout.to_owned(),
            ..self.node.create_request("app", &bundle)
        };
        self.create(request).await.unwrap();
        self.start("app", "").await;
    }
}
