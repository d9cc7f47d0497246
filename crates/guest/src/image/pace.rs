//! The slowest that a layer may come: a registry that sends a byte now and then is silent but for the name.

use std::{
    io,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};

use super::limits;

/// A layer came too slowly.
#[derive(Debug, thiserror::Error)]
#[error("fewer than {} bytes came in {waited:?}", limits::SLOWEST_BYTES)]
pub(super) struct TooSlow {
    waited: Duration,
}

struct Paced {
    stream: BoxStream<'static, io::Result<Bytes>>,
    window: Duration,
    /// How long was waited for the registry in the present window; what the reader takes for itself does not count.
    waited: Duration,
    brought: usize,
}

/// The same stream, which ends with [`TooSlow`] after a window of waiting that brought fewer than
/// [`limits::SLOWEST_BYTES`].
pub(super) fn paced(
    stream: BoxStream<'static, io::Result<Bytes>>,
    window: Duration,
) -> BoxStream<'static, io::Result<Bytes>> {
    let paced = Paced {
        stream,
        window,
        waited: Duration::ZERO,
        brought: 0,
    };
    stream::unfold(paced, |mut paced| async move {
        let start = Instant::now();
        let chunk = paced.stream.next().await?;
        paced.waited += start.elapsed();
        paced.brought += chunk.as_ref().map_or(0, Bytes::len);
        if paced.waited < paced.window || chunk.is_err() {
            return Some((chunk, paced));
        }
        if paced.brought < limits::SLOWEST_BYTES {
            let slow = TooSlow { waited: paced.waited };
            return Some((Err(io::Error::new(io::ErrorKind::TimedOut, slow)), paced));
        }
        (paced.waited, paced.brought) = (Duration::ZERO, 0);
        Some((chunk, paced))
    })
    .boxed()
}
