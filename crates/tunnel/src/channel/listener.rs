//! The guest's side: joins are answered inside, agent connections and forwarded ones handed out.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use peerpods_proto::payload::JoinSecret;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::server::TlsStream;

use super::{
    AGENT_PROTOCOL, ChannelError, FORWARD_PROTOCOL, JOIN_PROTOCOL, StockIdentity,
    gate::{Admitted, Gate},
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

impl AgentListener {
    /// Listens on `address` with a key made now (or the stock one). Needs a tokio runtime.
    ///
    /// # Errors
    /// [`ChannelError::Credentials`] or [`ChannelError::Listen`].
    pub async fn bind(
        address: SocketAddr,
        config: ListenerConfig,
    ) -> Result<(Self, ForwardListener), ChannelError> {
        let protocols = [AGENT_PROTOCOL, FORWARD_PROTOCOL, JOIN_PROTOCOL];
        let gate = Arc::new(Gate::new(config, &protocols)?);
        let failed = |source| ChannelError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (agents, accepted) = mpsc::channel(BACKLOG);
        let (forwards, accepted_forwards) = mpsc::channel(BACKLOG);
        let hand_out = move |admitted| {
            let (agents, forwards) = (agents.clone(), forwards.clone());
            async move {
                match admitted {
                    Admitted::Agent(stream) => drop(agents.send(stream).await),
                    Admitted::Forward(stream) => drop(forwards.send(stream).await),
                    // The gate of this listener admits no claim.
                    Admitted::Claim(_) | Admitted::Joined => {}
                }
            }
        };
        let task = tokio::spawn(serve(listener, gate, hand_out));
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

/// Hears strangers, and hands out what the gate admits.
pub(super) async fn serve<F>(
    listener: TcpListener,
    gate: Arc<Gate>,
    hand_out: impl Fn(Admitted) -> F + Clone + Send + 'static,
) where
    F: Future<Output = ()> + Send,
{
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
        let (gate, hand_out) = (Arc::clone(&gate), hand_out.clone());
        tokio::spawn(async move {
            match timeout(HANDSHAKE_LIMIT, gate.admit(stream)).await {
                Ok(Ok(admitted)) => hand_out(admitted).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "turned away"),
                Err(_) => tracing::debug!(%peer, "turned away: too slow"),
            }
            drop(permit);
        });
    }
}
