//! Who is who: a sandbox's client certificate under an authority of its own, and the guest's key.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::ChannelError;

/// A sandbox's means to reach its VM: one client certificate, under an authority that certifies nothing else because its
/// key was dropped. Valid at any time: the clock of a VM that has just booted may be wrong, and the key goes with the
/// sandbox.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClientIdentity {
    /// The authority's certificate, PEM; it goes into the boot payload.
    pub authority_pem: String,
    /// The client's certificate, PEM.
    pub certificate_pem: String,
    /// The client's private key, PEM.
    pub key_pem: Zeroizing<String>,
}

impl std::fmt::Debug for ClientIdentity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ClientIdentity").finish_non_exhaustive()
    }
}

impl ClientIdentity {
    /// Makes the identity of one sandbox.
    ///
    /// # Errors
    /// [`ChannelError::Issue`]: the name is not usable in a certificate, or there is no randomness.
    pub fn issue(sandbox: &str) -> Result<Self, ChannelError> {
        let authority_key = KeyPair::generate().map_err(ChannelError::Issue)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name(&format!("peerpods sandbox {sandbox}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = params.self_signed(&authority_key).map_err(ChannelError::Issue)?;
        let issuer = Issuer::new(params, authority_key);

        let key = KeyPair::generate().map_err(ChannelError::Issue)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name("peerpods worker");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &issuer).map_err(ChannelError::Issue)?;
        Ok(Self {
            authority_pem: authority.pem(),
            certificate_pem: certificate.pem(),
            key_pem: Zeroizing::new(key.serialize_pem()),
        })
    }
}

/// The server key and certificate that a stock adaptor puts into its boot payload.
#[derive(Clone)]
pub struct StockIdentity {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The private key, PEM.
    pub key_pem: Zeroizing<String>,
}

/// A certificate with its key, as rustls takes them.
pub(super) struct KeyedCertificate {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl KeyedCertificate {
    /// A key of its own for a guest that has just booted.
    pub(super) fn generate() -> Result<Self, ChannelError> {
        let key = KeyPair::generate().map_err(ChannelError::Issue)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name("peerpods guest");
        let certificate = params.self_signed(&key).map_err(ChannelError::Issue)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Self {
            chain: vec![certificate.der().clone()],
            key,
        })
    }

    /// Reads both from PEM.
    pub(super) fn parse(certificate_pem: &str, key_pem: &str) -> Result<Self, ChannelError> {
        let chain = certificates("certificate", certificate_pem)?;
        let key =
            PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| ChannelError::Credentials {
                what: "private key",
                cause: error.to_string(),
            })?;
        Ok(Self { chain, key })
    }
}

/// All certificates of a PEM text; at least one.
pub(super) fn certificates(
    what: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, ChannelError> {
    let unusable = |cause: String| ChannelError::Credentials { what, cause };
    let found = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(error.to_string()))?;
    if found.is_empty() {
        Err(unusable("it is no PEM certificate".to_owned()))
    } else {
        Ok(found)
    }
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}
