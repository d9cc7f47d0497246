//! One layer's way from the registry to a directory.
//!
//! The download runs as a task, decoding and unpacking on a blocking thread; a bounded channel between them lets
//! the slower one set the pace. The thread owns the unfinished directory: however the pull ends, by an error,
//! a dropped future or a panic, the thread removes what is not whole.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Buf as _, Bytes};
use futures::{StreamExt as _, stream::BoxStream};
use tokio::sync::mpsc;

use super::{
    ImageError,
    digest::DigestingReader,
    failure, limits,
    manifest::{Compression, Descriptor},
    registry::Registry,
    unpack,
};

/// Buffer between decoder and unpacker: large enough that a tar header does not cost a call into the decoder.
const DECODED_BUFFER_BYTES: usize = 128 << 10;

/// What the layers of one image may still expand to.
#[derive(Clone)]
pub(super) struct Budget {
    remaining: Arc<AtomicU64>,
    limit: u64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Budget {
        Budget {
            remaining: Arc::new(AtomicU64::new(limit)),
            limit,
        }
    }

    /// The share of one try at one layer.
    pub(super) fn share(&self) -> Share {
        Share {
            budget: self.clone(),
            taken: 0,
        }
    }
}

/// What one try took; given back unless the layer is kept.
pub(super) struct Share {
    budget: Budget,
    taken: u64,
}

impl Share {
    fn take(&mut self, bytes: u64) -> Result<(), ImageError> {
        let take = |left: u64| left.checked_sub(bytes);
        match self
            .budget
            .remaining
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        {
            Ok(_) => {
                self.taken += bytes;
                Ok(())
            }
            Err(_) => Err(ImageError::LimitExceeded {
                subject: "the unpacked image".to_owned(),
                limit: self.budget.limit,
                unit: "bytes",
            }),
        }
    }

    fn keep(&mut self) {
        self.taken = 0;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.remaining.fetch_add(self.taken, Ordering::Relaxed);
    }
}

/// Downloads, verifies and unpacks a layer to `destination`, by way of a directory in `incoming`.
pub(super) async fn fetch(
    registry: &Registry<'_>,
    layer: &Descriptor,
    incoming: &Path,
    destination: &Path,
    share: Share,
) -> Result<(), ImageError> {
    let stream = registry.layer(layer).await?;
    let (sender, receiver) = mpsc::channel(limits::WAITING_CHUNKS);
    let directory = Incoming::create(incoming)?;
    let unpacking = tokio::task::spawn_blocking({
        let (layer, destination) = (layer.clone(), destination.to_owned());
        move || unpack(&layer, Chunks::new(receiver), directory, &destination, share)
    });
    let downloaded = download(registry, layer, stream, sender).await;
    let unpacked = unpacking.await;
    downloaded?;
    unpacked.unwrap_or_else(|_| {
        Err(ImageError::Abandoned {
            layer: layer.digest.to_string(),
        })
    })
}

/// What the download tells the unpacker.
enum Message {
    Chunk(Bytes),
    /// All came, and has the right digest.
    Verified,
}

/// Passes the stream on. The unpacker's own failure ends it early, and is reported by the unpacker.
async fn download(
    registry: &Registry<'_>,
    layer: &Descriptor,
    mut stream: BoxStream<'static, io::Result<Bytes>>,
    sender: mpsc::Sender<Message>,
) -> Result<(), ImageError> {
    let subject = format!("layer {}", layer.digest);
    let mut left = layer.size;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| failure::from_stream(registry.image(), &subject, &error))?;
        left = left
            .checked_sub(chunk.len() as u64)
            .ok_or_else(|| ImageError::LimitExceeded {
                subject: subject.clone(),
                limit: layer.size,
                unit: "bytes, the size in the manifest",
            })?;
        if sender.send(Message::Chunk(chunk)).await.is_err() {
            return Ok(());
        }
    }
    let _ = sender.send(Message::Verified).await;
    Ok(())
}

fn unpack(
    layer: &Descriptor,
    mut chunks: Chunks,
    directory: Incoming,
    destination: &Path,
    mut share: Share,
) -> Result<(), ImageError> {
    let stream_failed = |source| ImageError::LayerStream {
        layer: layer.digest.to_string(),
        source,
    };
    let decoder: Box<dyn Read + '_> = match layer.compression {
        Compression::Plain => Box::new(&mut chunks),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(&mut chunks)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(&mut chunks).map_err(stream_failed)?;
            decoder
                .window_log_max(limits::ZSTD_WINDOW_LOG)
                .map_err(stream_failed)?;
            Box::new(decoder)
        }
    };
    let expanded = Expanded {
        inner: DigestingReader::new(decoder),
        share: &mut share,
    };
    let mut archive = BufReader::with_capacity(DECODED_BUFFER_BYTES, expanded);
    unpack::unpack_layer(&mut archive, directory.path(), &layer.digest.to_string())?;
    // Padding behind the archive's end is part of both digests.
    io::copy(&mut archive, &mut io::sink())
        .map_err(|error| unpack::stream_error(&layer.digest.to_string(), error))?;
    let (diff_id, decoder) = archive.into_inner().inner.finish();
    drop(decoder);
    chunks.finish().map_err(stream_failed)?;
    layer
        .diff_id
        .verify(&format!("the content of layer {}", layer.digest), diff_id)?;
    directory.publish(destination)?;
    share.keep();
    Ok(())
}

/// Counts decoded bytes against the image's budget.
struct Expanded<'a, R> {
    inner: DigestingReader<R>,
    share: &'a mut Share,
}

impl<R: Read> Read for Expanded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.share.take(length as u64).map_err(io::Error::other)?;
        Ok(length)
    }
}

/// The unpacker's end of the channel as a reader. Its end of file is a verified one; anything else is an error.
struct Chunks {
    receiver: mpsc::Receiver<Message>,
    state: Receiving,
}

enum Receiving {
    Chunk(Bytes),
    Verified,
}

impl Chunks {
    fn new(receiver: mpsc::Receiver<Message>) -> Chunks {
        Chunks {
            receiver,
            state: Receiving::Chunk(Bytes::new()),
        }
    }

    /// Waits until the download has verified the whole blob.
    fn finish(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink()).map(drop)
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while matches!(&self.state, Receiving::Chunk(chunk) if chunk.is_empty()) {
            self.state = match self.receiver.blocking_recv() {
                Some(Message::Chunk(chunk)) => Receiving::Chunk(chunk),
                Some(Message::Verified) => Receiving::Verified,
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "the download broke off",
                    ));
                }
            };
        }
        match &self.state {
            Receiving::Chunk(chunk) => Ok(chunk),
            Receiving::Verified => Ok(&[]),
        }
    }

    fn consume(&mut self, amount: usize) {
        if let Receiving::Chunk(chunk) = &mut self.state {
            chunk.advance(amount);
        }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

/// A layer directory that is not whole yet, removed unless it is published.
struct Incoming(PathBuf);

impl Incoming {
    fn create(parent: &Path) -> Result<Incoming, ImageError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = parent.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
        match fs::create_dir(&path) {
            Ok(()) => Ok(Incoming(path)),
            Err(source) => Err(ImageError::Store {
                action: "create",
                path,
                source,
            }),
        }
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn publish(self, destination: &Path) -> Result<(), ImageError> {
        fs::rename(&self.0, destination).map_err(|source| ImageError::Store {
            action: "rename a layer to",
            path: destination.to_owned(),
            source,
        })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.0) {
            // Published.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %self.0.display(), %error, "cannot remove an unfinished layer")
            }
            Ok(()) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_try_took_is_given_back() {
        let budget = Budget::new(10);
        let mut failed = budget.share();
        failed.take(8).unwrap();
        assert!(matches!(
            budget.share().take(3),
            Err(ImageError::LimitExceeded { limit: 10, .. })
        ));
        drop(failed);
        let mut kept = budget.share();
        kept.take(8).unwrap();
        kept.keep();
        drop(kept);
        assert!(budget.share().take(3).is_err());
    }

    #[test]
    fn a_download_that_breaks_off_is_no_end_of_file() {
        let (sender, receiver) = mpsc::channel(2);
        sender
            .blocking_send(Message::Chunk(Bytes::from_static(b"half")))
            .unwrap();
        drop(sender);
        let mut read = Vec::new();
        let error = Chunks::new(receiver).read_to_end(&mut read).unwrap_err();
        assert_eq!(
            (error.kind(), read.as_slice()),
            (io::ErrorKind::ConnectionAborted, &b"half"[..])
        );
    }
}
