//! Bytes both ways between two connections, each way at its own pace and with an end of its own.

use std::{io, ops::Range, time::Duration};

use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::TcpStream,
    time::sleep,
};

/// How much is held of each way: the payload of one TLS record.
const BUFFER_BYTES: usize = 16 * 1024;
/// How long a connection stays of which one way has ended and the other is silent. Container runtimes end both ways a
/// second after the first has ended, and nothing tells the other side of that when its server does not end by itself.
const HALF_CLOSED_LIMIT: Duration = Duration::from_secs(60);

/// Copies until both ways have ended in order: the end of one is passed on while the other goes on.
pub(super) async fn both_ways<Near, Far>(near: &mut Near, far: &mut Far) -> io::Result<()>
where
    Near: AsyncRead + AsyncWrite + Unpin,
    Far: AsyncRead + AsyncWrite + Unpin,
{
    let (near_reader, near_writer) = split(near);
    let (far_reader, far_writer) = split(far);
    let mut out = Way::new(near_reader, far_writer);
    let mut back = Way::new(far_reader, near_writer);
    loop {
        let (out_open, back_open) = (out.is_open(), back.is_open());
        if !out_open && !back_open {
            return Ok(());
        }
        let half_closed = out_open != back_open;
        tokio::select! {
            step = out.step(), if out_open => step?,
            step = back.step(), if back_open => step?,
            () = sleep(HALF_CLOSED_LIMIT), if half_closed => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// One way through a forward.
struct Way<Reader, Writer> {
    reader: Reader,
    writer: Writer,
    buffer: Box<[u8]>,
    state: State,
}

/// What a way does next.
enum State {
    Reading,
    /// This part of the buffer is to be written.
    Writing(Range<usize>),
    Flushing,
    /// The reader has ended, and the writer is to be told.
    Closing,
    Ended,
}

impl<Reader: AsyncRead + Unpin, Writer: AsyncWrite + Unpin> Way<Reader, Writer> {
    fn new(reader: Reader, writer: Writer) -> Self {
        Self {
            reader,
            writer,
            buffer: vec![0; BUFFER_BYTES].into(),
            state: State::Reading,
        }
    }

    fn is_open(&self) -> bool {
        !matches!(self.state, State::Ended)
    }

    /// Moves on by one state; when it is given up before that, nothing is lost.
    async fn step(&mut self) -> io::Result<()> {
        self.state = match &self.state {
            State::Reading => match self.reader.read(&mut self.buffer).await? {
                0 => State::Closing,
                count => State::Writing(0..count),
            },
            State::Writing(left) => match self.writer.write(&self.buffer[left.clone()]).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count if count == left.len() => State::Flushing,
                count => State::Writing(left.start + count..left.end),
            },
            State::Flushing => {
                self.writer.flush().await?;
                State::Reading
            }
            State::Closing => {
                self.writer.shutdown().await?;
                State::Ended
            }
            State::Ended => State::Ended,
        };
        Ok(())
    }
}

/// Makes a forwarded TCP connection pass on small writes at once and, until [`end_in_order`], end with a reset when it is
/// dropped, for whatever reason: nobody is to take what was cut off for the whole.
pub(super) fn reset_when_dropped(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
    Ok(())
}

/// Makes a connection of which both ways have ended close as connections do, with what is still to be sent.
pub(super) fn end_in_order(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_linger(stream, None)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{DuplexStream, duplex},
        task::JoinHandle,
        time::Instant,
    };

    use super::*;

    /// The two outer ends of a forward.
    fn forward() -> (DuplexStream, DuplexStream, JoinHandle<io::Result<()>>) {
        let (client, mut near) = duplex(64);
        let (server, mut far) = duplex(64);
        let carried = tokio::spawn(async move { both_ways(&mut near, &mut far).await });
        (client, server, carried)
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_connection_may_be_silent_for_ever() {
        let (mut client, mut server, carried) = forward();
        sleep(HALF_CLOSED_LIMIT * 100).await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        client.shutdown().await.unwrap();
        server.shutdown().await.unwrap();
        carried.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_closed_connection_stays_while_the_other_way_is_used() {
        let (mut client, mut server, carried) = forward();
        let start = Instant::now();
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        for _ in 0..10 {
            sleep(HALF_CLOSED_LIMIT / 2).await;
            server.write_all(b"x").await.unwrap();
            client.read_u8().await.unwrap();
        }
        let ended = carried.await.unwrap().unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), HALF_CLOSED_LIMIT * 6);
    }
}
