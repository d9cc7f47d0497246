//! Reviews over TLS: connections in bounds, one answer for every request.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Bytes},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use peerpods_api::admission::{PodAdmission, WEBHOOK_PATH};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{ANSWER_LIMIT, Stage, metrics::Metrics};
use crate::review::{Answer, Outcome, answer};

/// An API server keeps a few; further ones wait to be accepted.
const CONNECTIONS_LIMIT: usize = 256;
/// An API server is on the same network: a handshake takes milliseconds.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// API servers keep connections that they do not use for 90 s.
const IDLE_LIMIT: Duration = Duration::from_secs(120);
/// An API server takes objects of 3 MiB, and a review may have two.
const BODY_BYTES_LIMIT: usize = 8 << 20;
/// Between failures to accept, as when there are no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who answers reviews.
pub(super) struct Reviews {
    admission: PodAdmission,
    metrics: Arc<Metrics>,
}

impl Reviews {
    pub(super) fn new(admission: PodAdmission, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { admission, metrics })
    }

    /// Answers until the stage is the last one, and then what is under way.
    pub(super) async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: TlsAcceptor,
        mut stages: watch::Receiver<Stage>,
    ) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
        let all = u32::try_from(CONNECTIONS_LIMIT).expect("the limit is a small number");
        let for_connections = stages.clone();
        let mut ending = pin!(is_ending(&mut stages));
        loop {
            let next = async {
                let place = places.clone().acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                () = &mut ending => break,
                next = next => next,
            };
            match accepted {
                Ok((stream, _)) => {
                    let connection = self
                        .clone()
                        .connection(stream, tls.clone(), for_connections.clone());
                    tokio::spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        // Every connection gives its place back when it ends; the semaphore is never closed.
        let _ = places.acquire_many(all).await;
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        tls: TlsAcceptor,
        mut stages: watch::Receiver<Stage>,
    ) {
        let stream = match timeout(HANDSHAKE_LIMIT, tls.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!("a handshake failed: {error}"),
            Err(_) => return tracing::debug!("a handshake took longer than {HANDSHAKE_LIMIT:?}"),
        };
        self.metrics.connections().inc();
        let service = service_fn(|request| {
            let reviews = self.clone();
            async move { Ok::<_, Infallible>(reviews.respond(request).await) }
        });
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(IDLE_LIMIT);
        let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
        let outcome = tokio::select! {
            outcome = &mut connection => outcome,
            () = is_ending(&mut stages) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        self.metrics.connections().dec();
        if let Err(error) = outcome {
            tracing::debug!("a connection broke: {error}");
        }
    }

    async fn respond<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if request.uri().path() != WEBHOOK_PATH {
            return text(
                StatusCode::NOT_FOUND,
                format!("reviews are answered at {WEBHOOK_PATH}\n"),
            );
        }
        if request.method() != Method::POST {
            return text(
                StatusCode::METHOD_NOT_ALLOWED,
                "reviews come by POST\n".to_owned(),
            );
        }
        let body = Limited::new(request.into_body(), BODY_BYTES_LIMIT).collect();
        let body = match timeout(ANSWER_LIMIT, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => {
                return text(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("cannot read the review: {error}\n"),
                );
            }
            Err(_) => {
                return text(
                    StatusCode::REQUEST_TIMEOUT,
                    "the review did not arrive in time\n".to_owned(),
                );
            }
        };
        let start = Instant::now();
        let answer = answer(&body, &self.admission);
        log(&answer);
        let outcome = answer.outcome;
        let response = http(answer);
        self.metrics.reviewed(outcome, start.elapsed());
        response
    }
}

async fn is_ending(stages: &mut watch::Receiver<Stage>) {
    // The sender lives as long as the process.
    drop(stages.wait_for(|stage| *stage == Stage::Ending).await);
}

fn log(answer: &Answer) {
    let (subject, message) = (&answer.subject, answer.message.as_deref().unwrap_or_default());
    let (namespace, pod, review) = (&*subject.namespace, &*subject.pod, &*subject.review);
    match answer.outcome {
        Outcome::Unchanged => tracing::debug!(namespace, pod, review, "unchanged"),
        Outcome::Changed => tracing::info!(namespace, pod, review, "changed"),
        Outcome::Refused => tracing::info!(namespace, pod, review, message, "refused"),
        Outcome::Malformed => tracing::warn!(namespace, pod, review, message, "malformed"),
    }
}

fn http(answer: Answer) -> Response<Full<Bytes>> {
    let Some(body) = answer.body else {
        let message = answer.message.unwrap_or_default();
        return text(StatusCode::BAD_REQUEST, message + "\n");
    };
    let mut response = Response::new(Full::from(body));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}
