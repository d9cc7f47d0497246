//! A service of the VM's own network that the pod reaches, at the same address.
//!
//! The pod's network leads to its worker alone. So the address becomes one of the pod's own loopback, where the guest
//! listens, and carries what is said there to the service from the VM's network: no packet of the pod's enters that, and
//! the service, which may answer nobody but the VM, sees the VM.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

use super::{ForwardError, carry::both_ways};
use crate::network::run_inside;

/// How many connections of the pod's are carried at once; further ones wait.
pub const OUTLET_LIMIT: usize = 32;
/// The service is beside the VM.
const DIAL_LIMIT: Duration = Duration::from_secs(5);
/// A connection that was asked for a question does not stay for longer.
const CARRY_LIMIT: Duration = Duration::from_secs(300);
/// After an error of the listener's: it may be out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens in the namespace `inside`, whose loopback has the address of `service`, and carries connections there for as long
/// as this task's runtime lives.
///
/// # Errors
/// [`ForwardError`]: somebody listens there already.
pub fn open_outlet(inside: &Path, service: SocketAddr) -> Result<(), ForwardError> {
    let failed = |source| ForwardError::Listen {
        address: service,
        source,
    };
    // A socket belongs to the namespace in which it was made.
    let listener = run_inside(inside, || TcpListener::bind(service))?.map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    tokio::spawn(serve(listener, service));
    Ok(())
}

async fn serve(listener: tokio::net::TcpListener, service: SocketAddr) {
    let slots = Arc::new(Semaphore::new(OUTLET_LIMIT));
    loop {
        let slot = slots.clone().acquire_owned().await;
        let slot = slot.expect("nobody closes the semaphore");
        match listener.accept().await {
            Ok((client, _)) => {
                tokio::spawn(async move {
                    if let Err(error) = carry(slot, client, service).await {
                        tracing::debug!(%service, %error, "a connection of the pod's ended early");
                    }
                });
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn carry(slot: OwnedSemaphorePermit, mut client: TcpStream, service: SocketAddr) -> io::Result<()> {
    let dialled = timeout(DIAL_LIMIT, TcpStream::connect(service)).await;
    let mut server = dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    let carried = timeout(CARRY_LIMIT, both_ways(&mut client, &mut server)).await;
    drop(slot);
    carried.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
