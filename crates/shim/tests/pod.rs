//! The life of a pod: the real program between containerd's calls and an agent and adaptor that note what
//! they are asked.
#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, path::Path, time::Duration};

use containerd_shim_protos::api::{DeleteRequest, DeleteResponse, ShutdownRequest, StateRequest, Status};
use protobuf::Message;
use support::{
    Node, PATIENCE,
    pod::{Pod, container_spec, sandbox_spec},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    time::timeout,
};
use ttrpc::{Code, context::with_duration};

async fn read_all(mut reader: pipe::Receiver) -> String {
    let mut text = String::new();
    timeout(PATIENCE, reader.read_to_string(&mut text))
        .await
        .unwrap()
        .unwrap();
    text
}

#[tokio::test]
async fn a_pod_runs_from_its_creation_to_its_last_trace() {
    let pod = Pod::running().await;
    let reader = pod.container().await;
    pod.node.agent.say("app", "", "hello\n");
    pod.node.agent.exit("app", "", 7);
    assert_eq!(read_all(reader).await, "hello\n");
    assert_eq!(pod.wait("app", "").await, 7);
    pod.node.journal.until("event /tasks/exit app 7").await;
    assert_eq!(
        fs::read_to_string(
            pod.node
                .path("pods/0ab5f1c2-77aa-4c1e-9d55-0123456789ab/containers/app/1a2b")
        )
        .unwrap(),
        "it is finished"
    );
    assert_eq!(pod.delete("app", "").await, 7);
    pod.kill("sandbox").await;
    assert_eq!(pod.wait("sandbox", "").await, 137);
    assert_eq!(pod.delete("sandbox", "").await, 137);
    pod.task
        .shutdown(with_duration(PATIENCE), &ShutdownRequest::new())
        .await
        .unwrap();

    let machine = [
        "CreateVM",
        "StartVM",
        "StopVM",
        "CreateSandbox",
        "DestroySandbox",
        "CopyFile",
    ];
    let containers = [
        "CreateContainer",
        "StartContainer",
        "RemoveContainer",
        "SignalProcess",
    ];
    assert_eq!(
        pod.node.journal.only(&[&machine[..], &containers[..]].concat()),
        [
            "CreateVM sandbox web /run/netns/cni-1",
            "StartVM sandbox",
            "CreateSandbox sandbox web [nameserver 10.96.0.10]",
            "CopyFile resolv.conf \"nameserver 10.96.0.10\\n\"",
            "CreateContainer sandbox pause",
            "StartContainer sandbox",
            "CopyFile log \"\"",
            "CreateContainer app registry/app:1",
            "StartContainer app",
            "RemoveContainer app",
            "SignalProcess sandbox 9",
            "RemoveContainer sandbox",
            "DestroySandbox",
            "StopVM sandbox",
        ]
    );
    pod.node.journal.until("event /tasks/delete").await;
    let exits = pod
        .node
        .journal
        .only(&["event /tasks/start", "event /tasks/exit"]);
    assert_eq!(
        exits,
        [
            "event /tasks/start",
            "event /tasks/start",
            "event /tasks/exit app 7",
            "event /tasks/exit sandbox 137"
        ]
    );
    let timeline = fs::read_to_string(pod.node.path("pods/sandbox/timeline")).unwrap();
    let stages: Vec<_> = timeline
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(_, stage)| stage)
        .collect();
    assert_eq!(stages[..3], ["shim-start", "connected", "sandbox-created"]);
    assert!(stages.contains(&"container-started app"));
}

#[tokio::test]
async fn an_exec_gets_all_its_input_and_ends_when_that_is_closed() {
    let pod = Pod::running().await;
    let _output = pod.container().await;
    let (stdin, reader) = pod.exec("one").await;
    pod.start("app", "one").await;
    let mut writer = pipe::OpenOptions::new().open_sender(&stdin).unwrap();
    let text = "a line that is not short\n".repeat(10_000);
    let read = tokio::spawn(read_all(reader));
    writer.write_all(text.as_bytes()).await.unwrap();
    drop(writer);
    pod.close_input("one").await;
    assert_eq!(pod.wait("app", "one").await, 0);
    assert_eq!(read.await.unwrap().len(), text.len());
    assert_eq!(pod.delete("app", "one").await, 0);
    pod.node.journal.until("event /tasks/exit one 0").await;
}

/// More than any call takes that waits for nothing, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Fails where a call waits.
async fn at_once<T>(what: &str, call: impl Future<Output = T>) -> T {
    let answered = timeout(AT_ONCE, call).await;
    answered.unwrap_or_else(|_| panic!("{what} waits for a stream"))
}

#[tokio::test]
async fn no_call_waits_for_anothers_stream() {
    let pod = Pod::running().await;
    // A reader of logs that does not read: the pipe and what is on its way are full.
    let log = pod.container().await;
    for _ in 0..8 {
        pod.node
            .agent
            .say("app", "", &"a line that nobody reads\n".repeat(10_000));
    }
    // An exec that never reads the 100 KiB piped to it.
    *pod.node.agent.deaf.lock().unwrap() = Some("deaf".into());
    let (stdin, _output) = pod.exec("deaf").await;
    at_once("start", pod.start("app", "deaf")).await;
    let mut writer = pipe::OpenOptions::new().open_sender(&stdin).unwrap();
    let piping = tokio::spawn(async move { writer.write_all(&[b'x'; 100 << 10]).await });
    // An exec whose input is closed before it starts.
    let (_stdin, _output) = pod.exec("closed").await;
    at_once("close", pod.close_input("closed")).await;
    at_once("start", pod.start("app", "closed")).await;
    assert_eq!(at_once("wait", pod.wait("app", "closed")).await, 0);
    assert_eq!(at_once("delete", pod.delete("app", "closed")).await, 0);

    let state = StateRequest {
        id: "app".into(),
        ..Default::default()
    };
    at_once("state", pod.task.state(with_duration(PATIENCE), &state))
        .await
        .unwrap();
    at_once("close", pod.close_input("deaf")).await;
    at_once("kill", pod.kill_process("app", "deaf")).await;
    assert_eq!(at_once("wait", pod.wait("app", "deaf")).await, 137);
    at_once("delete", pod.delete("app", "deaf")).await;
    at_once("kill", pod.kill("app")).await;
    at_once("state", pod.task.state(with_duration(PATIENCE), &state))
        .await
        .unwrap();
    piping.abort();
    drop(log);
}

#[tokio::test]
async fn a_container_that_cannot_be_created_names_the_cause() {
    let pod = Pod::running().await;
    *pod.node.agent.refusal.lock().unwrap() = Some("registry/app:1: manifest unknown".into());
    let file = pod.node.path("file");
    fs::write(&file, "").unwrap();
    let bundle = pod.node.bundle("app", &container_spec(&file));
    let error = pod
        .create(pod.node.create_request("app", &bundle))
        .await
        .unwrap_err();
    let ttrpc::Error::RpcStatus(status) = error else {
        panic!("{error}")
    };
    let text = "the virtual machine's agent could not create container app: registry/app:1: manifest unknown";
    assert_eq!(status.message(), text);
    assert!(pod.node.journal.only(&["StopVM"]).is_empty());
}

/// The kubelet waits two minutes for a container, of which an image may take more.
#[tokio::test]
async fn a_creation_that_the_runtime_gave_up_leaves_no_container_and_no_shim() {
    let pod = Pod::running().await;
    pod.node.agent.slow.send_replace(true);
    let file = pod.node.path("file");
    fs::write(&file, "").unwrap();
    let bundle = pod.node.bundle("app", &container_spec(&file));
    let task = pod.task.clone();
    let request = pod.node.create_request("app", &bundle);
    let creating = tokio::spawn(async move { task.create(with_duration(PATIENCE), &request).await });
    pod.node.journal.until("CreateContainer app registry/app:1").await;

    let request = DeleteRequest {
        id: "app".into(),
        ..Default::default()
    };
    let deleted = pod.task.delete(with_duration(PATIENCE), &request).await;
    assert!(matches!(deleted, Err(ttrpc::Error::RpcStatus(status)) if status.code() == Code::NOT_FOUND));
    pod.node.agent.slow.send_replace(false);
    assert!(creating.await.unwrap().is_err());
    pod.node.journal.until("RemoveContainer app").await;

    pod.kill("sandbox").await;
    assert_eq!(pod.delete("sandbox", "").await, 137);
    pod.task
        .shutdown(with_duration(PATIENCE), &ShutdownRequest::new())
        .await
        .unwrap();
    pod.until_ended().await;
}

#[tokio::test]
async fn a_sandbox_that_fails_leaves_no_machine() {
    let node = Node::new().await;
    *node.agent.refusal.lock().unwrap() = Some("no space".into());
    let resolv_conf = node.path("resolv.conf");
    fs::write(&resolv_conf, "").unwrap();
    let bundle = node.bundle("sandbox", &sandbox_spec(&resolv_conf));
    let task = node.start_shim("sandbox", &bundle).await;
    let pod = Pod { node, task };
    assert!(
        pod.create(pod.node.create_request("sandbox", &bundle))
            .await
            .is_err()
    );
    pod.node.journal.until("StopVM sandbox").await;
}

#[tokio::test]
async fn a_lost_machine_takes_its_containers_along() {
    let mut pod = Pod::running().await;
    let _output = pod.container().await;
    pod.node.lose_machine().await;
    assert_eq!(pod.wait("app", "").await, 137);
    assert_eq!(pod.wait("sandbox", "").await, 137);
    pod.node.journal.until("StopVM sandbox").await;
    let request = StateRequest {
        id: "app".into(),
        ..Default::default()
    };
    let state = pod.task.state(with_duration(PATIENCE), &request).await.unwrap();
    assert_eq!(state.status, Status::STOPPED.into());
    assert_eq!(pod.delete("app", "").await, 137);
    assert_eq!(pod.delete("sandbox", "").await, 137);
    assert_eq!(pod.node.journal.only(&["StopVM"]).len(), 2);
}

#[tokio::test]
async fn the_cleanup_of_a_dead_shim_stops_the_machine() {
    let node = Node::new().await;
    let bundle = node.bundle("sandbox", &sandbox_spec(Path::new("/dev/null")));
    let output = node.shim("sandbox", &bundle, "delete").await;
    let response = DeleteResponse::parse_from_bytes(&output.stdout).unwrap();
    assert_eq!(response.exit_status, 137);
    assert_eq!(node.journal.entries(), ["StopVM sandbox"]);
}

#[tokio::test]
async fn older_runtimes_call_the_same_service_by_its_older_name() {
    let pod = Pod::running().await;
    let address = fs::read_to_string(pod.node.path("bundles/sandbox/address")).unwrap();
    let client = ttrpc::asynchronous::Client::connect(&address).await.unwrap();
    let state = StateRequest {
        id: "sandbox".into(),
        ..Default::default()
    };
    let request = ttrpc::proto::Request {
        service: "containerd.task.v2.Task".into(),
        method: "State".into(),
        payload: state.write_to_bytes().unwrap(),
        ..Default::default()
    };
    let response = client.request(request).await.unwrap();
    let state = containerd_shim_protos::api::StateResponse::parse_from_bytes(&response.payload).unwrap();
    assert_eq!(state.status, Status::RUNNING.into());
}
