//! What is caught on the worker arrives at the pod's loopback in the VM, with every byte, end and reset.
#![allow(clippy::unwrap_used)]

mod lab;

use std::{io, net::SocketAddr, path::Path, time::Duration};

use lab::Lab;
use peerpods_proto::payload::JoinSecret;
use peerpods_tunnel::{
    channel::{
        AgentListener, ClientIdentity, Connection, ForwardListener, ListenerConfig, connect_forward, join,
    },
    forward::{ForwardError, GUEST_LIMIT, GuestForwarder, LoopbackCatch, WORKER_LIMIT, carry_caught},
};
use ring::digest::{Context, Digest, SHA256};
use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, duplex},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};

const SECRET: [u8; 32] = [7; 32];
const ANY_PORT: &str = "127.0.0.1:0";
/// More than all buffers on the way hold together.
const LARGE: usize = 32 << 20;

/// The VM's namespaces, with a guest in it that listens, and what its worker has to dial it.
struct Machine {
    agent: AgentListener,
    forwards: ForwardListener,
    connection: Connection,
}

impl Machine {
    async fn new(lab: &Lab) -> Self {
        lab.ip("link set lo up");
        for namespace in ["pod", "podns"] {
            lab.netns(namespace);
            lab.ip_in(namespace, "link set lo up");
        }
        let worker = ClientIdentity::issue("sandbox").unwrap();
        let secret = JoinSecret::new(SECRET);
        let config = ListenerConfig {
            client_ca_pem: worker.authority_pem.clone(),
            join_secret: Some(secret.clone()),
            stock: None,
        };
        let (agent, forwards) = AgentListener::bind(ANY_PORT.parse().unwrap(), config)
            .await
            .unwrap();
        let address = agent.address();
        let connection = Connection {
            address,
            server_key: join(address, &worker, &secret).await.unwrap(),
            client_certificate_pem: worker.certificate_pem.clone(),
            client_key_pem: worker.key_pem.clone(),
        };
        Self {
            agent,
            forwards,
            connection,
        }
    }
}

/// A worker that catches in the namespace "pod", and a guest that forwards into "podns".
struct Forwarding<'lab> {
    lab: &'lab Lab,
    _agent: AgentListener,
    tasks: JoinSet<()>,
}

impl<'lab> Forwarding<'lab> {
    async fn new(lab: &'lab Lab) -> Self {
        let machine = Machine::new(lab).await;
        let mut tasks = JoinSet::new();
        let catch = LoopbackCatch::start(&lab.netns("pod")).unwrap();
        tasks.spawn(async move { match carry_caught(catch, machine.connection).await {} });
        tasks.spawn(serve(machine.forwards, GuestForwarder::new(&lab.netns("podns"))));
        Self {
            lab,
            _agent: machine.agent,
            tasks,
        }
    }

    /// What a container runtime does.
    async fn dial(&self, address: &str) -> TcpStream {
        dial(self.lab, address).await.unwrap()
    }

    /// What a program of the pod does.
    fn listen(&self, address: &str) -> TcpListener {
        let listener = self
            .lab
            .inside("podns", || std::net::TcpListener::bind(address).unwrap());
        listener.set_nonblocking(true).unwrap();
        TcpListener::from_std(listener).unwrap()
    }

    /// A client and the server that it met.
    async fn pair(&self, address: &str) -> (TcpStream, TcpStream) {
        let listener = self.listen(address);
        let client = self.dial(address).await;
        (client, listener.accept().await.unwrap().0)
    }
}

async fn serve(mut forwards: ForwardListener, forwarder: GuestForwarder) {
    while let Ok(worker) = forwards.accept().await {
        let (forwarder, slot) = (forwarder.clone(), forwarder.slot().unwrap());
        tokio::spawn(async move { forwarder.serve(slot, worker).await });
    }
}

async fn dial(lab: &Lab, address: &str) -> io::Result<TcpStream> {
    let address: SocketAddr = address.parse().unwrap();
    let open = if address.is_ipv4() {
        TcpSocket::new_v4
    } else {
        TcpSocket::new_v6
    };
    lab.inside("pod", || open().unwrap()).connect(address).await
}

/// Bytes that repeat with a period that divides no buffer.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

async fn digest_of_all(mut reader: impl AsyncRead + Unpin) -> io::Result<(usize, Digest)> {
    let (mut context, mut length, mut buffer) = (Context::new(&SHA256), 0, vec![0; 1 << 16]);
    loop {
        match reader.read(&mut buffer).await? {
            0 => return Ok((length, context.finish())),
            count => {
                context.update(&buffer[..count]);
                length += count;
            }
        }
    }
}

fn digest_of(bytes: &[u8]) -> (usize, Digest) {
    (bytes.len(), ring::digest::digest(&SHA256, bytes))
}

#[track_caller]
fn assert_same(found: (usize, Digest), wanted: &(usize, Digest)) {
    assert_eq!((found.0, found.1.as_ref()), (wanted.0, wanted.1.as_ref()));
}

/// Ends a connection as a program that is killed does.
fn reset(stream: TcpStream) {
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

#[track_caller]
fn assert_reset<T: std::fmt::Debug>(result: io::Result<T>) {
    let kind = result.unwrap_err().kind();
    assert_eq!(kind, io::ErrorKind::ConnectionReset);
}

#[test]
fn what_either_side_says_the_other_hears() {
    Lab::run(|lab| async move {
        let forwarding = Forwarding::new(&lab).await;
        for address in ["127.0.0.1:8080", "[::1]:8080"] {
            let (mut client, mut server) = forwarding.pair(address).await;
            let mut heard = [0; 5];
            client.write_all(b"hello").await.unwrap();
            server.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"hello");
            server.write_all(b"world").await.unwrap();
            client.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"world");
        }
    });
}

#[test]
fn a_server_that_listens_in_the_other_family_only_is_found() {
    Lab::run(|lab| async move {
        let forwarding = Forwarding::new(&lab).await;
        for (listened, dialled) in [("[::1]:8080", "127.0.0.1:8080"), ("127.0.0.1:8081", "[::1]:8081")] {
            let listener = forwarding.listen(listened);
            let mut client = forwarding.dial(dialled).await;
            let (mut server, _) = listener.accept().await.unwrap();
            server.write_all(b"found").await.unwrap();
            client.read_exact(&mut [0; 5]).await.unwrap();
        }
    });
}

#[test]
fn much_data_arrives_whole_both_ways_at_once() {
    Lab::run(|lab| async move {
        let forwarding = Forwarding::new(&lab).await;
        let (client, server) = forwarding.pair("127.0.0.1:8080").await;
        let (up, down) = (pattern(LARGE), pattern(LARGE + 1));
        let (up_digest, down_digest) = (digest_of(&up), digest_of(&down));
        let exchange = |stream: TcpStream, bytes: Vec<u8>| async move {
            let (reader, mut writer) = stream.into_split();
            let write = async {
                writer.write_all(&bytes).await.unwrap();
                writer.shutdown().await.unwrap();
            };
            tokio::join!(write, digest_of_all(reader)).1.unwrap()
        };
        let (received, sent) = tokio::join!(exchange(client, up), exchange(server, down));
        assert_same(received, &down_digest);
        assert_same(sent, &up_digest);
    });
}

#[test]
fn the_end_of_one_way_leaves_the_other_open() {
    Lab::run(|lab| async move {
        let forwarding = Forwarding::new(&lab).await;
        let (client, server) = forwarding.pair("127.0.0.1:8080").await;
        half_close(client, server).await;
        let (client, server) = forwarding.pair("127.0.0.1:8081").await;
        half_close(server, client).await;
    });
}

async fn half_close(mut first: TcpStream, mut second: TcpStream) {
    first.write_all(b"question").await.unwrap();
    first.shutdown().await.unwrap();
    let mut heard = Vec::new();
    second.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"question");
    second.write_all(b"answer").await.unwrap();
    second.shutdown().await.unwrap();
    heard.clear();
    first.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"answer");
}

#[test]
fn a_port_that_nobody_listens_on_is_refused() {
    Lab::run(|lab| async move {
        let forwarding = Forwarding::new(&lab).await;
        for address in ["127.0.0.1:8080", "[::1]:8080"] {
            let mut client = forwarding.dial(address).await;
            assert_reset(client.read(&mut [0]).await);
        }
        // And the next one that somebody listens on is not.
        forwarding.pair("127.0.0.1:8080").await;
    });
}

#[test]
fn a_broken_connection_does_not_look_ended() {
    Lab::run(|lab| async move {
        let forwarding = Forwarding::new(&lab).await;
        let (mut client, mut server) = forwarding.pair("127.0.0.1:8080").await;
        server.write_all(b"half of it").await.unwrap();
        client.read_exact(&mut [0; 10]).await.unwrap();
        reset(server);
        assert_reset(client.read(&mut [0]).await);

        let (mut client, mut server) = forwarding.pair("127.0.0.1:8081").await;
        client.write_all(b"half of it").await.unwrap();
        server.read_exact(&mut [0; 10]).await.unwrap();
        reset(client);
        assert_reset(server.read(&mut [0]).await);
    });
}

#[test]
fn connections_are_reset_when_the_worker_gives_up_its_pod() {
    Lab::run(|lab| async move {
        let mut forwarding = Forwarding::new(&lab).await;
        let (mut client, mut server) = forwarding.pair("127.0.0.1:8080").await;
        forwarding.tasks.abort_all();
        assert_reset(client.read(&mut [0]).await);
        assert_reset(server.read(&mut [0]).await);
    });
}

#[test]
fn more_than_are_carried_at_once_wait_for_their_turn() {
    Lab::run(|lab| async move {
        let forwarding = Forwarding::new(&lab).await;
        let listener = forwarding.listen("127.0.0.1:8080");
        let mut clients = Vec::new();
        for number in 0..WORKER_LIMIT + 16 {
            let mut client = forwarding.dial("127.0.0.1:8080").await;
            client.write_all(&number.to_be_bytes()).await.unwrap();
            clients.push(client);
        }
        let mut servers = JoinSet::new();
        for _ in 0..WORKER_LIMIT {
            let (server, _) = listener.accept().await.unwrap();
            servers.spawn(echo(server));
        }
        let more = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
        assert!(more.is_err(), "more than {WORKER_LIMIT} are carried");
        for (number, mut client) in clients.into_iter().enumerate() {
            if number >= WORKER_LIMIT {
                let (server, _) = listener.accept().await.unwrap();
                servers.spawn(echo(server));
            }
            client.shutdown().await.unwrap();
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, number.to_be_bytes());
        }
        servers.join_all().await;
    });
}

async fn echo(mut server: TcpStream) {
    let mut heard = Vec::new();
    server.read_to_end(&mut heard).await.unwrap();
    server.write_all(&heard).await.unwrap();
}

#[test]
fn a_client_that_stops_reading_holds_only_itself_back() {
    Lab::run(|lab| async move {
        let forwarding = Forwarding::new(&lab).await;
        let (mut lazy, mut server) = forwarding.pair("127.0.0.1:8080").await;
        let sent = pattern(LARGE);
        let wanted = digest_of(&sent);
        let sending = tokio::spawn(async move {
            server.write_all(&sent).await.unwrap();
        });
        lazy.read_exact(&mut [0; 1]).await.unwrap();

        let (mut client, mut other) = forwarding.pair("127.0.0.1:8081").await;
        for _ in 0..100 {
            client.write_all(b"ping").await.unwrap();
            other.read_exact(&mut [0; 4]).await.unwrap();
            other.write_all(b"pong").await.unwrap();
            client.read_exact(&mut [0; 4]).await.unwrap();
        }
        assert!(!sending.is_finished(), "somebody on the way holds all of it");

        let first = io::Cursor::new(pattern(1));
        let found = digest_of_all(first.chain(lazy)).await.unwrap();
        assert_same(found, &wanted);
    });
}

#[test]
fn a_guest_that_talks_nonsense_is_not_listened_to() {
    Lab::run(|lab| async move {
        let mut machine = Machine::new(&lab).await;
        let catch = LoopbackCatch::start(&lab.netns("pod")).unwrap();
        let connection = machine.connection.clone();
        let _worker = tokio::spawn(async move { match carry_caught(catch, connection).await {} });
        for answer in [&b"\x09nonsense"[..], b"\x02", b""] {
            let mut client = dial(&lab, "127.0.0.1:8080").await.unwrap();
            let mut guest = machine.forwards.accept().await.unwrap();
            let mut header = [0; 3];
            guest.read_exact(&mut header).await.unwrap();
            assert_eq!(header, [0x1f, 0x90, 4]);
            guest.write_all(answer).await.unwrap();
            guest.shutdown().await.unwrap();
            assert_reset(client.read(&mut [0]).await);
        }
    });
}

#[test]
fn a_worker_that_talks_nonsense_is_not_listened_to() {
    Lab::run(|lab| async move {
        let forwarder = GuestForwarder::new(&lab.netns("podns"));
        for nonsense in [[0, 0, 4], [0, 80, 5], [0xff; 3]] {
            let (mut worker, guest) = duplex(64);
            worker.write_all(&nonsense).await.unwrap();
            let served = forwarder.serve(forwarder.slot().unwrap(), guest).await;
            assert!(
                matches!(served, Err(ForwardError::Malformed { .. })),
                "{served:?}"
            );
            assert_eq!(worker.read(&mut [0]).await.unwrap(), 0, "it is not answered");
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_says_nothing_is_not_waited_for() {
    let forwarder = GuestForwarder::new(Path::new("/nowhere"));
    let (_worker, guest) = duplex(64);
    let served = forwarder.serve(forwarder.slot().unwrap(), guest).await;
    assert!(matches!(served, Err(ForwardError::Timeout { .. })), "{served:?}");
}

#[test]
fn a_guest_without_the_pod_s_namespace_says_that_it_cannot() {
    Lab::run(|lab| async move {
        let missing = lab.netns("podns").with_file_name("missing");
        let forwarder = GuestForwarder::new(&missing);
        let (mut worker, guest) = duplex(64);
        worker.write_all(&[0, 80, 4]).await.unwrap();
        let served = forwarder.serve(forwarder.slot().unwrap(), guest).await;
        assert!(matches!(served, Err(ForwardError::Namespace(_))), "{served:?}");
        assert_eq!(worker.read_u8().await.unwrap(), 2);
    });
}

#[test]
fn a_guest_serves_so_many_and_no_more() {
    Lab::run(|lab| async move {
        let forwarder = GuestForwarder::new(&lab.netns("podns"));
        let mut slots: Vec<_> = (0..GUEST_LIMIT).map(|_| forwarder.slot().unwrap()).collect();
        assert!(forwarder.clone().slot().is_none());
        slots.pop();
        assert!(forwarder.slot().is_some());
    });
}

#[test]
fn the_kernel_waits_for_a_reader_that_pauses() {
    Lab::run(|lab| async move {
        let mut machine = Machine::new(&lab).await;
        let worker = connect_forward(&machine.connection).await.unwrap();
        let guest = machine.forwards.accept().await.unwrap();
        for stream in [worker.get_ref().0, guest.get_ref().0] {
            assert_eq!(sockopt::tcp_user_timeout(stream).unwrap(), 0);
            assert!(sockopt::socket_keepalive(stream).unwrap());
        }
    });
}
