//! A pod of the Go shim with one container, call by call.

use peerpods_proto::agent as api;
use ttrpc::Code;

use crate::{
    agent::{Agent, KILL, Process, code, for_ever, soon},
    container::{add_empty_dir, exec, pause, workload},
    files::{Sender, guest_path},
    hypervisor::Hypervisor,
    node::{shell, wait_nothing_left},
    pod::{GO_START_DEADLINE, Pod},
};

/// Its files are there, its streams and its end are seen.
const SCRIPT: &str = "cat /etc/hosts /var/run/secrets/token; tail -n 1 /run/resolver; wc -c < /etc/resolv.conf; hostname; echo complaint >&2; \
                      echo kept > /scratch/file; read word; echo heard $word; cat; \
                      echo goodbye > /dev/termination-log; exit 7";
/// Larger than one of the shim's pieces.
const LARGE: usize = (1 << 20) + 17;
const EXEC: &str = "8e2ffe8d-1f0a-4b0c-9a9e-0d6f4a7c1e55";

on_node! {
    async fn a_pod_from_its_first_call_to_its_last() {
        let pod = Pod::new("go-shim");
        let agent = start_sandbox(&pod).await;
        let out_of_memory = tokio::spawn({
            let agent = agent.clone();
            async move { agent.service.get_oom_event(for_ever(), &api::GetOOMEventRequest::new()).await }
        });
        let pause_ended = start_pause(&pod, &agent).await;
        shell(&format!("busybox ping -c 1 -W 5 {}", pod.network.address));

        let container = "a".repeat(64);
        create_container(&pod, &agent, &container).await;
        let process = Process { container: &container, exec: &container };
        let streams = tokio::spawn({
            let (agent, container) = (agent.clone(), container.clone());
            async move {
                let process = Process { container: &container, exec: &container };
                (tokio::join!(agent.stdout(process), agent.stderr(process)), agent.wait(process).await)
            }
        });
        agent.start_container(&container).await.unwrap();
        agent.check().await.unwrap();
        run_exec(&agent, &container).await;
        agent.write(process, "hello\nmore\n").await.unwrap();
        close_stdin(&agent, process).await;

        let ((output, complaint), status) = streams.await.unwrap();
        assert_eq!(
            output,
            format!("127.0.0.1 localhost\nsecretnameserver 10.96.0.10\n{LARGE}\ngo-shim\nheard hello\nmore\n")
        );
        assert_eq!((complaint.as_str(), status.unwrap()), ("complaint\n", 7));

        stop_container(&agent, &container, "goodbye\n").await;
        assert!(!out_of_memory.is_finished());
        stop_container(&agent, &pod.id, "").await;
        assert_eq!(pause_ended.await.unwrap().unwrap(), 128 + 9);
        agent.service.destroy_sandbox(soon(), &api::DestroySandboxRequest::new()).await.unwrap();
        Hypervisor::connect().await.stop_vm(&pod.id, None).await.unwrap();
        // The loop of the Go shim ends with this text and no other.
        let ended = out_of_memory.await.unwrap().unwrap_err();
        assert!(matches!(ended, ttrpc::Error::RemoteClosed | ttrpc::Error::Socket(_)), "{ended:?}");
        wait_nothing_left(&pod.id);
    }
}

/// A new connection to the adaptor for every call; then the agent's, which is the only one.
async fn start_sandbox(pod: &Pod) -> Agent {
    let socket = pod.create_vm(&Hypervisor::connect().await).await.unwrap();
    let hypervisor = Hypervisor::connect().await;
    hypervisor.start_vm(&pod.id, GO_START_DEADLINE).await.unwrap();
    let agent = Agent::connect(&socket).await;
    let health = agent.check().await.unwrap();
    assert_eq!(
        health.status,
        api::health_check_response::ServingStatus::SERVING.into()
    );
    agent.create_sandbox(&pod.id, &pod.name).await.unwrap();
    let request = api::GuestDetailsRequest {
        mem_block_size: true,
        mem_hotplug_probe: true,
        ..Default::default()
    };
    let details = agent.service.get_guest_details(soon(), &request).await.unwrap();
    assert!(!details.agent_details.version.is_empty(), "{details:?}");
    agent
}

/// The pod's own container; without streams its end is waited for at once.
async fn start_pause(pod: &Pod, agent: &Agent) -> tokio::task::JoinHandle<ttrpc::Result<i32>> {
    let hostname = guest_path(&pod.id, "hostname");
    Sender::Go.file(agent, &hostname, b"go-shim\n").await;
    agent.create_container(&pause(pod, &pod.id)).await.unwrap();
    agent.start_container(&pod.id).await.unwrap();
    let (agent, id) = (agent.clone(), pod.id.clone());
    tokio::spawn(async move {
        agent
            .wait(Process {
                container: &id,
                exec: &id,
            })
            .await
    })
}

async fn create_container(pod: &Pod, agent: &Agent, container: &str) {
    let path = |name: &str| guest_path(container, name);
    Sender::Go
        .file(agent, &path("hosts"), b"127.0.0.1 localhost\n")
        .await;
    Sender::Go
        .file(agent, &path("resolv.conf"), &vec![b'#'; LARGE])
        .await;
    Sender::Go.file(agent, &path("termination-log"), b"").await;
    let (token, version) = (path("secrets"), "..2026_11_25_01_02_03.1");
    Sender::Go.volume(agent, &token, version, "token", "secret").await;
    let files = [
        ("/etc/hosts", path("hosts")),
        ("/etc/resolv.conf", path("resolv.conf")),
        ("/dev/termination-log", path("termination-log")),
        ("/var/run/secrets", token),
        // Where the agent keeps the lines that it got with the sandbox.
        (
            "/run/resolver",
            "/run/kata-containers/sandbox/resolv.conf".to_owned(),
        ),
    ];
    let files = files
        .each_ref()
        .map(|(destination, source)| (*destination, source.as_str()));
    let mut request = workload(pod, container, container, SCRIPT, &files);
    add_empty_dir(pod, &mut request, "/scratch");
    agent.create_container(&request).await.unwrap();
}

/// A process with a terminal, whose id is of the shim's own making.
async fn run_exec(agent: &Agent, container: &str) {
    let process = Process {
        container,
        exec: EXEC,
    };
    let request = api::ExecProcessRequest {
        container_id: container.to_owned(),
        exec_id: EXEC.to_owned(),
        process: protobuf::MessageField::some(exec("read go; stty size; exit 3", true)),
        ..Default::default()
    };
    agent.service.exec_process(soon(), &request).await.unwrap();
    let size = api::TtyWinResizeRequest {
        container_id: container.to_owned(),
        exec_id: EXEC.to_owned(),
        row: 33,
        column: 77,
        ..Default::default()
    };
    agent.service.tty_win_resize(soon(), &size).await.unwrap();
    agent.write(process, "go\n").await.unwrap();
    let output = agent.stdout(process).await;
    assert!(output.ends_with("33 77\r\n"), "{output:?}");
    assert_eq!(agent.wait(process).await.unwrap(), 3);
}

async fn close_stdin(agent: &Agent, process: Process<'_>) {
    let request = api::CloseStdinRequest {
        container_id: process.container.to_owned(),
        exec_id: process.exec.to_owned(),
        ..Default::default()
    };
    agent.service.close_stdin(soon(), &request).await.unwrap();
}

/// The calls after a container's end, all of which have to succeed; the second wait may fail, and must not block.
async fn stop_container(agent: &Agent, container: &str, message: &str) {
    let all = Process { container, exec: "" };
    agent.signal(all, KILL).await.unwrap();
    let again = tokio::time::timeout(std::time::Duration::from_secs(5), agent.wait(all)).await;
    again.expect("a second wait is answered at once").unwrap();
    assert_eq!(agent.termination_message(container).await.unwrap(), message);
    agent.remove_container(container).await.unwrap();
    let request = api::RemoveStaleVirtiofsShareMountsRequest::new();
    agent
        .service
        .remove_stale_virtiofs_share_mounts(soon(), &request)
        .await
        .unwrap();
    assert_eq!(
        code(agent.remove_container(container).await),
        Code::INVALID_ARGUMENT
    );
}
