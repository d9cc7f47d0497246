//! The agent's socket for stock Kata shims: bytes go on to the VM, as they are.
//!
//! Our own shim does not come by here: it dials the VM itself. A stock shim opens two connections, the second of which
//! stays silent for ever; each gets a connection of its own to the agent.

use std::{io, path::Path, path::PathBuf, sync::Arc};

use peerpods_tunnel::channel::{Connection, connect};
use tokio::{
    io::copy_bidirectional,
    net::{UnixListener, UnixStream},
    task::{JoinHandle, JoinSet},
};

use crate::sandbox::chain;

/// Far more connections than any shim opens.
const CONNECTIONS_LIMIT: usize = 32;

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
            task: tokio::spawn(accept(listener, Arc::new(connection))),
        })
    }
}

async fn accept(listener: UnixListener, connection: Arc<Connection>) {
    let mut relayed = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if relayed.len() < CONNECTIONS_LIMIT => match accepted {
                Ok((shim, _)) => {
                    relayed.spawn(relay(shim, connection.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the agent's socket takes no more connections");
                    return;
                }
            },
            Some(_) = relayed.join_next() => {}
        }
    }
}

async fn relay(mut shim: UnixStream, connection: Arc<Connection>) {
    match connect(&connection).await {
        Ok(mut agent) => {
            // Either side may end at any time; what the other then sees is an end, too.
            let _ = copy_bidirectional(&mut shim, &mut agent).await;
        }
        Err(error) => tracing::warn!(error = chain(&error), "no connection to the VM's agent"),
    }
}
