//! A guest that answers nonsense: calls end with an error that says so, the shim's memory stays bounded, and the pod can be
//! taken down.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use containerd_shim_protos::api::{StateRequest, StatsRequest, Status};
use peerpods_proto::agent::{OOMEvent, WaitProcessResponse};
use protobuf::Message;
use support::{
    Node, PATIENCE,
    pod::{Pod, sandbox_spec},
    stranger::{Answer, Script, answered, frame, header, is_waiting, only},
};
use tokio::{io::AsyncWriteExt, net::TcpListener};
use ttrpc::{
    context::with_duration,
    proto::{MESSAGE_TYPE_DATA, MESSAGE_TYPE_REQUEST, MESSAGE_TYPE_RESPONSE},
};

/// The longest that a call may wait for a guest that does not answer, and some for a busy machine.
const LIMIT: Duration = Duration::from_secs(90);
/// The most that the shim may hold, whatever its guest sends: what it has itself, and a few of the protocol's largest
/// messages.
const MEMORY_LIMIT: u64 = 48 << 20;
/// As many frames as a guest sends in a moment.
const FLOOD: u32 = 200_000;

async fn pod(script: Script) -> Pod {
    let node = Node::new().await;
    node.let_dial_stranger(script).await;
    Pod::running_on(node).await
}

impl Pod {
    async fn stats(&self) -> Result<(), String> {
        let request = StatsRequest {
            id: "app".into(),
            ..Default::default()
        };
        let answer = self.task.stats(with_duration(LIMIT), &request).await;
        answer.map(drop).map_err(|error| error.to_string())
    }

    async fn status(&self, id: &str) -> Status {
        let request = StateRequest {
            id: id.into(),
            ..Default::default()
        };
        let state = self.task.state(with_duration(PATIENCE), &request).await.unwrap();
        state.status.unwrap()
    }

    /// Its machine is given up, its containers have ended, and nothing of it stays.
    async fn assert_lost(&self) {
        assert_eq!(self.wait("app", "").await, 137);
        assert_eq!(self.wait("sandbox", "").await, 137);
        self.node.journal.until("StopVM sandbox").await;
        self.delete("app", "").await;
        self.delete("sandbox", "").await;
    }

    fn assert_bounded(&self) {
        let peak = self.node.shims_peak();
        assert!(peak < MEMORY_LIMIT, "the shim had {} MiB", peak >> 20);
    }
}

#[tokio::test]
async fn what_is_no_message_fails_the_call_alone_that_it_answers() {
    let pod = pod(only("StatsContainer", |_, _| {
        Answer::Payload(b"\xff\xff\xff\xff\xff".to_vec())
    }))
    .await;
    let _output = pod.container().await;
    let error = pod.stats().await.unwrap_err();
    assert!(error.contains("could not measure the container"), "{error}");
    assert_eq!(pod.status("app").await, Status::RUNNING);
    assert!(pod.node.journal.only(&["StopVM"]).is_empty());
}

#[tokio::test]
async fn a_response_of_garbage_or_of_another_kind_fails_the_call_alone_that_it_answers() {
    let turn = AtomicU32::new(0);
    let pod = pod(only("StatsContainer", move |_, stream| {
        Answer::Bytes(match turn.fetch_add(1, Ordering::Relaxed) {
            0 => frame(MESSAGE_TYPE_RESPONSE, stream, &[0xff; 100]),
            1 => frame(MESSAGE_TYPE_REQUEST, stream, b"what do you want?"),
            2 => frame(MESSAGE_TYPE_DATA, stream, b"a stream that nobody opened"),
            3 => frame(77, stream, b"no kind at all"),
            _ => answered(stream, Vec::new()),
        })
    }))
    .await;
    let _output = pod.container().await;
    for _ in 0..4 {
        let error = pod.stats().await.unwrap_err();
        assert!(error.contains("could not measure the container"), "{error}");
    }
    pod.stats().await.unwrap();
    assert_eq!(pod.status("app").await, Status::RUNNING);
}

#[tokio::test]
async fn the_words_of_an_error_are_cut() {
    let pod = pod(only("StatsContainer", |_, _| {
        Answer::Error("no\u{7}!".repeat(700_000))
    }))
    .await;
    let _output = pod.container().await;
    let error = pod.stats().await.unwrap_err();
    assert!(
        error.len() < 4096 && error.contains("no!no!no!"),
        "{}",
        error.len()
    );
}

#[tokio::test]
async fn a_frame_that_ends_in_its_middle_ends_the_pod() {
    let pod = pod(only("StatsContainer", |_, stream| {
        let mut bytes = header(MESSAGE_TYPE_RESPONSE, stream, 1000);
        bytes.extend_from_slice(b"and then");
        Answer::Last(bytes)
    }))
    .await;
    let _output = pod.container().await;
    assert!(pod.stats().await.is_err());
    pod.assert_lost().await;
}

#[tokio::test]
async fn a_frame_longer_than_any_fails_its_call_and_takes_no_memory() {
    let pod = pod(only("StatsContainer", |_, stream| {
        let mut bytes = header(MESSAGE_TYPE_RESPONSE, stream, 256 << 20);
        bytes.resize(bytes.len() + (256 << 20), 0);
        Answer::Bytes(bytes)
    }))
    .await;
    let _output = pod.container().await;
    let error = pod.stats().await.unwrap_err();
    assert!(error.contains("could not measure the container"), "{error}");
    assert_eq!(pod.status("app").await, Status::RUNNING);
    pod.assert_bounded();
}

#[tokio::test]
async fn answers_to_what_nobody_asked_are_dropped() {
    let pod = pod(only("StatsContainer", |_, stream| {
        let mut bytes = Vec::new();
        for other in 0..FLOOD {
            bytes.extend(answered(
                other.wrapping_mul(2).wrapping_add(1_000_001),
                b"here you are".to_vec(),
            ));
        }
        bytes.extend(answered(stream, Vec::new()));
        Answer::Bytes(bytes)
    }))
    .await;
    let _output = pod.container().await;
    pod.stats().await.unwrap();
    pod.assert_bounded();
}

#[tokio::test]
async fn a_flood_of_answers_to_one_call_is_one_answer() {
    for kind in [MESSAGE_TYPE_RESPONSE, MESSAGE_TYPE_DATA] {
        let pod = pod(only("StatsContainer", move |_, stream| {
            Answer::Bytes(frame(kind, stream, &[0; 64]).repeat(FLOOD as usize))
        }))
        .await;
        let _output = pod.container().await;
        let _ = pod.stats().await;
        assert_eq!(pod.status("app").await, Status::RUNNING);
        pod.assert_bounded();
    }
}

#[tokio::test]
async fn an_exit_status_that_is_none_is_unknown() {
    let pod = pod(only("WaitProcess", |request, _| {
        // The sandbox's own process lives on.
        if String::from_utf8_lossy(&request.payload).contains("sandbox") {
            return Answer::Silence;
        }
        let answer = WaitProcessResponse {
            status: i32::MIN,
            ..Default::default()
        };
        Answer::Payload(answer.write_to_bytes().unwrap())
    }))
    .await;
    // A process without output has ended when its wait is answered.
    pod.silent_container().await;
    assert_eq!(pod.wait("app", "").await, 255);
}

#[tokio::test]
async fn what_it_tells_of_other_pods_containers_is_not_passed_on() {
    let told = Arc::new(AtomicU32::new(0));
    let counted = told.clone();
    let pod = pod(only("GetOOMEvent", move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        let event = OOMEvent {
            container_id: "another-pods-container".into(),
            ..Default::default()
        };
        Answer::Payload(event.write_to_bytes().unwrap())
    }))
    .await;
    let _output = pod.container().await;
    let deadline = Instant::now() + PATIENCE;
    while told.load(Ordering::Relaxed) < 2 {
        assert!(Instant::now() < deadline, "it was not asked again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    pod.node.journal.until("event /tasks/start").await;
    assert!(pod.node.journal.only(&["event /tasks/oom"]).is_empty());
}

#[tokio::test]
async fn a_killed_process_whose_end_it_never_tells_is_taken_for_ended() {
    // It swallows signals, too, and more output than was asked for never ends.
    let pod = pod(Arc::new(|method, _, _| match method {
        "ReadStdout" => Answer::Payload(vec![b'x'; 4_000_000]),
        method if is_waiting(method) || method == "SignalProcess" => Answer::Silence,
        _ => Answer::Empty,
    }))
    .await;
    let _output = pod.container().await;
    let start = Instant::now();
    tokio::join!(pod.kill_within("app", LIMIT), pod.kill_within("sandbox", LIMIT));
    assert_eq!(pod.wait("app", "").await, 137);
    assert_eq!(pod.wait("sandbox", "").await, 137);
    assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
    pod.assert_bounded();
    pod.delete("app", "").await;
    pod.delete("sandbox", "").await;
    pod.node.journal.until("StopVM sandbox").await;
}

/// Creates a pod whose machine cannot be talked to; returns what containerd is told.
async fn refused(node: Node) -> (Node, String) {
    let bundle = node.bundle("sandbox", &sandbox_spec(std::path::Path::new("/dev/null")));
    let task = node.start_shim("sandbox", &bundle).await;
    let request = node.create_request("sandbox", &bundle);
    let error = task.create(with_duration(LIMIT), &request).await.unwrap_err();
    node.journal.until("StopVM sandbox").await;
    (node, error.to_string())
}

#[tokio::test]
async fn a_machine_that_never_says_a_word_is_given_up() {
    let node = Node::new().await;
    node.let_dial_stranger(Arc::new(|_, _, _| Answer::Silence)).await;
    let (_node, error) = refused(node).await;
    assert!(error.contains("agent could not answer"), "{error}");
}

#[tokio::test]
async fn a_machine_that_speaks_no_tls_is_given_up() {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    let node = Node::new().await;
    node.let_dial_instead(listener.local_addr().unwrap()).await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").await;
        }
    });
    let (_node, error) = refused(node).await;
    assert!(
        error.contains("connect to the virtual machine's agent"),
        "{error}"
    );
}
