//! What probes and Prometheus ask: `/healthz`, `/readyz`, `/metrics`.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use peerpods_probes::{Answer, Question};
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// A round takes as long as its slowest action; one that takes longer has lost its way.
const ROUND_LIMIT: Duration = Duration::from_secs(300);

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
    peerpods_probes::serve(listener, move |question| match question {
        Question::Healthy if health.is_stuck() => Answer::No("a round does not end"),
        Question::Healthy => Answer::Yes,
        Question::Ready if health.is_ready() => Answer::Yes,
        Question::Ready => Answer::No("the cluster is being read"),
        Question::Metrics => Answer::Metrics(metrics.text()),
    })
    .await;
    Ok(())
}
