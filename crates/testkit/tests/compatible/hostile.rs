//! Input that no shim sends: it is refused or ends its own connection, and others are served on.

use std::{collections::BTreeMap, time::Duration};

use protobuf::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    task::JoinSet,
    time::timeout,
};
use ttrpc::{
    Code, MessageHeader, Request, Response,
    proto::{MESSAGE_HEADER_LENGTH, MESSAGE_LENGTH_MAX, MESSAGE_TYPE_REQUEST, MESSAGE_TYPE_RESPONSE},
};

use crate::{
    agent::{Agent, Process, TERM, code},
    container::workload,
    hypervisor::Hypervisor,
    pod::Pod,
};

const HYPERVISOR: &str = "/run/peerpod/hypervisor.sock";
/// An answer that nothing should hold up, on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
/// A thousand more than are answered at once.
const FLOOD: usize = 5000;
/// What the guest answers at once.
const REQUESTS_LIMIT: usize = 4096;

on_node! {
    async fn the_adaptor_serves_on_whatever_one_connection_sends() {
        let opened = open_badly(HYPERVISOR).await;
        let refusals = refused(HYPERVISOR, "hypervisor.Hypervisor").await;
        assert_eq!(refusals, EXPECTED);
        let pod = Pod::new("hostile");
        let hypervisor = timeout(LIMIT, Hypervisor::connect()).await.unwrap();
        timeout(LIMIT, pod.create_vm(&hypervisor)).await.unwrap().unwrap();
        drop(opened);
    }
}

on_node! {
    async fn the_agent_serves_on_whatever_one_connection_sends() {
        let (_pod, socket) = Pod::boot("hostile-agent").await;
        let opened = open_badly(&socket).await;
        assert_eq!(refused(&socket, "grpc.AgentService").await, EXPECTED);
        let agent = timeout(LIMIT, Agent::connect(&socket)).await.unwrap();
        timeout(LIMIT, agent.check()).await.unwrap().unwrap();
        drop(opened);
    }
}

on_node! {
    async fn thousands_of_requests_at_once_are_bounded_and_end_with_their_connection() {
        let (pod, socket) = Pod::boot("flood").await;
        let agent = Agent::connect(&socket).await;
        agent.create_sandbox(&pod.id, &pod.name).await.unwrap();
        let container = "a".repeat(64);
        agent.create_container(&workload(&pod, &container, "", "sleep 1000", &[])).await.unwrap();
        agent.start_container(&container).await.unwrap();

        let flooding = Agent::connect(&socket).await;
        let mut waiting = JoinSet::new();
        for _ in 0..FLOOD {
            let (flooding, container) = (flooding.clone(), container.clone());
            waiting.spawn(async move { flooding.wait(Process { container: &container, exec: "" }).await });
        }
        for _ in REQUESTS_LIMIT..FLOOD {
            let answer = timeout(LIMIT, waiting.join_next()).await;
            let answer = answer.expect("what is too much is refused at once").unwrap();
            assert_eq!(code(answer.unwrap()), Code::RESOURCE_EXHAUSTED);
        }
        // An agent that is busy is alive.
        timeout(LIMIT, agent.check()).await.unwrap().unwrap();
        waiting.shutdown().await;
        drop(flooding);
        let init = Process { container: &container, exec: "" };
        let ended = async {
            while agent.signal(init, TERM).await.is_err() {}
            agent.wait(init).await
        };
        timeout(LIMIT, ended).await.expect("there is room again").unwrap();
    }
}

/// What is said to each of the wrong requests, by its stream.
const EXPECTED: [(u32, Code); 5] = [
    // No request at all, an unknown service, an unknown method, a stream of the server's, too long a message.
    (1, Code::INVALID_ARGUMENT),
    (3, Code::INVALID_ARGUMENT),
    (5, Code::UNIMPLEMENTED),
    (6, Code::INVALID_ARGUMENT),
    (7, Code::INVALID_ARGUMENT),
];

/// Connections that begin something and leave it: half a header, half a message, four gigabytes that never come; and one
/// that ends in the middle.
async fn open_badly(socket: &str) -> Vec<UnixStream> {
    let begins: [&[u8]; 4] = [
        b"\0\0",
        b"\0\0\x10\0\0\0\0\x01\x01\0half",
        b"\xff\xff\xff\xff\0\0\0\x01\x01\0",
        // Neither type nor flags exist.
        b"\0\0\0\0\0\0\0\x01\xee\xff",
    ];
    let mut opened = Vec::new();
    for begin in begins {
        let mut stream = UnixStream::connect(socket).await.unwrap();
        stream.write_all(begin).await.unwrap();
        opened.push(stream);
        let mut ending = UnixStream::connect(socket).await.unwrap();
        ending.write_all(begin).await.unwrap();
    }
    opened
}

/// Sends wrong requests over one connection, and gives the code of the answer to each.
async fn refused(socket: &str, service: &str) -> Vec<(u32, Code)> {
    let request = |service: &str, method: &str| Request {
        service: service.to_owned(),
        method: method.to_owned(),
        ..Default::default()
    };
    let messages = [
        (1, vec![0xff; 64]),
        (3, request("no.Service", "Any").write_to_bytes().unwrap()),
        (5, request(service, "NoMethod").write_to_bytes().unwrap()),
        (6, request(service, "NoMethod").write_to_bytes().unwrap()),
        (7, vec![0; MESSAGE_LENGTH_MAX + 1]),
    ];
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let mut answers = BTreeMap::new();
    for (id, payload) in messages {
        let header = MessageHeader::new_request(id, payload.len().try_into().unwrap());
        assert_eq!(header.type_, MESSAGE_TYPE_REQUEST);
        stream.write_all(&Vec::from(header)).await.unwrap();
        stream.write_all(&payload).await.unwrap();
        let (id, code) = timeout(LIMIT, answer(&mut stream))
            .await
            .expect("each is answered");
        answers.insert(id, code);
    }
    answers.into_iter().collect()
}

async fn answer(stream: &mut UnixStream) -> (u32, Code) {
    let mut bytes = [0; MESSAGE_HEADER_LENGTH];
    stream.read_exact(&mut bytes).await.unwrap();
    let header = MessageHeader::from(bytes);
    assert_eq!(header.type_, MESSAGE_TYPE_RESPONSE);
    let mut payload = vec![0; header.length.try_into().unwrap()];
    stream.read_exact(&mut payload).await.unwrap();
    let response = Response::parse_from_bytes(&payload).unwrap();
    (header.stream_id, response.status.code())
}
