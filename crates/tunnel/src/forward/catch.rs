//! The worker's half of the catch: a listener in the pod's namespace that gets every connection to its loopback.

use std::{
    fs::File,
    future::poll_fn,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
    task::{Context, Poll},
};

use peerpods_bpf::{self as bpf, Kind};
use tokio::net::{TcpListener, TcpStream};

use super::{
    Destination, ForwardError,
    program::{self, SLOT_V4, SLOT_V6, SLOTS},
};
use crate::network::{NetworkError, run_inside};

/// By this name `bpftool` lists the program.
const PROGRAM: &str = "peerpods_catch";

/// Catches the TCP connections to the loopback addresses of one network namespace, whatever their port; connections to other
/// addresses are not touched. Needs Linux 5.9, CAP_BPF and CAP_NET_ADMIN.
///
/// When it is dropped, or its process ends in whatever way, the kernel removes all of it. It keeps the namespace alive
/// until then.
pub struct LoopbackCatch {
    v4: TcpListener,
    v6: Option<TcpListener>,
    /// Held for its life alone: the program is attached as long as this is open.
    _link: OwnedFd,
}

/// A connection that was caught.
pub struct Caught {
    /// The connection, whose other end is in the namespace.
    pub stream: TcpStream,
    /// What was dialled.
    pub destination: Destination,
}

impl LoopbackCatch {
    /// Starts to catch in the network namespace that is mounted at `namespace`. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`ForwardError::Namespace`], [`ForwardError::Listen`], or [`ForwardError::Kernel`] where the kernel is too old or
    /// does not let this process.
    pub fn start(namespace: &Path) -> Result<Self, ForwardError> {
        // The port does not matter: the program sends every port here.
        let v4 = listen(namespace, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        // The node may have no IPv6.
        let v6 = listen(namespace, SocketAddr::from((Ipv6Addr::LOCALHOST, 0))).ok();
        let refused = |action| move |source| ForwardError::Kernel { action, source };
        let map = bpf::make_socket_map(SLOTS).map_err(refused("make a map of sockets"))?;
        let put = |slot, listener: &TcpListener| {
            bpf::put_socket(map.as_fd(), slot, listener.as_fd())
                .map_err(refused("put a listener into the map of sockets"))
        };
        put(SLOT_V4, &v4)?;
        v6.iter().try_for_each(|v6| put(SLOT_V6, v6))?;
        let program = bpf::load(
            Kind::SocketLookup,
            PROGRAM,
            &program::instructions(map.as_raw_fd()),
        )
        .map_err(refused("load the program that catches"))?;
        let opened = File::open(namespace).map_err(|source| NetworkError::Namespace {
            path: namespace.to_owned(),
            source,
        })?;
        // The link keeps the program, and the program the map.
        let link = bpf::attach_to_namespace(program.as_fd(), opened.as_fd())
            .map_err(refused("attach the program that catches to the pod's namespace"))?;
        Ok(Self { v4, v6, _link: link })
    }

    /// The next connection. What is given up before it is complete loses none.
    ///
    /// # Errors
    /// The kernel's, for one connection or for lack of something; a later call may succeed.
    pub async fn accept(&self) -> io::Result<Caught> {
        let stream = poll_fn(|context| self.poll_accept(context)).await?;
        // The kernel keeps what was dialled as the address of this end.
        let destination = Destination::of(stream.local_addr()?);
        Ok(Caught { stream, destination })
    }

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        for listener in std::iter::once(&self.v4).chain(&self.v6) {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                return Poll::Ready(accepted.map(|(stream, _)| stream));
            }
        }
        Poll::Pending
    }
}

fn listen(namespace: &Path, address: SocketAddr) -> Result<TcpListener, ForwardError> {
    let failed = |source| ForwardError::Listen { address, source };
    let bound = run_inside(namespace, || std::net::TcpListener::bind(address))?.map_err(failed)?;
    bound.set_nonblocking(true).map_err(failed)?;
    TcpListener::from_std(bound).map_err(failed)
}
