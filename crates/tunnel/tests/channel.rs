//! Worker and guest meet once with the join secret, and from then on by key: nobody else gets in.
#![allow(clippy::unwrap_used)] // A failure here fails the test.

use std::{net::SocketAddr, os::unix::fs::PermissionsExt};

use peerpods_error::chain;
use peerpods_proto::payload::JoinSecret;
use peerpods_tunnel::channel::{
    AgentListener, ChannelError, Claim, ClientIdentity, Connection, ForwardListener, JOIN_PROTOCOL,
    ListenerConfig, ServerKeyPin, WarmEvent, WarmListener, claim, connect, connect_forward, join,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const SECRET: [u8; 32] = [7; 32];
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A guest that listens and the worker that launched it.
struct Pair {
    listener: AgentListener,
    forwards: ForwardListener,
    worker: ClientIdentity,
}

impl Pair {
    async fn new() -> Self {
        let worker = ClientIdentity::issue("sandbox").unwrap();
        let (listener, forwards) = listen_for_both(&worker, Some(JoinSecret::new(SECRET))).await;
        Self {
            listener,
            forwards,
            worker,
        }
    }

    async fn join(&self) -> Result<ServerKeyPin, ChannelError> {
        join(self.listener.address(), &self.worker, &JoinSecret::new(SECRET)).await
    }

    fn connection(&self, server_key: ServerKeyPin) -> Connection {
        connection(self.listener.address(), &self.worker, server_key)
    }
}

async fn listen(worker: &ClientIdentity, join_secret: Option<JoinSecret>) -> AgentListener {
    listen_for_both(worker, join_secret).await.0
}

async fn listen_for_both(
    worker: &ClientIdentity,
    join_secret: Option<JoinSecret>,
) -> (AgentListener, ForwardListener) {
    let config = ListenerConfig {
        client_ca_pem: worker.authority_pem.clone(),
        join_secret,
        stock: None,
    };
    AgentListener::bind(ANY_PORT, config).await.unwrap()
}

fn connection(address: SocketAddr, worker: &ClientIdentity, server_key: ServerKeyPin) -> Connection {
    Connection {
        address,
        server_key,
        client_certificate_pem: worker.certificate_pem.clone(),
        client_key_pem: worker.key_pem.clone(),
    }
}

#[tokio::test]
async fn a_worker_that_joined_talks_to_its_guest() {
    let mut pair = Pair::new().await;
    let key = pair.join().await.unwrap();
    let mut worker = connect(&pair.connection(key)).await.unwrap();
    let mut guest = pair.listener.accept().await.unwrap();
    worker.write_all(b"are you there?").await.unwrap();
    let mut heard = [0; 14];
    guest.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"are you there?");
}

#[tokio::test]
async fn each_connection_is_handed_out_for_what_it_came_for() {
    let mut pair = Pair::new().await;
    let key = pair.join().await.unwrap();
    let mut forward = connect_forward(&pair.connection(key)).await.unwrap();
    let mut agent = connect(&pair.connection(key)).await.unwrap();
    forward.write_all(b"f").await.unwrap();
    agent.write_all(b"a").await.unwrap();
    let mut agent = pair.listener.accept().await.unwrap();
    let mut forward = pair.forwards.accept().await.unwrap();
    assert_eq!(agent.read_u8().await.unwrap(), b'a');
    assert_eq!(forward.read_u8().await.unwrap(), b'f');
}

#[tokio::test]
async fn who_forwards_nothing_turns_forwards_away_and_serves_its_agent() {
    let Pair {
        mut listener,
        forwards,
        worker,
    } = Pair::new().await;
    let secret = JoinSecret::new(SECRET);
    let key = join(listener.address(), &worker, &secret).await.unwrap();
    let connection = connection(listener.address(), &worker, key);
    drop(forwards);
    // More than may wait to be taken.
    for _ in 0..20 {
        let mut forward = connect_forward(&connection).await.unwrap();
        let read = forward.read(&mut [0]).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    let _worker = connect(&connection).await.unwrap();
    listener.accept().await.unwrap();
}

#[tokio::test]
async fn a_forward_spends_the_secret_and_is_not_open_to_strangers() {
    let mut pair = Pair::new().await;
    let key = pair.join().await.unwrap();
    let stranger = ClientIdentity::issue("sandbox").unwrap();
    let stranger = connection(pair.listener.address(), &stranger, key);
    let mut stranger = connect_forward(&stranger).await.unwrap();
    let read = stranger.read(&mut [0]).await;
    assert!(read.is_err(), "{read:?}");

    let _forward = connect_forward(&pair.connection(key)).await.unwrap();
    pair.forwards.accept().await.unwrap();
    let refused = pair.join().await.unwrap_err();
    assert!(matches!(refused, ChannelError::Refused(_)), "{refused:?}");
}

#[tokio::test]
async fn a_join_whose_answer_was_lost_is_repeated() {
    let pair = Pair::new().await;
    let first = pair.join().await.unwrap();
    assert_eq!(pair.join().await.unwrap(), first);
}

#[tokio::test]
async fn the_first_agent_connection_spends_the_secret() {
    let mut pair = Pair::new().await;
    let key = pair.join().await.unwrap();
    let _worker = connect(&pair.connection(key)).await.unwrap();
    let _guest = pair.listener.accept().await.unwrap();
    let refused = pair.join().await.unwrap_err();
    assert!(matches!(refused, ChannelError::Refused(_)), "{refused:?}");
    assert!(!refused.retryable());
    // Whoever holds the file connects again, however often.
    let _again = connect(&pair.connection(key)).await.unwrap();
    pair.listener.accept().await.unwrap();
}

#[tokio::test]
async fn a_worker_with_another_secret_is_refused() {
    let pair = Pair::new().await;
    let wrong = JoinSecret::new([8; 32]);
    let refused = join(pair.listener.address(), &pair.worker, &wrong)
        .await
        .unwrap_err();
    assert!(matches!(refused, ChannelError::Refused(_)), "{refused:?}");
    assert!(
        pair.join().await.is_ok(),
        "a stranger's attempt must not spend the secret"
    );
}

#[tokio::test]
async fn a_guest_without_a_secret_lets_nobody_join() {
    let worker = ClientIdentity::issue("sandbox").unwrap();
    let listener = listen(&worker, None).await;
    let refused = join(listener.address(), &worker, &JoinSecret::new(SECRET))
        .await
        .unwrap_err();
    assert!(matches!(refused, ChannelError::Refused(_)), "{refused:?}");
}

#[tokio::test]
async fn a_worker_of_another_sandbox_is_turned_away() {
    let mut pair = Pair::new().await;
    let key = pair.join().await.unwrap();
    let stranger = ClientIdentity::issue("sandbox").unwrap();
    let joined = join(pair.listener.address(), &stranger, &JoinSecret::new(SECRET)).await;
    assert!(joined.is_err(), "{joined:?}");

    // TLS 1.3 tells a client of its rejection when it first reads.
    let stranger = connection(pair.listener.address(), &stranger, key);
    let mut stream = connect(&stranger).await.unwrap();
    let read = stream.read(&mut [0; 1]).await;
    assert!(read.is_err(), "{read:?}");

    let _worker = connect(&pair.connection(key)).await.unwrap();
    pair.listener
        .accept()
        .await
        .expect("the stranger is not handed out, the worker is");
}

#[tokio::test]
async fn a_vm_with_another_key_is_not_talked_to() {
    let pair = Pair::new().await;
    let key = pair.join().await.unwrap();
    let impostor = listen(&pair.worker, None).await;
    let refused = connect(&connection(impostor.address(), &pair.worker, key))
        .await
        .unwrap_err();
    assert!(matches!(refused, ChannelError::Handshake { .. }), "{refused:?}");
    assert!(!refused.retryable(), "{}", chain(&refused));
}

#[tokio::test]
async fn a_vm_that_sends_the_worker_s_own_proof_back_is_found_out() {
    let echo = echo_server().await;
    let worker = ClientIdentity::issue("sandbox").unwrap();
    let error = join(echo, &worker, &JoinSecret::new(SECRET)).await.unwrap_err();
    assert!(matches!(error, ChannelError::WrongProof(_)), "{error:?}");
    assert!(!error.retryable());
}

/// Speaks the join's TLS with a key of its own and repeats what it hears.
async fn echo_server() -> SocketAddr {
    let key = rcgen::generate_simple_self_signed(["podvm-server".to_owned()]).unwrap();
    let mut config =
        rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], key.signing_key.into())
            .unwrap();
    config.alpn_protocols = vec![JOIN_PROTOCOL.to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind(ANY_PORT).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = acceptor.accept(stream).await.unwrap();
        let (mut read, mut write) = tokio::io::split(stream);
        tokio::io::copy(&mut read, &mut write).await
    });
    address
}

#[tokio::test]
async fn a_vm_that_boots_is_worth_another_attempt() {
    let nobody = tokio::net::TcpListener::bind(ANY_PORT).await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let worker = ClientIdentity::issue("sandbox").unwrap();
    let error = join(address, &worker, &JoinSecret::new(SECRET))
        .await
        .unwrap_err();
    assert!(matches!(error, ChannelError::Connect { .. }), "{error:?}");
    assert!(error.retryable());
}

/// More silent strangers than are heard at once.
#[tokio::test]
async fn strangers_that_say_nothing_do_not_keep_the_worker_out() {
    let pair = Pair::new().await;
    let mut strangers = Vec::new();
    for _ in 0..20 {
        strangers.push(TcpStream::connect(pair.listener.address()).await.unwrap());
    }
    loop {
        match pair.join().await {
            Ok(_) => break,
            Err(error) => assert!(error.retryable(), "{}", chain(&error)),
        }
    }
    drop(strangers);
}

#[tokio::test]
async fn a_listener_that_is_dropped_listens_no_more() {
    let pair = Pair::new().await;
    let address = pair.listener.address();
    drop(pair.listener);
    // Its task ends at its next turn.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_connection_file_is_its_owner_s_alone() {
    let pair = Pair::new().await;
    let written = pair.connection(pair.join().await.unwrap());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("connect.json");
    std::fs::write(path.with_extension("partial"), "left by a crash").unwrap();
    written.write(&path).unwrap();

    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        std::fs::read_dir(directory.path()).unwrap().count(),
        1,
        "nothing half-written is left"
    );
    let read = Connection::read(&path).unwrap();
    assert_eq!(
        (read.address, read.server_key),
        (written.address, written.server_key)
    );
    assert_eq!(read.client_key_pem, written.client_key_pem);
    for shown in [format!("{read:?}"), format!("{:?}", pair.worker)] {
        assert!(!shown.contains("PRIVATE KEY"), "{shown}");
    }
}

#[test]
fn a_connection_file_that_is_none_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("connect.json");
    assert!(chain(&Connection::read(&path).unwrap_err()).contains("connect.json"));
    std::fs::write(&path, "{}").unwrap();
    let error = chain(&Connection::read(&path).unwrap_err());
    assert!(
        error.contains("connect.json") && error.contains("missing field"),
        "{error}"
    );
}

/// A guest without a pod, and the worker that launched it.
struct WarmPair {
    listener: WarmListener,
    worker: ClientIdentity,
}

impl WarmPair {
    async fn new() -> Self {
        let worker = ClientIdentity::issue("without a pod").unwrap();
        let config = ListenerConfig {
            client_ca_pem: worker.authority_pem.clone(),
            join_secret: Some(JoinSecret::new(SECRET)),
            stock: None,
        };
        let listener = WarmListener::bind(ANY_PORT, config).await.unwrap();
        Self { listener, worker }
    }

    /// Meets the guest, and gives what the worker claims it with.
    async fn meet(&mut self) -> Connection {
        let (address, secret) = (self.listener.address(), JoinSecret::new(SECRET));
        let key = join(address, &self.worker, &secret).await.unwrap();
        assert!(matches!(self.listener.next().await.unwrap(), WarmEvent::Heard));
        connection(address, &self.worker, key)
    }

    async fn claimed(&mut self) -> Box<Claim> {
        match self.listener.next().await.unwrap() {
            WarmEvent::Claimed(claim) => claim,
            WarmEvent::Heard => panic!("a claim is expected"),
        }
    }
}

#[tokio::test]
async fn a_claimed_guest_serves_its_pod_and_knows_nobody_from_before() {
    let mut pair = WarmPair::new().await;
    let before = pair.meet().await;
    let (outcome, claim) = tokio::join!(claim(&before, b"the pod's payload"), async {
        let claim = pair.claimed().await;
        let WarmPair { listener, worker } = pair;
        let address = listener.address();
        listener.close().await;
        // As the payload says: another authority, another secret.
        let pod = ClientIdentity::issue("pod").unwrap();
        let config = ListenerConfig {
            client_ca_pem: pod.authority_pem.clone(),
            join_secret: Some(JoinSecret::new([8; 32])),
            stock: None,
        };
        let (agents, _) = AgentListener::bind(address, config).await.unwrap();
        assert_eq!(claim.payload(), b"the pod's payload");
        claim.answer(Ok(())).await;
        (agents, worker, pod)
    });
    outcome.unwrap();
    let (agents, worker, pod) = claim;
    let key = join(agents.address(), &pod, &JoinSecret::new([8; 32]))
        .await
        .unwrap();
    assert_ne!(key, before.server_key, "the pod's guest has a key of its own");

    for again in [
        claim_again(&before, key).await,
        join(agents.address(), &worker, &JoinSecret::new(SECRET))
            .await
            .unwrap_err(),
        connect(&before).await.unwrap_err(),
        claim_again(&connection(agents.address(), &pod, key), key).await,
    ] {
        assert!(
            matches!(again, ChannelError::Handshake { .. } | ChannelError::Refused(_)),
            "{again:?}"
        );
    }
}

async fn claim_again(connection: &Connection, key: ServerKeyPin) -> ChannelError {
    let connection = Connection {
        server_key: key,
        ..connection.clone()
    };
    match claim(&connection, b"another pod's payload").await {
        Err(ChannelError::Connect { address, source }) => ChannelError::Handshake { address, source },
        other => other.unwrap_err(),
    }
}

#[tokio::test]
async fn a_guest_that_cannot_serve_its_pod_says_why() {
    let mut pair = WarmPair::new().await;
    let before = pair.meet().await;
    let (outcome, ()) = tokio::join!(claim(&before, b"nonsense"), async {
        pair.claimed()
            .await
            .answer(Err("the boot payload has no apf.json"))
            .await;
    });
    let refused = outcome.unwrap_err();
    assert!(!refused.retryable());
    assert!(
        refused
            .to_string()
            .ends_with("refused the claim: the boot payload has no apf.json"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_claim_that_broke_off_is_none() {
    let mut pair = WarmPair::new().await;
    let before = pair.meet().await;
    let broken = async {
        // Cancelled while the payload is on its way, or before.
        for delay in [0, 1, 5] {
            let limit = std::time::Duration::from_millis(delay);
            let _ = tokio::time::timeout(limit, claim(&before, &[7; 16 * 1024])).await;
        }
    };
    broken.await;
    let (outcome, payload) = tokio::join!(claim(&before, b"the pod's payload"), async {
        loop {
            let claim = pair.claimed().await;
            let payload = claim.payload().to_vec();
            claim.answer(Ok(())).await;
            // One that was cancelled after all of it had arrived.
            if payload != [7; 16 * 1024] {
                break payload;
            }
        }
    });
    outcome.unwrap();
    assert_eq!(payload, b"the pod's payload");
}

#[tokio::test]
async fn a_guest_without_a_pod_serves_no_agent_and_hears_no_stranger() {
    let mut pair = WarmPair::new().await;
    let connection = pair.meet().await;
    assert!(matches!(
        connect(&connection).await,
        Err(ChannelError::Handshake { .. })
    ));
    assert!(matches!(
        connect_forward(&connection).await,
        Err(ChannelError::Handshake { .. })
    ));
    let stranger = ClientIdentity::issue("stranger").unwrap();
    let foreign = self::connection(connection.address, &stranger, connection.server_key);
    assert!(claim(&foreign, b"the pod's payload").await.is_err());
    let (outcome, ()) = tokio::join!(claim(&connection, b"mine"), async {
        let claim = pair.claimed().await;
        assert_eq!(claim.payload(), b"mine");
        claim.answer(Ok(())).await;
    });
    outcome.unwrap();
}
