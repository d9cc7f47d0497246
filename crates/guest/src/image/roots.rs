//! The authorities that the image trusts, where programs look for them: the VM has no distribution that brings them.

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::ImageError;

/// Where Debian has them, and with it most TLS libraries.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Characters in a line of PEM, RFC 7468 section 2.
const LINE: usize = 64;

/// Writes Mozilla's authorities as one PEM file.
pub fn write_trusted_roots() -> Result<(), ImageError> {
    let path = Path::new(BUNDLE);
    let failed = |source| ImageError::Store {
        action: "write",
        path: path.to_owned(),
        source,
    };
    fs::create_dir_all(path.parent().expect("the bundle is in a folder")).map_err(failed)?;
    fs::write(path, pem()).map_err(failed)
}

fn pem() -> String {
    let mut text = String::new();
    for root in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = STANDARD.encode(root);
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, tail) = rest.split_at(rest.len().min(LINE));
            text.push_str(line);
            text.push('\n');
            rest = tail;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    #[test]
    fn the_bundle_holds_every_root() {
        let text = super::pem();
        let read: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(read, webpki_root_certs::TLS_SERVER_ROOT_CERTS);
    }
}
