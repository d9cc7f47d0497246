//! What probes and Prometheus ask of every program, over plain HTTP: `/healthz`, `/readyz`, `/metrics`.
//!
//! The program says what its answers are; here is what all have alike: how many clients are served at once, how long one
//! may take, and what each path means.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{sleep, timeout},
};

/// The kubelet's probes and a few Prometheus servers.
const CONNECTION_LIMIT: usize = 16;
/// A probe waits a second; whoever is silent for longer makes room for others.
const HEADER_LIMIT: Duration = Duration::from_secs(5);
/// A client that takes no answer makes room for others, too.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// When connections cannot be taken, because descriptors are short, that passes or is seen by the probes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// `/healthz`: whether a restart would help.
    Healthy,
    /// `/readyz`: whether it does its part now.
    Ready,
    /// `/metrics`
    Metrics,
}

impl Question {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/healthz" => Some(Self::Healthy),
            "/readyz" => Some(Self::Ready),
            "/metrics" => Some(Self::Metrics),
            _ => None,
        }
    }
}

/// What a program answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is so.
    Yes,
    /// It is not, and why: words for a person who asks.
    No(&'static str),
    /// Figures, as [`figures`] writes them.
    Metrics(String),
}

impl Answer {
    fn into_response(self) -> Response<Full<Bytes>> {
        match self {
            Self::Yes => response(StatusCode::OK, TEXT, "ok\n".to_owned()),
            Self::No(reason) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
            Self::Metrics(figures) => response(StatusCode::OK, OPEN_METRICS, figures),
        }
    }
}

/// All figures of a registry, as OpenMetrics.
pub fn figures(registry: &Registry) -> String {
    let mut text = String::new();
    if encode(&mut text, registry).is_err() {
        // A string takes everything; a figure that cannot be written would be an error of the library.
        text.clear();
    }
    text
}

/// Answers for as long as the process lives.
pub async fn serve<A>(listener: TcpListener, answer: A)
where
    A: Fn(Question) -> Answer + Send + Sync + 'static,
{
    let answer = Arc::new(answer);
    let places = Arc::new(Semaphore::new(CONNECTION_LIMIT));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            // Nobody closes it.
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                report(&error);
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = respond(&request, answer.as_ref());
                async { Ok::<_, Infallible>(response) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_LIMIT)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            if let Ok(Err(error)) = timeout(HEADER_LIMIT + ANSWER_LIMIT, served).await {
                tracing::debug!(error = peerpods_error::chain(&error), "a probe went away");
            }
            drop(place);
        });
    }
}

fn report(error: &io::Error) {
    if error.kind() != io::ErrorKind::ConnectionAborted {
        tracing::warn!(error = peerpods_error::chain(error), "a probe cannot be answered");
    }
}

fn respond<B>(request: &Request<B>, answer: &impl Fn(Question) -> Answer) -> Response<Full<Bytes>> {
    let question = match *request.method() {
        Method::GET => Question::of(request.uri().path()),
        _ => None,
    };
    match question {
        Some(question) => answer(question).into_response(),
        None => response(
            StatusCode::NOT_FOUND,
            TEXT,
            "there are GET /healthz, /readyz and /metrics\n".to_owned(),
        ),
    }
}

fn response(status: StatusCode, content: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content));
    response
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    async fn ask(listening: std::net::SocketAddr, line: &str) -> String {
        let mut stream = TcpStream::connect(listening).await.unwrap();
        let request = format!("{line} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn probes_are_answered_and_all_else_is_told_what_there_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, |question| match question {
            Question::Healthy => Answer::Yes,
            Question::Ready => Answer::No("the cluster is being read"),
            Question::Metrics => Answer::Metrics(figures(&Registry::default())),
        }));

        let text = ask(address, "GET /healthz").await;
        assert!(
            text.starts_with("HTTP/1.1 200 ") && text.ends_with("\r\n\r\nok\n"),
            "{text}"
        );
        let text = ask(address, "GET /readyz").await;
        assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
        assert!(text.ends_with("\r\n\r\nthe cluster is being read\n"), "{text}");
        let text = ask(address, "GET /metrics").await;
        assert!(
            text.contains("content-type: application/openmetrics-text"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
        for line in ["GET /", "POST /healthz"] {
            let text = ask(address, line).await;
            assert!(
                text.starts_with("HTTP/1.1 404 ") && text.contains("/readyz"),
                "{text}"
            );
        }
    }

    /// A silent client holds one place, and not for ever; others are answered meanwhile.
    #[tokio::test]
    async fn silent_clients_do_not_keep_others_from_their_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, |_| Answer::Yes));
        let mut silent = Vec::new();
        for _ in 1..CONNECTION_LIMIT {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(ask(address, "GET /healthz").await.contains("200"));
    }
}
