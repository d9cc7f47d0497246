//! The worker's half: every connection that is caught gets one to the guest.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::client::TlsStream;

use super::{
    Caught, Destination, ForwardError, LoopbackCatch,
    carry::{both_ways, end_in_order, reset_when_dropped},
    header::Answer,
};
use crate::channel::{Connection, connect_forward};

/// How many connections of a pod are carried at once: a browser opens about ten, a pool of database connections a few dozen.
/// Each holds some 100 KiB. Further ones wait in the kernel until one ends.
pub const WORKER_LIMIT: usize = 64;
/// The longest for the guest to say whether it is connected: it dials twice, ten seconds at most each.
const ANSWER_LIMIT: Duration = Duration::from_secs(25);
/// The pause after the kernel refuses a connection, for example for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Carries what is caught to the guest of `connection`. It does not end; when it is dropped, every connection that it
/// carries is reset.
pub async fn carry_caught(catch: LoopbackCatch, connection: Connection) -> Infallible {
    let connection = Arc::new(connection);
    let mut carried = JoinSet::new();
    loop {
        tokio::select! {
            Some(ended) = carried.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a forward did not end by itself");
                }
            }
            accepted = catch.accept(), if carried.len() < WORKER_LIMIT => match accepted {
                Ok(caught) => drop(carried.spawn(carry_one(caught, Arc::clone(&connection)))),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to forward");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn carry_one(caught: Caught, connection: Arc<Connection>) {
    let destination = caught.destination;
    match carry(caught, &connection).await {
        Ok(()) => tracing::debug!(%destination, "forwarded"),
        Err(error @ (ForwardError::Refused(_) | ForwardError::BrokenOff { .. })) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "forward ended");
        }
        Err(error) => {
            tracing::warn!(%destination, error = &error as &dyn std::error::Error, "cannot forward");
        }
    }
}

async fn carry(caught: Caught, connection: &Connection) -> Result<(), ForwardError> {
    let Caught {
        mut stream,
        destination,
    } = caught;
    let broken_off = |source| ForwardError::BrokenOff { destination, source };
    reset_when_dropped(&stream).map_err(broken_off)?;
    let mut guest = open(connection, destination).await?;
    both_ways(&mut stream, &mut guest).await.map_err(broken_off)?;
    end_in_order(&stream).map_err(broken_off)
}

/// Opens a connection through the guest; where it succeeds, somebody listens at the destination.
async fn open(
    connection: &Connection,
    destination: Destination,
) -> Result<TlsStream<TcpStream>, ForwardError> {
    let mut guest = connect_forward(connection).await?;
    let mut answer = [0];
    let exchange = async {
        guest.write_all(&destination.to_bytes()).await?;
        guest.flush().await?;
        guest.read_exact(&mut answer).await
    };
    let what = "answer from the guest";
    let exchanged = timeout(ANSWER_LIMIT, exchange).await;
    let exchanged = exchanged.map_err(|_| ForwardError::Timeout {
        what,
        limit: ANSWER_LIMIT,
    })?;
    exchanged.map_err(|source| ForwardError::Unsaid { what, source })?;
    match Answer::from_byte(answer[0]) {
        Some(Answer::Connected) => Ok(guest),
        Some(Answer::Refused) => Err(ForwardError::Refused(destination)),
        Some(Answer::Unavailable) => Err(ForwardError::Unavailable(destination)),
        None => Err(ForwardError::Malformed {
            what: "answer",
            bytes: answer.to_vec(),
        }),
    }
}
