//! Connections of the container runtime, which asks for little and often: each request costs as few wake-ups as it can.
//!
//! A socket of tokio's is told of room to write from its first moment to its last, and a Unix socket reports room each time
//! that its peer has read: a wake-up for every answer. Here room is watched only while there is none. And what a request
//! consists of, a header and a body, is read at once.

use std::{
    io::{self, IoSlice},
    os::{fd::OwnedFd, unix::net::UnixListener},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::Stream;
use rustix::{
    io::{Errno, read, write, writev},
    net::{Shutdown, shutdown},
};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, Interest, ReadBuf, unix::AsyncFd};

use crate::unsafe_register::register;

/// What is read at once: more than most requests have.
const BUFFER_BYTES: usize = 4096;

/// The connections that come to a socket. Needs a tokio runtime.
pub(crate) fn connections(
    listener: UnixListener,
) -> io::Result<impl Stream<Item = io::Result<BufReader<Connection>>>> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    Ok(futures::stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await;
        let connection = accepted.and_then(|(stream, _)| Connection::new(stream.into_std()?.into()));
        let buffered = connection.map(|connection| BufReader::with_capacity(BUFFER_BYTES, connection));
        Some((buffered, listener))
    }))
}

/// A connection that is watched for what comes, and for room only while there is none.
pub(crate) struct Connection {
    stream: AsyncFd<OwnedFd>,
    /// A duplicate of the stream's descriptor: one is watched for one thing only.
    room: Option<AsyncFd<OwnedFd>>,
}

impl Connection {
    fn new(stream: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            stream: register(stream, Interest::READABLE)?,
            room: None,
        })
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        send: impl Fn(&OwnedFd) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let room = match &self.room {
                None => None,
                Some(room) => Some(ready!(room.poll_write_ready(context))?),
            };
            match send(self.stream.get_ref()) {
                Err(Errno::WOULDBLOCK) => match room {
                    Some(mut room) => room.clear_ready(),
                    None => {
                        let duplicate = self.stream.get_ref().try_clone()?;
                        self.room = Some(register(duplicate, Interest::WRITABLE)?);
                    }
                },
                Err(Errno::INTR) => {}
                sent => {
                    self.room = None;
                    return Poll::Ready(sent.map_err(Into::into));
                }
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut some = ready!(self.stream.poll_read_ready(context))?;
            let free = buffer.initialize_unfilled();
            match read(some.get_inner(), &mut *free) {
                Ok(size) => {
                    // A socket that fills less than there is room for has no more now: the next look is spared.
                    if size < free.len() {
                        some.clear_ready();
                    }
                    buffer.advance(size);
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::WOULDBLOCK) => some.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, |stream| write(stream, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, |stream| writev(stream, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(self.stream.get_ref(), Shutdown::Write).map_err(Into::into))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::StreamExt;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    use super::*;

    /// Longer than anything here takes on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(20);
    /// Far more than both sockets hold.
    const MUCH: usize = 8 << 20;

    async fn pair() -> (BufReader<Connection>, tokio::net::UnixStream) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let mut accepted = Box::pin(connections(UnixListener::bind(&path).unwrap()).unwrap());
        let client = tokio::net::UnixStream::connect(&path).await.unwrap();
        (accepted.next().await.unwrap().unwrap(), client)
    }

    #[tokio::test]
    async fn what_was_sent_arrives_in_pieces_and_at_once_until_the_end() {
        let (mut server, mut client) = pair().await;
        for _ in 0..3 {
            client.write_all(b"header and body").await.unwrap();
            let mut header = [0; 6];
            server.read_exact(&mut header).await.unwrap();
            let mut body = [0; 9];
            server.read_exact(&mut body).await.unwrap();
            assert_eq!((&header, &body), (b"header", b" and body"));
        }
        drop(client);
        assert_eq!(
            timeout(PATIENCE, server.read(&mut [0; 1]))
                .await
                .unwrap()
                .unwrap(),
            0
        );
    }

    #[tokio::test]
    async fn a_writer_waits_for_a_reader_that_takes_its_time() {
        let (mut server, mut client) = pair().await;
        let writing = tokio::spawn(async move {
            for _ in 0..2 {
                server.write_all(&vec![b'x'; MUCH]).await.unwrap();
            }
            server.shutdown().await.unwrap();
            server
        });
        // It cannot be done before somebody reads.
        tokio::task::yield_now().await;
        assert!(!writing.is_finished());
        let mut received = Vec::new();
        timeout(PATIENCE, client.read_to_end(&mut received))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(received.len(), 2 * MUCH);
        assert!(writing.await.unwrap().get_ref().room.is_none());
    }

    #[tokio::test]
    async fn a_peer_that_has_gone_is_told_to_the_writer() {
        let (mut server, client) = pair().await;
        drop(client);
        let broken = server.write_all(&vec![b'x'; MUCH]).await.unwrap_err();
        assert_eq!(broken.kind(), io::ErrorKind::BrokenPipe);
    }
}
