//! The guest's lease: without a word from its worker for so long, it powers off.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};

/// When the worker was last heard. A clone is the same lease.
#[derive(Clone)]
pub(crate) struct Lease {
    term: Duration,
    renewed: Arc<Mutex<Instant>>,
}

impl Lease {
    pub(crate) fn new(term: Duration) -> Self {
        Self {
            term,
            renewed: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// The worker was heard.
    pub(crate) fn renew(&self) {
        *self
            .renewed
            .lock()
            .expect("nothing panics while it holds the time") = Instant::now();
    }

    /// Returns when the worker was not heard for the lease's term.
    pub(crate) async fn lapsed(&self) {
        loop {
            let end = *self
                .renewed
                .lock()
                .expect("nothing panics while it holds the time")
                + self.term;
            if Instant::now() >= end {
                return;
            }
            sleep_until(end).await;
        }
    }
}

/// A connection whose every received byte renews the lease.
pub(crate) struct Leased<S> {
    pub(crate) stream: S,
    pub(crate) lease: Lease,
}

impl<S: AsyncRead + Unpin> AsyncRead for Leased<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, into);
        if into.filled().len() > before {
            self.lease.renew();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Leased<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_byte_from_the_worker_renews_it() {
        let lease = Lease::new(Duration::from_secs(60));
        let (mut worker, guest) = tokio::io::duplex(16);
        let mut guest = Leased {
            stream: guest,
            lease: lease.clone(),
        };
        let start = Instant::now();
        tokio::time::advance(Duration::from_secs(50)).await;
        tokio::io::AsyncWriteExt::write_all(&mut worker, b"x")
            .await
            .unwrap();
        guest.read_exact(&mut [0]).await.unwrap();
        lease.lapsed().await;
        assert_eq!(start.elapsed(), Duration::from_secs(110));
    }
}
