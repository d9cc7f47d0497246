//! Proofs of the join secret, bound to one TLS session.

use peerpods_proto::payload::JoinSecret;
use ring::hmac;
use rustls::{ConnectionCommon, Error};

/// Keys the exporter to this use (RFC 8446, section 7.5).
const EXPORTER_LABEL: &[u8] = b"EXPORTER-peerpods-join";
/// As many bytes as the hash has.
const EXPORTED_BYTES: usize = 32;
/// The bytes of a proof on the wire.
pub(super) const PROOF_BYTES: usize = 32;

/// Whose proof it is: one side's never passes for the other's.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    Worker,
    Guest,
}

/// Makes and checks the proofs of one TLS session.
pub(super) struct Prover {
    key: hmac::Key,
    exported: [u8; EXPORTED_BYTES],
}

impl Prover {
    /// Binds the secret to a session whose handshake is complete.
    pub(super) fn new<Data>(secret: &JoinSecret, session: &ConnectionCommon<Data>) -> Result<Self, Error> {
        let exported = session.export_keying_material([0; EXPORTED_BYTES], EXPORTER_LABEL, None)?;
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret.expose()),
            exported,
        })
    }

    /// The proof that `side` sends.
    pub(super) fn proof(&self, side: Side) -> [u8; PROOF_BYTES] {
        let tag = hmac::sign(&self.key, &self.message(side));
        tag.as_ref().try_into().expect("HMAC-SHA256 has 32 bytes")
    }

    /// Whether `proof` is that of `side`; in constant time.
    pub(super) fn is_proof_of(&self, side: Side, proof: &[u8; PROOF_BYTES]) -> bool {
        hmac::verify(&self.key, &self.message(side), proof).is_ok()
    }

    fn message(&self, side: Side) -> Vec<u8> {
        let label: &[u8] = match side {
            Side::Worker => b"peerpods join worker",
            Side::Guest => b"peerpods join guest",
        };
        [label, &self.exported].concat()
    }
}
