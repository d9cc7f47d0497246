//! Health and metrics, over plain HTTP.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, body::Bytes, header, server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

use super::{Stage, metrics::Metrics};

/// The kubelet's probes and a few Prometheus servers.
const CONNECTIONS_LIMIT: usize = 16;
/// A probe waits a second; whoever is silent for longer makes room for others.
const HEADER_LIMIT: Duration = Duration::from_secs(5);
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers for as long as the process lives.
pub(super) async fn serve(listener: TcpListener, metrics: Arc<Metrics>, stages: watch::Receiver<Stage>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (metrics, stages) = (metrics.clone(), stages.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = respond(&request, &metrics, *stages.borrow());
                async { Ok::<_, Infallible>(response) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
            // What a client does to its connection is its own affair.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
            drop(place);
        });
    }
}

fn respond<B>(request: &Request<B>, metrics: &Metrics, stage: Stage) -> Response<Full<Bytes>> {
    let (status, content_type, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/healthz") => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
        (&Method::GET, "/readyz") => match stage {
            Stage::Serving => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
            Stage::Leaving | Stage::Ending => (
                StatusCode::SERVICE_UNAVAILABLE,
                "text/plain",
                "leaving\n".to_owned(),
            ),
        },
        (&Method::GET, "/metrics") => (StatusCode::OK, METRICS_TYPE, metrics.text()),
        _ => (
            StatusCode::NOT_FOUND,
            "text/plain",
            "there are GET /healthz, /readyz and /metrics\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
    response
}
