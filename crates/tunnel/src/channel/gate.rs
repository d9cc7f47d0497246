//! Who is let in: TLS with the sandbox's own client, and what the protocol it names leads to.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use peerpods_proto::payload::JoinSecret;
use rustls::{
    RootCertStore, ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

use super::{
    AGENT_PROTOCOL, AgentStream, CLAIM_PROTOCOL, ChannelError, FORWARD_PROTOCOL, JOIN_PROTOCOL,
    ListenerConfig,
    identity::{KeyedCertificate, certificates},
    proof::{PROOF_BYTES, Prover, Side},
    provider, socket,
};

/// What a peer that completed its handshake came for.
enum Purpose {
    Agent,
    Claim,
    Forward,
    Join,
}

/// What became of a connection that was heard.
pub(super) enum Admitted {
    Agent(AgentStream),
    Claim(AgentStream),
    Forward(AgentStream),
    /// It is over.
    Joined,
}

/// Decides over every connection of one listener.
pub(super) struct Gate {
    acceptor: TlsAcceptor,
    /// Spent by the first connection that serves a pod.
    secret: Mutex<Option<JoinSecret>>,
    unnamed: Unnamed,
}

/// What becomes of a client that names no protocol.
enum Unnamed {
    TurnedAway,
    /// It is a stock adaptor, which never names one.
    Agent,
}

impl Gate {
    /// A gate for `protocols`; a client that names another is turned away in the handshake.
    pub(super) fn new(config: ListenerConfig, protocols: &[&[u8]]) -> Result<Self, ChannelError> {
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
        server.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
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
    pub(super) async fn admit(&self, stream: TcpStream) -> io::Result<Admitted> {
        socket::configure(&stream)?;
        let stream = self.acceptor.accept(stream).await?;
        match self.purpose(&stream)? {
            Purpose::Agent => {
                self.spend();
                Ok(Admitted::Agent(stream))
            }
            Purpose::Claim => Ok(Admitted::Claim(stream)),
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
            (Some(CLAIM_PROTOCOL), _) => Ok(Purpose::Claim),
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
