//! One HTTPS request at a time, as `curl --cacert` sends it.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

/// A server that says nothing for this long is stuck; an API server under load takes seconds.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// A server's answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Sends one request to a server on this machine whose certificate `authority`, a file, has signed.
///
/// # Errors
/// The connection could not be made, or broke; the certificate is not valid.
pub fn https(
    address: SocketAddr,
    authority: &Path,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Reply> {
    let mut stream = tls_stream(address, authority)?;
    // Version 1.0: the body ends with the connection, and has no framing of its own.
    let mut request = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all(request.as_bytes())?;
    stream.write_all(b"\r\n")?;
    stream.write_all(body)?;
    let mut reply = Vec::new();
    match stream.read_to_end(&mut reply) {
        // Some servers end the connection without saying so.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
        Ok(_) | Err(_) => {}
    }
    parse(&String::from_utf8_lossy(&reply)).ok_or_else(|| io::Error::other("the answer is not of HTTP"))
}

/// A connection to a server on this machine whose certificate `authority`, a file, has signed.
///
/// # Errors
/// The connection could not be made; the certificate shows itself with the first bytes.
pub fn tls_stream(
    address: SocketAddr,
    authority: &Path,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(&fs::read(authority)?).map_err(io::Error::other)?;
    roots.add(authority).map_err(io::Error::other)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::IpAddress(address.ip().into());
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(SILENCE_LIMIT))?;
    Ok(StreamOwned::new(connection, stream))
}

fn parse(reply: &str) -> Option<Reply> {
    let (head, body) = reply.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some(Reply {
        status,
        body: body.to_owned(),
    })
}
