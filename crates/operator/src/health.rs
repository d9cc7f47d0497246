//! What probes and Prometheus ask: `/healthz`, `/readyz`, `/metrics`.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::metrics::Metrics;

/// A round takes as long as its slowest action; one that takes longer has lost its way.
const ROUND_LIMIT: Duration = Duration::from_secs(300);
/// How long a client may take to send a request.
const HEADER_LIMIT: Duration = Duration::from_secs(5);
/// How many clients are served at once: the kubelet and a few scrapers.
const CONNECTION_LIMIT: usize = 16;

/// What the process is doing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Doing {
    /// Another one acts.
    StandingBy,
    /// It acts, and does not know the cluster yet.
    Reading,
    /// It waits for something to do.
    Waiting,
    /// It is within a round.
    Acting {
        /// Since when.
        since: Instant,
    },
}

/// What the process is doing, shared with who asks.
#[derive(Clone, Debug)]
pub struct Health(Arc<Mutex<Doing>>);

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Doing::StandingBy)))
    }
}

impl Health {
    pub(crate) fn set(&self, doing: Doing) {
        *self.state() = doing;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Doing> {
        self.0.lock().expect("nothing panics while it holds this")
    }

    /// Whether a restart would help.
    fn is_stuck(&self) -> bool {
        matches!(*self.state(), Doing::Acting { since } if since.elapsed() > ROUND_LIMIT)
    }

    /// Whether it does its part: standing by is one.
    fn is_ready(&self) -> bool {
        !matches!(*self.state(), Doing::Reading)
    }
}

/// Answers until the process ends.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(address: SocketAddr, health: Health, metrics: Arc<Metrics>) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    serve_on(listener, move |path| match path {
        "/healthz" if health.is_stuck() => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "a round does not end\n".to_owned(),
        ),
        "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" if health.is_ready() => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the cluster is being read\n".to_owned(),
        ),
        "/metrics" => (StatusCode::OK, metrics.text()),
        _ => (
            StatusCode::NOT_FOUND,
            "there are /healthz, /readyz and /metrics\n".to_owned(),
        ),
    })
    .await
}

/// Answers every request for a path with what `answer` says.
///
/// # Errors
/// Connections cannot be taken any more.
pub(crate) async fn serve_on(
    listener: TcpListener,
    answer: impl Fn(&str) -> (StatusCode, String) + Send + Sync + 'static,
) -> std::io::Result<()> {
    let answer = Arc::new(answer);
    let connections = Arc::new(Semaphore::new(CONNECTION_LIMIT));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else {
            // Nobody closes it.
            return Ok(());
        };
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let (status, text) = answer(request.uri().path());
                let mut response = Response::new(Full::new(Bytes::from(text)));
                *response.status_mut() = status;
                async move { Ok::<_, Infallible>(response) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_LIMIT)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(error = peerpods_error::chain(&error), "a probe went away");
            }
            drop(permit);
        });
    }
}
