//! The pinned key of a guest.

use std::{fmt, str::FromStr};

use ring::digest;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde::{Deserialize, Serialize};
use webpki::EndEntityCert;

/// The SHA-256 hash of a server's public key (its SubjectPublicKeyInfo, as in RFC 7469).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerKeyPin([u8; 32]);

/// A text that is no [`ServerKeyPin`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no key pin: 64 hexadecimal digits are expected")]
pub struct InvalidPin(pub String);

impl ServerKeyPin {
    /// The pin of a certificate's key.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let parsed = EndEntityCert::try_from(certificate).map_err(|_| CertificateError::BadEncoding)?;
        let digest = digest::digest(&digest::SHA256, &parsed.subject_public_key_info());
        Ok(Self(digest.as_ref().try_into().expect("SHA-256 has 32 bytes")))
    }
}

impl fmt::Display for ServerKeyPin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl FromStr for ServerKeyPin {
    type Err = InvalidPin;

    fn from_str(text: &str) -> Result<Self, InvalidPin> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidPin(text.to_owned()))?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for ServerKeyPin {
    type Error = InvalidPin;

    fn try_from(text: String) -> Result<Self, InvalidPin> {
        text.parse()
    }
}

impl From<ServerKeyPin> for String {
    fn from(pin: ServerKeyPin) -> Self {
        pin.to_string()
    }
}

/// Which server a client takes. Names and dates do not count: the key is everything.
#[derive(Debug)]
pub(super) enum Expected {
    /// Any that holds the key of its certificate; the join proves the rest.
    Anyone,
    /// The one with this key.
    Pinned(ServerKeyPin),
}

/// Checks a server's key in place of its name.
#[derive(Debug)]
pub(super) struct KeyVerifier {
    pub(super) expected: Expected,
    pub(super) provider: std::sync::Arc<CryptoProvider>,
}

impl ServerCertVerifier for KeyVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = ServerKeyPin::of(certificate)?;
        match &self.expected {
            Expected::Anyone => Ok(ServerCertVerified::assertion()),
            Expected::Pinned(pin) if *pin == found => Ok(ServerCertVerified::assertion()),
            Expected::Pinned(_) => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
