//! The one HTTP client of this crate: connections are kept, certificates are checked against the system's authorities.

use aws_smithy_http_client::{
    Connector,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn},
        orchestrator::HttpRequest,
    },
    http::Response,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};

use crate::{
    error::Cause,
    limits::{ATTEMPT_LIMIT, CONNECT_LIMIT, REPLY_LIMIT_BYTES},
};

/// An answer with all of its body.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

/// Makes requests, over connections that clones share.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient(SharedHttpConnector);

impl HttpClient {
    pub(crate) fn new() -> Self {
        Self(connector(
            &HttpConnectorSettings::builder()
                .connect_timeout(CONNECT_LIMIT)
                .read_timeout(ATTEMPT_LIMIT)
                .build(),
        ))
    }

    /// What `aws-config` asks for credentials with. It brings its own, shorter, limits.
    pub(crate) fn for_configuration() -> SharedHttpClient {
        http_client_fn(|settings, _components| connector(settings))
    }

    /// Sends one request and reads all of the answer, which is bounded.
    pub(crate) async fn send(&self, request: http::Request<Bytes>) -> Result<Reply, Cause> {
        let request = HttpRequest::try_from(request.map(SdkBody::from))?;
        let response: Response = self.0.call(request).await?;
        let (parts, body) = response.try_into_http1x()?.into_parts();
        let body = Limited::new(body, REPLY_LIMIT_BYTES).collect().await?.to_bytes();
        Ok(Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        })
    }
}

fn connector(settings: &HttpConnectorSettings) -> SharedHttpConnector {
    let connector = Connector::builder()
        .connector_settings(settings.clone())
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build();
    SharedHttpConnector::new(connector)
}
