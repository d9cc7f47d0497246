//! The server's certificate: read from its files, and read again when they change.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_rustls::TlsAcceptor;

use super::{chain, metrics::Metrics};

/// How often the files are looked at. A kubelet takes about a minute to bring a new Secret to them.
const INTERVAL: Duration = Duration::from_secs(2);

/// A certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertificateError {
    #[error("cannot read {}", file.display())]
    Read {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not PEM", file.display())]
    Pem {
        file: PathBuf,
        #[source]
        source: pem::Error,
    },
    #[error("{} holds no certificate", file.display())]
    Empty { file: PathBuf },
    #[error("the key is not that of the certificate")]
    Pair(#[source] rustls::Error),
}

/// The certificate that new connections get.
#[derive(Debug)]
pub(super) struct Certificate {
    certificate_file: PathBuf,
    key_file: PathBuf,
    now: RwLock<Loaded>,
}

/// What was read, and from which bytes.
#[derive(Debug)]
struct Loaded {
    bytes: [Vec<u8>; 2],
    key: Arc<CertifiedKey>,
}

impl Certificate {
    /// Reads the files of the certificate and of its key.
    pub(super) fn load([certificate_file, key_file]: [PathBuf; 2]) -> Result<Arc<Self>, CertificateError> {
        let bytes = [read(&certificate_file)?, read(&key_file)?];
        let key = pair(&bytes, &certificate_file, &key_file)?;
        Ok(Arc::new(Self {
            certificate_file,
            key_file,
            now: RwLock::new(Loaded { bytes, key }),
        }))
    }

    /// Takes connections with whatever certificate is the current one.
    pub(super) fn acceptor(self: &Arc<Self>) -> TlsAcceptor {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = builder
            .with_safe_default_protocol_versions()
            .expect("ring has the protocol versions")
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        TlsAcceptor::from(Arc::new(config))
    }

    /// Looks at the files for ever. What cannot be used is told, and the certificate before it stays.
    pub(super) async fn follow(self: Arc<Self>, metrics: Arc<Metrics>) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            match self.reload() {
                Ok(false) => {}
                Ok(true) => {
                    metrics.certificate_read(true);
                    tracing::info!("the certificate was renewed");
                }
                Err(error) => {
                    metrics.certificate_read(false);
                    tracing::error!("the certificate stays as it was: {}", chain(&error));
                }
            }
        }
    }

    /// Whether there is a new certificate.
    fn reload(&self) -> Result<bool, CertificateError> {
        let bytes = [read(&self.certificate_file)?, read(&self.key_file)?];
        let is_known = self.now.read().unwrap_or_else(PoisonError::into_inner).bytes == bytes;
        if is_known {
            return Ok(false);
        }
        let key = pair(&bytes, &self.certificate_file, &self.key_file)?;
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Loaded { bytes, key };
        Ok(true)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(
            self.now
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .key
                .clone(),
        )
    }
}

fn read(file: &PathBuf) -> Result<Vec<u8>, CertificateError> {
    fs::read(file).map_err(|source| CertificateError::Read {
        file: file.clone(),
        source,
    })
}

fn pair(
    bytes: &[Vec<u8>; 2],
    certificate: &PathBuf,
    key: &PathBuf,
) -> Result<Arc<CertifiedKey>, CertificateError> {
    let of = |file: &PathBuf| {
        let file = file.clone();
        move |source| CertificateError::Pem { file, source }
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&bytes[0])
        .collect::<Result<_, _>>()
        .map_err(of(certificate))?;
    if chain.is_empty() {
        let file = certificate.clone();
        return Err(CertificateError::Empty { file });
    }
    let key = PrivateKeyDer::from_pem_slice(&bytes[1]).map_err(of(key))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map(Arc::new)
        .map_err(CertificateError::Pair)
}
