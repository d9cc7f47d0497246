//! A pod of the Rust shim with one container, call by call.

use std::time::Duration;

use peerpods_proto::agent as api;
use tokio::{io::AsyncReadExt, net::UnixStream};
use ttrpc::Code;

use crate::{
    agent::{Agent, KILL, Process, code, for_ever, soon},
    container::{exec, pause, workload},
    files::{Sender, guest_path},
    hypervisor::Hypervisor,
    node::wait_nothing_left,
    pod::Pod,
};

/// Its shim reads its setting of milliseconds as seconds.
const START_DEADLINE: Duration = Duration::from_secs(10_000);
const STOP_DEADLINE: Duration = Duration::from_secs(1);
const STOPS: usize = 3;
/// What the VM's end takes to reach a connection; a busy machine needs longer than the usual second.
const END_LIMIT: Duration = Duration::from_secs(30);

const SCRIPT: &str = "cat /etc/hosts /etc/config/color; cat; echo goodbye > /dev/termination-log; exit 5";
const INITIAL: &str = "..2026_11_25_01_02_03.1";
const UPDATED: &str = "..2026_11_25_01_02_04.2";

on_node! {
    async fn a_pod_from_its_first_call_to_its_last() {
        let pod = Pod::new("rust-shim");
        // One connection to the adaptor, kept for the shim's life.
        let hypervisor = Hypervisor::connect().await;
        let socket = pod.create_vm(&hypervisor).await.unwrap();
        hypervisor.start_vm(&pod.id, START_DEADLINE).await.unwrap();
        let agent = Agent::connect(&socket).await;
        let mut logs = UnixStream::connect(&socket).await.unwrap();
        let silent = tokio::spawn(async move {
            let mut bytes = Vec::new();
            logs.read_to_end(&mut bytes).await.map(|_| bytes)
        });
        let out_of_memory = start_sandbox(&pod, &agent).await;

        let container = "b".repeat(64);
        create_container(&pod, &agent, &container).await;
        let init = Process { container: &container, exec: "" };
        agent.start_container(&container).await.unwrap();
        run_exec(&agent, &container).await;
        update_config(&agent, &container).await;
        agent.write(init, "typed\n").await.unwrap();
        // The end of its input.
        assert_eq!(agent.write(init, "").await.unwrap(), 0);
        let (output, complaint) = tokio::join!(agent.stdout(init), agent.stderr(init));
        assert_eq!((output.as_str(), complaint.as_str()), ("127.0.0.1 localhost\nredtyped\n", ""));
        assert_eq!(agent.wait(init).await.unwrap(), 5);
        stop_container(&agent, &container, "goodbye\n").await;

        assert!(!silent.is_finished(), "the silent connection is left alone");
        stop_container(&agent, &pod.id, "").await;
        stop_vm(&hypervisor, &pod.id).await;
        let heard = tokio::time::timeout(END_LIMIT, silent).await.expect("its connection ends with the VM");
        assert!(heard.unwrap().is_ok_and(|bytes| bytes.is_empty()));
        assert!(out_of_memory.await.unwrap().is_err());
        wait_nothing_left(&pod.id);
    }
}

/// Without `Check`; the request for OOM kills stays open from here on.
async fn start_sandbox(pod: &Pod, agent: &Agent) -> tokio::task::JoinHandle<ttrpc::Result<api::OOMEvent>> {
    agent.create_sandbox(&pod.id, &pod.name).await.unwrap();
    let request = api::GuestDetailsRequest::new();
    agent.service.get_guest_details(soon(), &request).await.unwrap();
    let waiting = agent.clone();
    let out_of_memory = tokio::spawn(async move {
        waiting
            .service
            .get_oom_event(for_ever(), &api::GetOOMEventRequest::new())
            .await
    });
    let hostname = guest_path(&pod.id, "hostname");
    Sender::Rust.file(agent, &hostname, b"rust-shim\n").await;
    agent.create_container(&pause(pod, "")).await.unwrap();
    agent.start_container(&pod.id).await.unwrap();
    out_of_memory
}

async fn create_container(pod: &Pod, agent: &Agent, container: &str) {
    let path = |name: &str| guest_path(container, name);
    Sender::Rust
        .file(agent, &path("hosts"), b"127.0.0.1 localhost\n")
        .await;
    Sender::Rust.file(agent, &path("termination-log"), b"").await;
    Sender::Rust
        .volume(agent, &path("config"), INITIAL, "color", "red")
        .await;
    let sources = ["hosts", "termination-log", "config"].map(path);
    let destinations = ["/etc/hosts", "/dev/termination-log", "/etc/config"];
    let files: Vec<_> = destinations
        .into_iter()
        .zip(sources.iter().map(String::as_str))
        .collect();
    agent
        .create_container(&workload(pod, container, "", SCRIPT, &files))
        .await
        .unwrap();
}

/// Its id is containerd's; a process that has ended may be killed, or not be known any more.
async fn run_exec(agent: &Agent, container: &str) {
    let id = "e".repeat(64);
    let process = Process { container, exec: &id };
    let request = api::ExecProcessRequest {
        container_id: container.to_owned(),
        exec_id: id.clone(),
        process: protobuf::MessageField::some(exec("cat; echo done >&2; exit 4", false)),
        ..Default::default()
    };
    agent.service.exec_process(soon(), &request).await.unwrap();
    agent.write(process, "through\n").await.unwrap();
    agent.write(process, "").await.unwrap();
    let (output, complaint) = tokio::join!(agent.stdout(process), agent.stderr(process));
    assert_eq!((output.as_str(), complaint.as_str()), ("through\n", "done\n"));
    assert_eq!(agent.wait(process).await.unwrap(), 4);
    let killed = agent.signal(process, KILL).await;
    assert!(killed.is_ok() || code(killed) == Code::NOT_FOUND);
}

/// A new version of the ConfigMap: the whole folder is copied again, and a running container sees it.
async fn update_config(agent: &Agent, container: &str) {
    Sender::Rust
        .volume(agent, &guest_path(container, "config"), UPDATED, "color", "blue")
        .await;
    let request = api::ExecProcessRequest {
        container_id: container.to_owned(),
        exec_id: "reader".to_owned(),
        process: protobuf::MessageField::some(exec("cat /etc/config/color; ls /etc/config/..2*", false)),
        ..Default::default()
    };
    agent.service.exec_process(soon(), &request).await.unwrap();
    let output = agent
        .stdout(Process {
            container,
            exec: "reader",
        })
        .await;
    assert_eq!(output, "bluecolor\n");
}

/// The message is fetched before the kill, and the process goes by its own name: none.
async fn stop_container(agent: &Agent, container: &str, message: &str) {
    assert_eq!(agent.termination_message(container).await.unwrap(), message);
    agent.signal(Process { container, exec: "" }, KILL).await.unwrap();
    agent.remove_container(container).await.unwrap();
}

/// No `DestroySandbox` before it, and hardly any time for each: what becomes of the calls is only logged.
async fn stop_vm(hypervisor: &Hypervisor, sandbox: &str) {
    for _ in 0..STOPS {
        let stopped = hypervisor.stop_vm(sandbox, Some(STOP_DEADLINE)).await;
        if let Err(error) = stopped {
            let is_late = match &error {
                ttrpc::Error::RpcStatus(status) => status.code() == Code::DEADLINE_EXCEEDED,
                ttrpc::Error::Others(text) => text.contains("timeout") || text.contains("deadline"),
                _ => false,
            };
            assert!(is_late, "{error:?}");
        }
    }
}
