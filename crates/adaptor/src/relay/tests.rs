//! The relay between shims that are sockets and a VM that is a real agent port, which says back what it is told.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsRawFd,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use peerpods_proto::payload::JoinSecret;
use peerpods_tunnel::channel::{AgentListener, ClientIdentity, ForwardListener, ListenerConfig, join};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncReadExt;

use super::*;

const SECRET: [u8; 32] = [7; 32];
/// How long what must happen may take, on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
/// How long what must not happen is watched for.
const WATCH: Duration = Duration::from_millis(300);

/// A VM whose agent answers every byte with the same byte, and the relay in front of it.
struct Lab {
    _folder: tempfile::TempDir,
    socket: PathBuf,
    relay: Option<Relay>,
    agent: Option<JoinHandle<()>>,
    /// Connections of the agent that are open.
    open: Arc<AtomicUsize>,
    _forwards: ForwardListener,
}

impl Lab {
    async fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("pp").tempdir_in("/tmp").unwrap();
        let socket = folder.path().join("agent.ttrpc");
        // What an earlier adaptor left is replaced.
        drop(UnixListener::bind(&socket).unwrap());
        let worker = ClientIdentity::issue("sandbox").unwrap();
        let config = ListenerConfig {
            client_ca_pem: worker.authority_pem.clone(),
            join_secret: Some(JoinSecret::new(SECRET)),
            stock: None,
        };
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (listener, forwards) = AgentListener::bind(any_port, config).await.unwrap();
        let address = listener.address();
        let server_key = join(address, &worker, &JoinSecret::new(SECRET)).await.unwrap();
        let connection = Connection {
            address,
            server_key,
            client_certificate_pem: worker.certificate_pem.clone(),
            client_key_pem: worker.key_pem.clone(),
        };
        let open = Arc::new(AtomicUsize::new(0));
        Self {
            relay: Some(Relay::open(&socket, connection).unwrap()),
            agent: Some(tokio::spawn(answer(listener, open.clone()))),
            open,
            socket,
            _folder: folder,
            _forwards: forwards,
        }
    }

    async fn shim(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    async fn wait_open(&self, count: usize) {
        let reached = async {
            while self.open.load(Ordering::Relaxed) != count {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let reached = timeout(LIMIT, reached).await;
        reached.unwrap_or_else(|_| panic!("{} connections, not {count}", self.open.load(Ordering::Relaxed)));
    }
}

/// Counts a connection while it lives.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn answer(mut listener: AgentListener, open: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    while let Ok(stream) = listener.accept().await {
        open.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(open.clone());
        connections.spawn(async move {
            let (mut from, mut to) = split(stream);
            let _ = copy(&mut from, &mut to).await;
            drop(counted);
        });
    }
}

async fn talk(shim: &mut UnixStream, said: &[u8]) {
    let mut heard = vec![0; said.len()];
    let exchange = async {
        let (mut from, mut to) = shim.split();
        let (written, read) = tokio::join!(to.write_all(said), from.read_exact(&mut heard));
        written.unwrap();
        read.unwrap();
    };
    timeout(LIMIT, exchange).await.expect("the agent answers");
    assert!(heard == said);
}

/// Waits for the end of a connection that says nothing more.
async fn ends(shim: &mut UnixStream) {
    let read = timeout(LIMIT, shim.read(&mut [0])).await.expect("it ends");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn every_connection_has_its_own_bytes_and_a_silent_one_is_left_alone() {
    let lab = Lab::new().await;
    let mut silent = lab.shim().await;
    lab.wait_open(1).await;
    let talking = (0..8_u8).map(|number| {
        let socket = lab.socket.clone();
        tokio::spawn(async move {
            let mut shim = UnixStream::connect(socket).await.unwrap();
            // More than any buffer on the way, and the most that one message of the protocol may have.
            talk(&mut shim, &vec![number; 4 << 20]).await;
        })
    });
    for one in talking.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    lab.wait_open(1).await;
    assert!(timeout(WATCH, silent.read(&mut [0])).await.is_err());
    talk(&mut silent, b"not so silent").await;
}

#[tokio::test]
async fn a_shim_that_closes_ends_its_connection_in_the_vm_alone() {
    let lab = Lab::new().await;
    let (mut staying, mut leaving, mut silencing) = (lab.shim().await, lab.shim().await, lab.shim().await);
    talk(&mut staying, b"one").await;
    talk(&mut leaving, b"two").await;
    lab.wait_open(3).await;
    drop(leaving);
    // Half an end is a whole one.
    silencing.shutdown().await.unwrap();
    ends(&mut silencing).await;
    lab.wait_open(1).await;
    talk(&mut staying, b"three").await;
}

#[tokio::test]
async fn the_vms_end_closes_every_shims_connection_and_new_ones_at_once() {
    let mut lab = Lab::new().await;
    let (mut talking, mut silent) = (lab.shim().await, lab.shim().await);
    talk(&mut talking, b"one").await;
    lab.wait_open(2).await;
    lab.agent.take().unwrap().abort();
    ends(&mut talking).await;
    ends(&mut silent).await;
    ends(&mut lab.shim().await).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_one_to_end() {
    let lab = Lab::new().await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_LIMIT {
        held.push(lab.shim().await);
    }
    lab.wait_open(CONNECTIONS_LIMIT).await;
    let mut waiting = lab.shim().await;
    waiting.write_all(b"!").await.unwrap();
    assert!(timeout(WATCH, waiting.read(&mut [0])).await.is_err());
    assert_eq!(lab.open.load(Ordering::Relaxed), CONNECTIONS_LIMIT);
    held.pop();
    let mut heard = [0];
    timeout(LIMIT, waiting.read_exact(&mut heard))
        .await
        .expect("it is its turn")
        .unwrap();
    assert_eq!(&heard, b"!");
}

#[tokio::test]
async fn a_relay_that_goes_takes_its_connections_along() {
    let mut lab = Lab::new().await;
    let (mut talking, mut silent) = (lab.shim().await, lab.shim().await);
    talk(&mut talking, b"one").await;
    lab.wait_open(2).await;
    drop(lab.relay.take());
    ends(&mut talking).await;
    ends(&mut silent).await;
    lab.wait_open(0).await;
    assert!(UnixStream::connect(&lab.socket).await.is_err());
}

#[tokio::test]
async fn a_lack_of_descriptors_lets_new_connections_wait_and_ends_none() {
    // The limit is one of the whole process, so this test has one of its own.
    const ALONE: &str = "PEERPODS_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let mut alone = Command::new(std::env::current_exe().unwrap());
        alone.args([
            "--exact",
            "relay::tests::a_lack_of_descriptors_lets_new_connections_wait_and_ends_none",
        ]);
        let output = alone.env(ALONE, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let lab = Lab::new().await;
    let mut before = lab.shim().await;
    talk(&mut before, b"one").await;
    let usual = getrlimit(Resource::Nofile);
    // One descriptor is left, which the shim's own end takes.
    let lowest_free = u64::try_from(File::open("/dev/null").unwrap().as_raw_fd()).unwrap();
    let short = Rlimit {
        current: Some(lowest_free + 1),
        ..usual
    };
    setrlimit(Resource::Nofile, short).unwrap();
    let mut waiting = lab.shim().await;
    assert!(timeout(WATCH, waiting.read(&mut [0])).await.is_err());
    talk(&mut before, b"two").await;
    assert_eq!(lab.open.load(Ordering::Relaxed), 1);

    setrlimit(Resource::Nofile, usual).unwrap();
    talk(&mut waiting, b"three").await;
}
