//! Registration of a descriptor with the runtime's poller.
#![allow(unsafe_code)]

use std::{io, os::fd::OwnedFd};

use tokio::io::unix::AsyncFd;

/// Registers a descriptor that belongs to the result from now on.
pub(crate) fn register(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor must stay open, and be the same, for as long as it is registered. An `OwnedFd` is closed
    // only when it is dropped, always gives the same descriptor, and `AsyncFd` deregisters it before it drops it.
    unsafe { Ok(AsyncFd::register(descriptor)?) }
}
