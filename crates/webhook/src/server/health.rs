//! What the kubelet and Prometheus are told.

use std::sync::Arc;

use peerpods_probes::{Answer, Question};
use tokio::{net::TcpListener, sync::watch};

use super::{Stage, metrics::Metrics};

/// Answers for as long as the process lives.
pub(super) async fn serve(listener: TcpListener, metrics: Arc<Metrics>, stages: watch::Receiver<Stage>) {
    peerpods_probes::serve(listener, move |question| match question {
        Question::Healthy => Answer::Yes,
        Question::Ready => match *stages.borrow() {
            Stage::Serving => Answer::Yes,
            Stage::Leaving | Stage::Ending => Answer::No("leaving"),
        },
        Question::Metrics => Answer::Metrics(metrics.text()),
    })
    .await;
}
