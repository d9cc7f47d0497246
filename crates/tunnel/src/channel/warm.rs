//! The listener of a guest without a pod: it meets its worker, and waits to be claimed.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::mpsc, time::timeout};

use super::{
    CLAIM_PROTOCOL, ChannelError, JOIN_PROTOCOL, ListenerConfig,
    claim::Claim,
    gate::{Admitted, Gate},
    listener::serve,
};

/// The longest for a claim to arrive once its connection stands: it is a few KiB.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// What may wait to be taken; its sender waits for it.
const BACKLOG: usize = 4;

/// Something that the worker did.
pub enum WarmEvent {
    /// It proved the join secret, for the first time or again: it is there.
    Heard,
    /// It gives the guest a pod. Whoever gets this closes the listener: there is no second one.
    Claimed(Box<Claim>),
}

/// Listens for joins and for one claim. Agent connections are refused: there is no pod to serve.
pub struct WarmListener {
    address: SocketAddr,
    events: mpsc::Receiver<Admitted>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for WarmListener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl WarmListener {
    /// Listens on `address` with a key made now. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`ChannelError::Credentials`] or [`ChannelError::Listen`].
    pub async fn bind(address: SocketAddr, config: ListenerConfig) -> Result<Self, ChannelError> {
        let gate = Arc::new(Gate::new(config, &[CLAIM_PROTOCOL, JOIN_PROTOCOL])?);
        let failed = |source| ChannelError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (sender, events) = mpsc::channel(BACKLOG);
        let hand_out = move |admitted| {
            let sender = sender.clone();
            // Nobody listens once the guest is claimed.
            async move { drop(sender.send(admitted).await) }
        };
        let task = tokio::spawn(serve(listener, gate, hand_out));
        Ok(Self {
            address,
            events,
            task,
        })
    }

    /// Stops listening; on return the address is free for the agent's listener.
    pub async fn close(mut self) {
        self.task.abort();
        // Aborted, it holds the socket until it has really ended.
        let _ = (&mut self.task).await;
    }

    /// The address listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the worker did next. A claim that broke off before it was read is none, and can be made again.
    ///
    /// # Errors
    /// [`ChannelError::Closed`]: there will be no more.
    pub async fn next(&mut self) -> Result<WarmEvent, ChannelError> {
        loop {
            let stream = match self.events.recv().await.ok_or(ChannelError::Closed)? {
                Admitted::Claim(stream) => stream,
                Admitted::Joined => return Ok(WarmEvent::Heard),
                // The gate of this listener admits none.
                Admitted::Agent(_) | Admitted::Forward(_) => continue,
            };
            match timeout(READ_LIMIT, Claim::read(stream)).await {
                Ok(Ok(claim)) => return Ok(WarmEvent::Claimed(Box::new(claim))),
                Ok(Err(error)) => tracing::debug!(%error, "a claim broke off"),
                Err(_) => tracing::debug!("a claim did not arrive in time"),
            }
        }
    }
}
