//! The guest's half: dials the pod's loopback for the worker.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    Destination, ForwardError,
    carry::{both_ways, end_in_order, reset_when_dropped},
    header::{Answer, HEADER_BYTES},
};
use crate::network::run_inside;

/// How many forwards a guest serves at once: those of its worker, and some that the worker has given up and that have not
/// ended here yet.
pub const GUEST_LIMIT: usize = 96;
/// The longest for a worker to say where to: it does so with its first packet.
const HEADER_LIMIT: Duration = Duration::from_secs(10);
/// The longest for one loopback address: longer than a moment takes only a server that does not accept.
const DIAL_LIMIT: Duration = Duration::from_secs(10);

/// Serves forwards into one network namespace. A clone shares the limit.
#[derive(Clone)]
pub struct GuestForwarder {
    namespace: PathBuf,
    slots: Arc<Semaphore>,
}

/// The right to serve one forward, until it is dropped.
pub struct Slot(#[expect(dead_code, reason = "its drop is its use")] OwnedSemaphorePermit);

impl GuestForwarder {
    /// Forwards into the network namespace that is mounted at `namespace`, which need not be there yet.
    pub fn new(namespace: &Path) -> Self {
        Self {
            namespace: namespace.to_owned(),
            slots: Arc::new(Semaphore::new(GUEST_LIMIT)),
        }
    }

    /// A place for one more forward; `None` where [`GUEST_LIMIT`] are served.
    pub fn slot(&self) -> Option<Slot> {
        Arc::clone(&self.slots).try_acquire_owned().ok().map(Slot)
    }

    /// Serves a worker's connection to its end.
    ///
    /// # Errors
    /// [`ForwardError`]; the worker knows by then.
    pub async fn serve<Stream>(&self, slot: Slot, mut worker: Stream) -> Result<(), ForwardError>
    where
        Stream: AsyncRead + AsyncWrite + Unpin,
    {
        let destination = read_destination(&mut worker).await?;
        let dialled = self.dial(destination).await;
        let answer = match &dialled {
            Ok(_) => Answer::Connected,
            Err(ForwardError::Dial { source, .. }) if is_refusal(source) => Answer::Refused,
            Err(_) => Answer::Unavailable,
        };
        let broken_off = |source| ForwardError::BrokenOff { destination, source };
        worker.write_all(&[answer.to_byte()]).await.map_err(broken_off)?;
        worker.flush().await.map_err(broken_off)?;
        let served = match dialled {
            Ok(server) => carry(server, &mut worker).await.map_err(broken_off),
            Err(error) => {
                worker.shutdown().await.map_err(broken_off)?;
                Err(error)
            }
        };
        drop(slot);
        served
    }

    /// Connects to the destination, in whichever family somebody listens: a runtime that dials both would have found the
    /// second one, but the first never refuses it on the worker.
    async fn dial(&self, destination: Destination) -> Result<TcpStream, ForwardError> {
        let [first, second] = destination.addresses();
        match self.dial_one(first).await {
            Ok(server) => Ok(server),
            Err(error) => self.dial_one(second).await.map_err(|_| error),
        }
    }

    async fn dial_one(&self, address: SocketAddr) -> Result<TcpStream, ForwardError> {
        let failed = |source| ForwardError::Dial { address, source };
        let open = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4,
            SocketAddr::V6(_) => TcpSocket::new_v6,
        };
        // A socket belongs to the namespace in which it was made, whoever connects it.
        let socket = run_inside(&self.namespace, open)?.map_err(failed)?;
        let connected = timeout(DIAL_LIMIT, socket.connect(address)).await;
        let server = connected
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(failed)?;
        reset_when_dropped(&server).map_err(failed)?;
        Ok(server)
    }
}

async fn read_destination(worker: &mut (impl AsyncRead + Unpin)) -> Result<Destination, ForwardError> {
    const WHAT: &str = "destination from the worker";
    let mut header = [0; HEADER_BYTES];
    let read = timeout(HEADER_LIMIT, worker.read_exact(&mut header)).await;
    let read = read.map_err(|_| ForwardError::Timeout {
        what: WHAT,
        limit: HEADER_LIMIT,
    })?;
    read.map_err(|source| ForwardError::Unsaid { what: WHAT, source })?;
    Destination::from_bytes(header).ok_or_else(|| ForwardError::Malformed {
        what: "destination",
        bytes: header.to_vec(),
    })
}

async fn carry(mut server: TcpStream, worker: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    both_ways(&mut server, worker).await?;
    end_in_order(&server)
}

fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}
