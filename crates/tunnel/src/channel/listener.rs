//! The guest's side: joins are answered inside, agent connections and forwarded ones handed out.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use peerpods_proto::payload::JoinSecret;
use rustls::{
    RootCertStore, ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    AGENT_PROTOCOL, ChannelError, FORWARD_PROTOCOL, JOIN_PROTOCOL, StockIdentity,
    identity::{KeyedCertificate, certificates},
    proof::{PROOF_BYTES, Prover, Side},
    provider, socket,
};

/// How many strangers are heard at once: a handshake costs milliseconds, and more would only cost memory.
const HANDSHAKES_LIMIT: usize = 16;
/// The longest for a handshake and, with it, the join: generous for an emulated VM, short for who says nothing.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How many accepted connections may wait to be taken.
const BACKLOG: usize = 4;
/// The pause after the kernel refuses a connection, for example for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An authenticated connection.
pub type AgentStream = TlsStream<TcpStream>;

/// Who may connect, and how the guest proves itself.
pub struct ListenerConfig {
    /// The authority of the clients: PEM.
    pub client_ca_pem: String,
    /// The secret of the join; without one there is no join.
    pub join_secret: Option<JoinSecret>,
    /// What a stock adaptor gave to be used in place of a key of the guest's own. Its connections name no protocol.
    pub stock: Option<StockIdentity>,
}

/// Listens for agent connections.
pub struct AgentListener {
    address: SocketAddr,
    accepted: mpsc::Receiver<AgentStream>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for AgentListener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Hands out the connections that came to be forwarded. It has to be listened to or dropped: what waits in it is waited for.
/// When it is dropped, or the agent's listener is, further ones are turned away.
pub struct ForwardListener {
    accepted: mpsc::Receiver<AgentStream>,
}

/// What a peer that completed its handshake came for.
enum Purpose {
    Agent,
    Forward,
    Join,
}

/// Where authenticated connections are handed out.
#[derive(Clone)]
struct Exits {
    agents: mpsc::Sender<AgentStream>,
    forwards: mpsc::Sender<AgentStream>,
}

/// What became of a connection that was heard.
enum Admitted {
    Agent(AgentStream),
    Forward(AgentStream),
    /// It is over.
    Joined,
}

struct Gate {
    acceptor: TlsAcceptor,
    /// Spent by the first connection of another purpose.
    secret: Mutex<Option<JoinSecret>>,
    unnamed: Unnamed,
}

/// What becomes of a client that names no protocol.
enum Unnamed {
    TurnedAway,
    /// It is a stock adaptor, which never names one.
    Agent,
}

impl AgentListener {
    /// Listens on `address` with a key made now (or the stock one). Needs a tokio runtime.
    ///
    /// # Errors
    /// [`ChannelError::Credentials`] or [`ChannelError::Listen`].
    pub async fn bind(
        address: SocketAddr,
        config: ListenerConfig,
    ) -> Result<(Self, ForwardListener), ChannelError> {
        let gate = Arc::new(Gate::new(config)?);
        let failed = |source| ChannelError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (agents, accepted) = mpsc::channel(BACKLOG);
        let (forwards, accepted_forwards) = mpsc::channel(BACKLOG);
        let task = tokio::spawn(serve(listener, gate, Exits { agents, forwards }));
        let agents = Self {
            address,
            accepted,
            task,
        };
        let forwards = ForwardListener {
            accepted: accepted_forwards,
        };
        Ok((agents, forwards))
    }

    /// The address listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next agent connection; strangers are turned away without a word here.
    ///
    /// # Errors
    /// [`ChannelError::Closed`]: there will be no more.
    pub async fn accept(&mut self) -> Result<AgentStream, ChannelError> {
        self.accepted.recv().await.ok_or(ChannelError::Closed)
    }
}

impl ForwardListener {
    /// The next connection to be forwarded.
    ///
    /// # Errors
    /// [`ChannelError::Closed`]: there will be no more.
    pub async fn accept(&mut self) -> Result<AgentStream, ChannelError> {
        self.accepted.recv().await.ok_or(ChannelError::Closed)
    }
}

async fn serve(listener: TcpListener, gate: Arc<Gate>, exits: Exits) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_LIMIT));
    loop {
        let permit = Arc::clone(&handshakes)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (gate, exits) = (Arc::clone(&gate), exits.clone());
        tokio::spawn(async move {
            match timeout(HANDSHAKE_LIMIT, gate.admit(stream)).await {
                Ok(Ok(Admitted::Agent(stream))) => drop(exits.agents.send(stream).await),
                Ok(Ok(Admitted::Forward(stream))) => drop(exits.forwards.send(stream).await),
                Ok(Ok(Admitted::Joined)) => {}
                Ok(Err(error)) => tracing::debug!(%peer, %error, "turned away"),
                Err(_) => tracing::debug!(%peer, "turned away: too slow"),
            }
            drop(permit);
        });
    }
}

impl Gate {
    fn new(config: ListenerConfig) -> Result<Self, ChannelError> {
        let unusable = |what: &'static str| {
            move |error: &dyn std::fmt::Display| ChannelError::Credentials {
                what,
                cause: error.to_string(),
            }
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates("client authority", &config.client_ca_pem)? {
            roots
                .add(certificate)
                .map_err(|error| unusable("client authority")(&error))?;
        }
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| unusable("client authority")(&error))?;
        let (own, unnamed) = match &config.stock {
            Some(stock) => {
                let given = KeyedCertificate::parse(&stock.certificate_pem, &stock.key_pem)?;
                (given, Unnamed::Agent)
            }
            None => (KeyedCertificate::generate()?, Unnamed::TurnedAway),
        };
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| unusable("TLS version")(&error))?
            .with_client_cert_verifier(clients)
            .with_single_cert(own.chain, own.key)
            .map_err(|error| unusable("server certificate")(&error))?;
        server.alpn_protocols = [AGENT_PROTOCOL, FORWARD_PROTOCOL, JOIN_PROTOCOL]
            .map(<[u8]>::to_vec)
            .into();
        // Every session proves its client anew.
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            unnamed,
            secret: Mutex::new(config.join_secret),
        })
    }

    /// Hears one connection; a join is answered and over.
    async fn admit(&self, stream: TcpStream) -> io::Result<Admitted> {
        socket::configure(&stream)?;
        let stream = self.acceptor.accept(stream).await?;
        match self.purpose(&stream)? {
            Purpose::Agent => {
                self.spend();
                Ok(Admitted::Agent(stream))
            }
            Purpose::Forward => {
                self.spend();
                socket::let_reader_pause(stream.get_ref().0)?;
                Ok(Admitted::Forward(stream))
            }
            Purpose::Join => self.answer_join(stream).await.map(|()| Admitted::Joined),
        }
    }

    fn purpose(&self, stream: &AgentStream) -> io::Result<Purpose> {
        match (stream.get_ref().1.alpn_protocol(), &self.unnamed) {
            (Some(JOIN_PROTOCOL), _) => Ok(Purpose::Join),
            (Some(FORWARD_PROTOCOL), _) => Ok(Purpose::Forward),
            (Some(AGENT_PROTOCOL), _) | (None, Unnamed::Agent) => Ok(Purpose::Agent),
            (Some(_), _) | (None, Unnamed::TurnedAway) => Err(io::Error::other("it names no protocol")),
        }
    }

    async fn answer_join(&self, mut stream: AgentStream) -> io::Result<()> {
        let mut proof = [0; PROOF_BYTES];
        stream.read_exact(&mut proof).await?;
        let secret = self
            .secret()
            .clone()
            .ok_or_else(|| io::Error::other("the join secret is spent"))?;
        let prover = Prover::new(&secret, stream.get_ref().1).map_err(io::Error::other)?;
        if !prover.is_proof_of(Side::Worker, &proof) {
            return Err(io::Error::other("it does not know the join secret"));
        }
        stream.write_all(&prover.proof(Side::Guest)).await?;
        stream.shutdown().await
    }

    fn spend(&self) {
        self.secret().take();
    }

    fn secret(&self) -> std::sync::MutexGuard<'_, Option<JoinSecret>> {
        self.secret.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
