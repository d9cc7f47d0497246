//! The server's life: settings, certificate, reviews until SIGTERM, and the answers that are under way.

mod certificate;
mod health;
mod metrics;
mod reviews;

use std::{io, net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use peerpods_error::chain;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::timeout,
};
use tracing::Level;

use self::{certificate::Certificate, metrics::Metrics, reviews::Reviews};
use crate::settings::Settings;

/// After SIGTERM reviews still come until every API server knows that this one is going.
const LEAVE_TIME: Duration = Duration::from_secs(3);
/// The API server waits no longer for an answer, so neither do we for those under way.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Whether the process goes on. A change is seen by all that wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Reviews are answered.
    Serving,
    /// Reviews are answered, and new ones should go elsewhere.
    Leaving,
    /// What is under way is answered.
    Ending,
}

/// What ends the server at once: an administrator has to do something about it.
#[derive(Debug, thiserror::Error)]
enum Fatal {
    #[error("cannot start")]
    Start(#[source] io::Error),
    #[error("cannot use the certificate")]
    Certificate(#[source] certificate::CertificateError),
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
}

/// The figures that the webhook tells Prometheus, as OpenMetrics, before anything has happened: names, kinds and meanings.
pub fn metrics() -> String {
    Metrics::default().text()
}

/// Runs the webhook until SIGTERM or SIGINT.
pub fn main() -> ExitCode {
    let settings = Settings::parse();
    peerpods_log::to_standard_error(Level::INFO);
    // One thread answers thousands of reviews a second, and has one heap.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(settings)),
        Err(error) => Err(Fatal::Start(error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: Settings) -> Result<(), Fatal> {
    let admission = settings.admission();
    let metrics = Arc::new(Metrics::default());
    let files = [settings.tls_certificate.clone(), settings.tls_key.clone()];
    let certificate = Certificate::load(files).map_err(Fatal::Certificate)?;
    let mut signals = Signals::new().map_err(Fatal::Signals)?;
    let reviews = listen(settings.listen).await?;
    let health = listen(settings.health_listen).await?;
    let (stage, stages) = watch::channel(Stage::Serving);
    tracing::info!(
        address = %settings.listen, class = admission.runtime_class, resource = admission.vm_resource,
        excluded_namespaces = admission.excluded_namespaces.len(), "reviews are answered"
    );
    tokio::spawn(certificate.clone().follow(metrics.clone()));
    tokio::spawn(health::serve(health, metrics.clone(), stages.clone()));
    let reviews = Reviews::new(admission, metrics).serve(reviews, certificate.acceptor(), stages);
    let reviews = tokio::spawn(reviews);

    signals.wait().await;
    tracing::info!("leaving: reviews are answered for {LEAVE_TIME:?} more");
    stage.send_replace(Stage::Leaving);
    tokio::select! {
        () = tokio::time::sleep(LEAVE_TIME) => {}
        () = signals.wait() => {}
    }
    stage.send_replace(Stage::Ending);
    if timeout(ANSWER_LIMIT, reviews).await.is_err() {
        tracing::warn!("some reviews are left without an answer");
    }
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Fatal> {
    TcpListener::bind(address)
        .await
        .map_err(|source| Fatal::Listen { address, source })
}

/// What asks the server to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
