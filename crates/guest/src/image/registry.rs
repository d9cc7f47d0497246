//! Talking to one registry for one pull: authorization, bounded documents, layer streams.

use std::{future::Future, sync::Once, time::Duration};

use bytes::Bytes;
use futures::stream::BoxStream;
use oci_client::{
    Client, RegistryOperation,
    client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol},
    secrets::RegistryAuth,
};
use peerpods_proto::{payload::SecretText, registry::Secret};

use super::{
    Digest, ImageError, ImageReference, PullSettings, failure, limits,
    manifest::{ACCEPTED_MANIFESTS, Descriptor},
    pace::paced,
};

/// Who is asking, after the registry said what it wants to see.
enum Authorization {
    Anonymous,
    Token(SecretText),
    Basic(String, SecretText),
}

/// The clients for one pull. The registry library keeps the first credentials it sees for a registry, so a
/// client lives no longer than the pull whose credentials it holds.
pub(super) struct Registry<'a> {
    image: &'a ImageReference,
    scheme: &'static str,
    library: Client,
    documents: reqwest::Client,
    authorization: Authorization,
    stall_timeout: Duration,
}

impl<'a> Registry<'a> {
    /// Makes the clients and asks the registry what authorization it wants.
    pub(super) async fn connect(
        image: &'a ImageReference,
        secret: Option<&Secret>,
        settings: &PullSettings,
    ) -> Result<Registry<'a>, ImageError> {
        install_tls_provider();
        let insecure = settings
            .insecure_registries
            .iter()
            .any(|registry| registry == image.registry_host());
        let library = library_client(settings)?;
        let documents = document_client(settings)?;
        let scheme = if insecure { "http" } else { "https" };
        let mut registry = Registry {
            image,
            scheme,
            library,
            documents,
            authorization: Authorization::Anonymous,
            stall_timeout: settings.stall_timeout,
        };
        if secret.is_some() && !insecure {
            registry.refuse_plain_realm().await?;
        }
        registry.authorization = registry.authorize(secret).await?;
        Ok(registry)
    }

    /// Proves who asks, as the registry wants it: a token, from the registry or for it, or a password with every request.
    async fn authorize(&self, secret: Option<&Secret>) -> Result<Authorization, ImageError> {
        let given = match secret {
            None => RegistryAuth::Anonymous,
            Some(Secret::Basic { username, password }) => {
                RegistryAuth::Basic(username.clone(), password.expose().to_owned())
            }
            Some(Secret::Token(token)) => RegistryAuth::Bearer(token.expose().to_owned()),
        };
        let token = retried(|| authorize(&self.library, self.image, &given)).await?;
        Ok(match (token, secret) {
            (Some(token), _) => Authorization::Token(token),
            (None, Some(Secret::Token(token))) => Authorization::Token(token.clone()),
            (None, Some(Secret::Basic { username, password })) => {
                Authorization::Basic(username.clone(), password.clone())
            }
            (None, None) => Authorization::Anonymous,
        })
    }

    /// A registry that is spoken to in TLS may send us to fetch a token elsewhere, but not in plain: the password would be
    /// seen on the way.
    async fn refuse_plain_realm(&self) -> Result<(), ImageError> {
        let url = format!("{}://{}/v2/", self.scheme, self.image.registry_host());
        let ask = || async {
            let answer = self.documents.get(&url).send().await;
            answer.map_err(|error| failure::from_request(self.image, &error))
        };
        let answer = retried(|| self.in_time(ask())).await?;
        let challenges = answer.headers().get_all(reqwest::header::WWW_AUTHENTICATE);
        let mut challenges = challenges
            .iter()
            .map(|one| String::from_utf8_lossy(one.as_bytes()));
        if challenges.any(|challenge| is_plain(&challenge)) {
            return Err(ImageError::RegistryProtocol {
                registry: self.image.registry_host().to_owned(),
                reason: "it wants the password sent without encryption".to_owned(),
            });
        }
        Ok(())
    }

    pub(super) fn image(&self) -> &ImageReference {
        self.image
    }

    /// A manifest or index by tag or digest, as the bytes that are digested.
    pub(super) async fn manifest(&self, version: &str) -> Result<Vec<u8>, ImageError> {
        let url = self.url("manifests", version);
        let subject = format!("the manifest of {}", self.image);
        let body = retried(|| self.in_time(self.document(&url, &subject, limits::MANIFEST_BYTES))).await?;
        // A tag is the registry's word, a digest is not.
        if let Ok(digest) = version.parse::<Digest>() {
            digest.verify(&subject, Digest::of(&body))?;
        }
        Ok(body)
    }

    /// The image configuration, verified.
    pub(super) async fn config(&self, digest: Digest) -> Result<Vec<u8>, ImageError> {
        let url = self.url("blobs", &digest.to_string());
        let subject = format!("the configuration of {}", self.image);
        let body = retried(|| self.in_time(self.document(&url, &subject, limits::CONFIG_BYTES))).await?;
        digest.verify(&subject, Digest::of(&body))?;
        Ok(body)
    }

    /// A layer's bytes; the stream ends with an error unless they have the layer's digest.
    pub(super) async fn layer(
        &self,
        layer: &Descriptor,
    ) -> Result<BoxStream<'static, std::io::Result<Bytes>>, ImageError> {
        let digest = layer.digest.to_string();
        let beginning = async {
            let answer = self.library.pull_blob_stream(self.image.inner(), digest.as_str());
            answer
                .await
                .map_err(|error| failure::from_registry(self.image, error))
        };
        let stream = self.in_time(beginning).await?.stream;
        Ok(paced(stream, self.stall_timeout))
    }

    /// Gives up an answer that comes too slowly to ever be one.
    async fn in_time<T>(&self, answer: impl Future<Output = Result<T, ImageError>>) -> Result<T, ImageError> {
        let limit = self.stall_timeout * limits::DOCUMENT_STALLS;
        let answer = tokio::time::timeout(limit, answer).await;
        answer.unwrap_or_else(|_| Err(failure::stalled(self.image)))
    }

    fn url(&self, kind: &str, version: &str) -> String {
        let host = self.image.registry_host();
        format!(
            "{}://{host}/v2/{}/{kind}/{version}",
            self.scheme,
            self.image.inner().repository()
        )
    }

    /// A small document. The registry library would read one of any size.
    async fn document(&self, url: &str, subject: &str, limit: u64) -> Result<Vec<u8>, ImageError> {
        let request = self
            .documents
            .get(url)
            .header(reqwest::header::ACCEPT, ACCEPTED_MANIFESTS);
        let request = match &self.authorization {
            Authorization::Anonymous => request,
            Authorization::Token(token) => request.bearer_auth(token.expose()),
            Authorization::Basic(username, password) => request.basic_auth(username, Some(password.expose())),
        };
        let unreachable = |error| failure::from_request(self.image, &error);
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let too_large = || ImageError::LimitExceeded {
            subject: subject.to_owned(),
            limit,
            unit: "bytes",
        };
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            body.extend_from_slice(&chunk);
            if body.len() as u64 > limit {
                return Err(too_large());
            }
        }
        if status.is_success() {
            return Ok(body);
        }
        Err(failure::from_status(self.image, status.as_u16(), &body))
    }
}

/// Whether a challenge leads to a place that is spoken to without encryption.
fn is_plain(challenge: &str) -> bool {
    let text = challenge.to_ascii_lowercase().replace(['"', ' ', '\t'], "");
    text.contains("realm=http:")
}

async fn authorize(
    library: &Client,
    image: &ImageReference,
    secret: &RegistryAuth,
) -> Result<Option<SecretText>, ImageError> {
    let answer = library.auth(image.inner(), secret, RegistryOperation::Pull);
    match tokio::time::timeout(limits::AUTHORIZATION_TIMEOUT, answer).await {
        Ok(answer) => answer
            .map(|token| token.map(SecretText::new))
            .map_err(|error| failure::from_registry(image, error)),
        Err(_) => Err(failure::stalled(image)),
    }
}

/// Repeats what failed in a way that may pass, a named number of times.
pub(super) async fn retried<T, F>(mut operation: impl FnMut() -> F) -> Result<T, ImageError>
where
    F: Future<Output = Result<T, ImageError>>,
{
    let mut pause: Duration = limits::FIRST_PAUSE;
    for _ in 1..limits::NETWORK_ATTEMPTS {
        match operation().await {
            Err(error) if error.retryable() => {
                tracing::info!(%error, ?pause, "trying again");
                tokio::time::sleep(pause).await;
                pause *= 4;
            }
            answer => return answer,
        }
    }
    operation().await
}

/// Both TLS users find the provider in the process; another part of the program may have been first.
pub(crate) fn install_tls_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// The guest has no certificate files, so the public roots are built in and nothing else is trusted.
fn library_client(settings: &PullSettings) -> Result<Client, ImageError> {
    let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .map(|root| Certificate {
            encoding: CertificateEncoding::Der,
            data: root.to_vec(),
        })
        .collect();
    let config = ClientConfig {
        protocol: ClientProtocol::HttpsExcept(settings.insecure_registries.clone()),
        tls_certs_only: roots,
        read_timeout: Some(settings.stall_timeout),
        connect_timeout: Some(limits::CONNECT_TIMEOUT),
        user_agent: concat!("peerpods-guest/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    Client::try_from(config).map_err(|error| ImageError::Client {
        reason: error.to_string(),
    })
}

fn document_client(settings: &PullSettings) -> Result<reqwest::Client, ImageError> {
    let failed = |error: reqwest::Error| ImageError::Client {
        reason: error.to_string(),
    };
    let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .map(|root| reqwest::Certificate::from_der(root))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    reqwest::Client::builder()
        .tls_certs_only(roots)
        .read_timeout(settings.stall_timeout)
        .connect_timeout(limits::CONNECT_TIMEOUT)
        .user_agent(concat!("peerpods-guest/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn a_plain_realm_is_known_however_it_is_written() {
        for challenge in [
            r#"Bearer realm="http://auth.example.com/token",service="x""#,
            "bearer service=x, REALM = HTTP://auth.example.com/token",
        ] {
            assert!(is_plain(challenge), "{challenge}");
        }
        assert!(!is_plain(r#"Bearer realm="https://auth.example.com/token""#));
        assert!(!is_plain(r#"Basic realm="http is not what this is about""#));
    }
}
