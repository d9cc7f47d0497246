//! The worker's side: the join, agent connections and forwarded ones.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use peerpods_proto::payload::JoinSecret;
use rustls::{ClientConfig, client::Resumption, pki_types::ServerName, version::TLS13};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    AGENT_PROTOCOL, ChannelError, ClientIdentity, Connection, FORWARD_PROTOCOL, JOIN_PROTOCOL, ServerKeyPin,
    identity::KeyedCertificate,
    pin::{Expected, KeyVerifier},
    proof::{PROOF_BYTES, Prover, Side},
    provider, socket,
};

/// The longest for TCP to connect: within one network it takes milliseconds, or the VM is not up yet.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// The longest for a TLS handshake: an emulated VM takes tenths of a second.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// The name in the handshake, which nobody checks: the key is what counts.
const SERVER_NAME: &str = "podvm-server";

/// Meets the guest at `address` for the first time and returns its key; one attempt.
///
/// # Errors
/// [`ChannelError`]; where [`ChannelError::retryable`] says so the VM may only not be up yet.
pub async fn join(
    address: SocketAddr,
    identity: &ClientIdentity,
    secret: &JoinSecret,
) -> Result<ServerKeyPin, ChannelError> {
    let credentials = KeyedCertificate::parse(&identity.certificate_pem, &identity.key_pem)?;
    let mut stream = dial(address, credentials, Expected::Anyone, JOIN_PROTOCOL).await?;
    let handshake = |error: rustls::Error| ChannelError::Handshake {
        address,
        source: io::Error::other(error),
    };
    let session = stream.get_ref().1;
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    let certificate = certificate.ok_or_else(|| handshake(rustls::Error::NoCertificatesPresented))?;
    let pin = ServerKeyPin::of(certificate).map_err(handshake)?;
    let prover = Prover::new(secret, session).map_err(handshake)?;

    let mut answer = [0; PROOF_BYTES];
    let exchange = async {
        stream.write_all(&prover.proof(Side::Worker)).await?;
        stream.flush().await?;
        stream.read_exact(&mut answer).await
    };
    match timeout(HANDSHAKE_LIMIT, exchange).await {
        Err(_) => Err(ChannelError::Timeout {
            address,
            action: "answer the join",
            limit: HANDSHAKE_LIMIT,
        }),
        Ok(Err(_)) => Err(ChannelError::Refused(address)),
        Ok(Ok(_)) if prover.is_proof_of(Side::Guest, &answer) => Ok(pin),
        Ok(Ok(_)) => Err(ChannelError::WrongProof(address)),
    }
}

/// Opens an agent connection; one attempt.
///
/// # Errors
/// [`ChannelError`]; a guest with another key than the pinned one is a [`ChannelError::Handshake`].
pub async fn connect(connection: &Connection) -> Result<TlsStream<TcpStream>, ChannelError> {
    dial_pinned(connection, AGENT_PROTOCOL).await
}

/// Opens a connection that carries somebody else's bytes, who may let the other side wait; one attempt.
///
/// # Errors
/// As for [`connect`]; a guest that does not know the protocol is a [`ChannelError::Handshake`], too.
pub async fn connect_forward(connection: &Connection) -> Result<TlsStream<TcpStream>, ChannelError> {
    let stream = dial_pinned(connection, FORWARD_PROTOCOL).await?;
    let address = connection.address;
    socket::let_reader_pause(stream.get_ref().0)
        .map_err(|source| ChannelError::Connect { address, source })?;
    Ok(stream)
}

pub(super) async fn dial_pinned(
    connection: &Connection,
    protocol: &[u8],
) -> Result<TlsStream<TcpStream>, ChannelError> {
    let credentials =
        KeyedCertificate::parse(&connection.client_certificate_pem, &connection.client_key_pem)?;
    let expected = Expected::Pinned(connection.server_key);
    dial(connection.address, credentials, expected, protocol).await
}

async fn dial(
    address: SocketAddr,
    credentials: KeyedCertificate,
    expected: Expected,
    protocol: &[u8],
) -> Result<TlsStream<TcpStream>, ChannelError> {
    let config = Arc::new(config(credentials, expected, protocol)?);
    let connected = timeout(CONNECT_LIMIT, TcpStream::connect(address)).await;
    let connected = connected.map_err(|_| ChannelError::Timeout {
        address,
        action: "connect",
        limit: CONNECT_LIMIT,
    })?;
    let unreachable = |source| ChannelError::Connect { address, source };
    let stream = connected.map_err(unreachable)?;
    socket::configure(&stream).map_err(unreachable)?;
    let name = ServerName::try_from(SERVER_NAME).expect("it is a valid DNS name");
    let shaken = timeout(HANDSHAKE_LIMIT, TlsConnector::from(config).connect(name, stream)).await;
    let stream = shaken
        .map_err(|_| ChannelError::Timeout {
            address,
            action: "agree on TLS",
            limit: HANDSHAKE_LIMIT,
        })?
        .map_err(|source| ChannelError::Handshake { address, source })?;
    if stream.get_ref().1.alpn_protocol() == Some(protocol) {
        return Ok(stream);
    }
    let source = io::Error::other("it does not speak the protocol of this version");
    Err(ChannelError::Handshake { address, source })
}

fn config(
    credentials: KeyedCertificate,
    expected: Expected,
    protocol: &[u8],
) -> Result<ClientConfig, ChannelError> {
    let unusable = |error: rustls::Error| ChannelError::Credentials {
        what: "client certificate",
        cause: error.to_string(),
    };
    let provider = provider();
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(KeyVerifier { expected, provider }))
        .with_client_auth_cert(credentials.chain, credentials.key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![protocol.to_vec()];
    // Every session checks the key anew.
    config.resumption = Resumption::disabled();
    Ok(config)
}
