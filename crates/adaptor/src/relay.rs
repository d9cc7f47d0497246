//! The agent's socket for stock Kata shims: bytes go on to the VM, as they are.
//!
//! Our own shim does not come by here: it dials the VM itself. A stock shim opens two connections, the second of which
//! stays silent for ever; each gets a connection of its own to the agent.

use std::{io, path::Path, path::PathBuf, sync::Arc, time::Duration};

use peerpods_error::chain;
use peerpods_tunnel::channel::{Connection, connect};
use tokio::{
    io::{AsyncWriteExt, copy, split},
    net::{UnixListener, UnixStream},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tracing::Instrument;

/// Far more connections than any shim opens; further ones wait until one of these ends.
const CONNECTIONS_LIMIT: usize = 32;
/// How long no connection is taken after one could not be: until the process has descriptors again, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the VM is told that a connection ends: one that does not take it in has gone, or will see it by itself.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);

/// The socket cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {path}")]
pub(crate) struct RelayError {
    path: PathBuf,
    source: io::Error,
}

/// Relays until it is dropped.
pub(crate) struct Relay {
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    /// Listens at `path` for shims of the VM that `connection` reaches.
    pub(crate) fn open(path: &Path, connection: Connection) -> Result<Self, RelayError> {
        let failed = |source| RelayError {
            path: path.to_owned(),
            source,
        };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        Ok(Self {
            task: tokio::spawn(accept(listener, Arc::new(connection)).in_current_span()),
        })
    }
}

async fn accept(listener: UnixListener, connection: Arc<Connection>) {
    let mut relayed = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if relayed.len() < CONNECTIONS_LIMIT => match accepted {
                Ok((shim, _)) => {
                    relayed.spawn(relay(shim, connection.clone()).in_current_span());
                }
                // Those that are relayed go on.
                Err(error) => {
                    tracing::warn!(%error, "the agent's socket takes no connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = relayed.join_next() => {}
        }
    }
}

async fn relay(mut shim: UnixStream, connection: Arc<Connection>) {
    let agent = match connect(&connection).await {
        Ok(agent) => agent,
        Err(error) => {
            tracing::warn!(error = chain(&error), "no connection to the VM's agent");
            return;
        }
    };
    let ((mut from_agent, mut to_agent), (mut from_shim, mut to_shim)) = (split(agent), shim.split());
    // The protocol knows no half-closed connection: the end of either side is the end of both, however it came about.
    tokio::select! {
        _ = copy(&mut from_shim, &mut to_agent) => {}
        _ = copy(&mut from_agent, &mut to_shim) => {}
    }
    let _ = timeout(GOODBYE_LIMIT, to_agent.shutdown()).await;
}

#[cfg(test)]
mod tests;
