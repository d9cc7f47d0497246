//! The socket on which libcontainer hands over a terminal.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::{Path, PathBuf},
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::error::GuestError;

/// Waits for one terminal.
pub(super) struct ConsoleSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        // A socket that is left is one file in memory.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl ConsoleSocket {
    pub(super) fn bind(path: PathBuf) -> Result<Self, GuestError> {
        let listener = UnixListener::bind(&path).map_err(GuestError::file("listen on", &path))?;
        Ok(Self { path, listener })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the terminal's controlling side. The helper has ended and has sent it: there is nothing to wait for.
    pub(super) fn take(&self) -> Result<OwnedFd, GuestError> {
        self.receive()
            .map_err(GuestError::system("take the container's terminal"))
    }

    fn receive(&self) -> io::Result<OwnedFd> {
        self.listener.set_nonblocking(true)?;
        let (connection, _) = self.listener.accept()?;
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut messages = RecvAncillaryBuffer::new(&mut space);
        // The sender writes the terminal's name along; it is of no use here.
        let mut name = [0; 4096];
        recvmsg(
            &connection,
            &mut [io::IoSliceMut::new(&mut name)],
            &mut messages,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        for message in messages.drain() {
            if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
                && let Some(terminal) = descriptors.next()
            {
                return Ok(terminal);
            }
        }
        Err(io::Error::other("no terminal came"))
    }
}
