//! The time of a server on the network, by SNTP (RFC 4330): a request is one datagram, and so is the answer.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::{net::UdpSocket, time::timeout};

use super::Reading;

/// The best of so many answers counts: that which took the shortest way.
const REQUESTS: usize = 4;
/// The server is beside the VM, and answers within a millisecond.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// An answer that may be wrong by more is of no use.
const ERROR_LIMIT: Duration = Duration::from_millis(500);

const MESSAGE_BYTES: usize = 48;
/// Version 4, mode 3: a client's request.
const REQUEST: u8 = 4 << 3 | 3;
const SERVER_MODE: u8 = 4;
/// What the first two bits say of a server that does not know the time.
const UNSYNCHRONIZED: u8 = 3;
/// A server that is as far as this from a clock has none.
const LAST_STRATUM: u8 = 15;
/// From 1900, where NTP begins to count, to 1970.
const SECONDS_BEFORE_EPOCH: u64 = 2_208_988_800;

/// The time was not to be had.
#[derive(Debug, thiserror::Error)]
pub enum SntpError {
    /// The server cannot be asked.
    #[error("cannot ask the time server {server}")]
    Ask {
        /// Whom.
        server: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It does not answer, or others do in its place.
    #[error("the time server {0} does not answer within {ANSWER_LIMIT:?}")]
    Silent(SocketAddr),
    /// What it says cannot be used.
    #[error("the time server {server} is of no use: it {problem}")]
    Unusable {
        /// Who.
        server: SocketAddr,
        /// What is wrong with its answer.
        problem: &'static str,
    },
}

/// How far this machine's clock is from the server's.
///
/// # Errors
/// [`SntpError`], of the last request where all failed: after four seconds at the latest.
pub async fn measure(server: SocketAddr) -> Result<Reading, SntpError> {
    let failed = |source| SntpError::Ask { server, source };
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .await
        .map_err(failed)?;
    // Only datagrams of the server's come through a connected socket.
    socket.connect(server).await.map_err(failed)?;
    let mut best: Result<Reading, SntpError> = Err(SntpError::Silent(server));
    for _ in 0..REQUESTS {
        let asked = timeout(ANSWER_LIMIT, ask(&socket, server)).await;
        let reading = asked.unwrap_or(Err(SntpError::Silent(server)));
        best = match (best, reading) {
            (Ok(best), Ok(reading)) if best.error <= reading.error => Ok(best),
            (Ok(best), Err(_)) => Ok(best),
            (_, reading) => reading,
        };
    }
    best
}

async fn ask(socket: &UdpSocket, server: SocketAddr) -> Result<Reading, SntpError> {
    let failed = |source| SntpError::Ask { server, source };
    // In place of our own time, which is nobody's business: who cannot see the request cannot answer it.
    let mut nonce = [0; 8];
    SystemRandom::new()
        .fill(&mut nonce)
        .map_err(|_| failed(io::ErrorKind::Other.into()))?;
    let mut request = [0; MESSAGE_BYTES];
    request[0] = REQUEST;
    request[40..].copy_from_slice(&nonce);
    let sent = now();
    socket.send(&request).await.map_err(failed)?;
    loop {
        // One byte more than a message shows what is longer: extensions, which nobody asked for, but which do no harm.
        let mut answer = [0; MESSAGE_BYTES + 1];
        let length = socket.recv(&mut answer).await.map_err(failed)?;
        let received = now();
        let Some(answer) = answer[..length].first_chunk::<MESSAGE_BYTES>() else {
            continue;
        };
        // An answer to an earlier request comes too late.
        if answer[24..32] != nonce {
            continue;
        }
        let reading = reading(answer, sent, received);
        return reading.map_err(|problem| SntpError::Unusable { server, problem });
    }
}

/// What an answer comes to, between two moments of this machine's clock.
fn reading(
    answer: &[u8; MESSAGE_BYTES],
    sent: Timestamp,
    received: Timestamp,
) -> Result<Reading, &'static str> {
    let (leap, mode, stratum) = (answer[0] >> 6, answer[0] & 7, answer[1]);
    if mode != SERVER_MODE {
        return Err("answers as no server does");
    }
    if stratum == 0 {
        return Err("asks to be left alone");
    }
    if leap == UNSYNCHRONIZED || stratum > LAST_STRATUM {
        return Err("does not know the time");
    }
    let (heard, answered) = (Timestamp::at(answer, 32), Timestamp::at(answer, 40));
    if answered.0 == 0 {
        return Err("tells no time");
    }
    let there = heard.after(sent);
    let back = answered.after(received);
    let round_trip = (received.after(sent) - answered.after(heard)).max(0);
    let root = short(answer, 4) / 2 + short(answer, 8);
    let error = Duration::from_nanos(round_trip.cast_unsigned() / 2) + root;
    if error > ERROR_LIMIT {
        return Err("cannot tell the time well enough");
    }
    Ok(Reading {
        // Each is some minutes or decades; half of their sum is no more than that.
        behind_nanoseconds: there / 2 + back / 2,
        error,
    })
}

/// A moment as NTP counts it: seconds since 1900, and their fractions in the lower half. After 2036 it begins anew, so that
/// only differences mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Timestamp(u64);

impl Timestamp {
    fn at(message: &[u8; MESSAGE_BYTES], offset: usize) -> Self {
        let bytes = message[offset..offset + 8].try_into();
        Self(u64::from_be_bytes(bytes.expect("it was cut to this length")))
    }

    /// How many nanoseconds this is after another: less than seven decades, either way.
    fn after(self, other: Self) -> i64 {
        let difference = i128::from(self.0.wrapping_sub(other.0).cast_signed());
        let nanoseconds = (difference * 1_000_000_000) >> 32;
        i64::try_from(nanoseconds).expect("2^31 seconds have less than 2^63 nanoseconds")
    }
}

/// A duration of 16 bits for seconds, and 16 for their fractions.
fn short(message: &[u8; MESSAGE_BYTES], offset: usize) -> Duration {
    let bytes = message[offset..offset + 4].try_into();
    let value = u64::from(u32::from_be_bytes(bytes.expect("it was cut to this length")));
    Duration::from_nanos((value * 1_000_000_000) >> 16)
}

fn now() -> Timestamp {
    // A clock from before 1970 is as wrong as one that says 1970.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs().wrapping_add(SECONDS_BEFORE_EPOCH);
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    Timestamp(seconds << 32 | fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1 << 32;

    fn answer(heard: u64, answered: u64) -> [u8; MESSAGE_BYTES] {
        let mut answer = [0; MESSAGE_BYTES];
        answer[0] = 4 << 3 | SERVER_MODE;
        answer[1] = 3;
        answer[32..40].copy_from_slice(&heard.to_be_bytes());
        answer[40..].copy_from_slice(&answered.to_be_bytes());
        answer
    }

    #[test]
    fn the_way_there_and_back_cancel_out() {
        // The server is 10 s ahead; the ways take 1/8 s each, and the server 1/2 s.
        let (sent, received) = (Timestamp(100 * SECOND), Timestamp(100 * SECOND + SECOND * 3 / 4));
        let heard = 110 * SECOND + SECOND / 8;
        let found = reading(&answer(heard, heard + SECOND / 2), sent, received).unwrap();
        assert_eq!(found.behind_nanoseconds, 10_000_000_000);
        assert_eq!(found.error, Duration::from_millis(125));
    }

    #[test]
    fn time_goes_on_when_ntp_begins_to_count_anew() {
        let (before, after) = (Timestamp(u64::MAX - SECOND + 1), Timestamp(SECOND));
        assert_eq!(after.after(before), 2_000_000_000);
        assert_eq!(before.after(after), -2_000_000_000);
    }

    #[test]
    fn answers_that_are_of_no_use_are_told_apart() {
        let sent = Timestamp(SECOND);
        let problem = |change: fn(&mut [u8; MESSAGE_BYTES])| {
            let mut message = answer(SECOND, SECOND);
            change(&mut message);
            reading(&message, sent, sent).unwrap_err()
        };
        assert_eq!(
            problem(|message| message[0] = REQUEST),
            "answers as no server does"
        );
        assert_eq!(problem(|message| message[1] = 0), "asks to be left alone");
        assert_eq!(problem(|message| message[0] |= 3 << 6), "does not know the time");
        assert_eq!(problem(|message| message[1] = 16), "does not know the time");
        assert_eq!(problem(|message| message[40..].fill(0)), "tells no time");
        assert_eq!(
            problem(|message| message[8] = 1),
            "cannot tell the time well enough"
        );
    }
}
