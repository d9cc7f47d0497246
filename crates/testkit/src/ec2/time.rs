//! A time server, as EC2 has one beside every instance; its clock is as wrong as a test wants.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Where EC2 has it.
pub const TIME_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 123);

const MESSAGE_BYTES: usize = 48;
/// From 1900, where NTP begins to count, to 1970.
const SECONDS_BEFORE_EPOCH: u64 = 2_208_988_800;

/// An answer before it goes out, by its bytes.
pub type Answer = [u8; MESSAGE_BYTES];

/// A server that answers until the test's process ends.
pub struct TimeServer {
    address: SocketAddr,
}

impl TimeServer {
    /// Serves at `address` a clock that is ahead of this machine's; `spoil` may change each answer, or hold it back.
    ///
    /// # Errors
    /// The address is not to be had.
    pub fn start(
        address: SocketAddr,
        ahead: Duration,
        mut spoil: impl FnMut(&mut Answer) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        let address = socket.local_addr()?;
        thread::spawn(move || {
            let mut request = [0; MESSAGE_BYTES];
            while let Ok((length, client)) = socket.recv_from(&mut request) {
                let mut answer = answer(&request, timestamp(ahead));
                if length == MESSAGE_BYTES && spoil(&mut answer) {
                    // A client that has gone needs no answer.
                    let _ = socket.send_to(&answer, client);
                }
            }
        });
        Ok(Self { address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A server's answer, from a clock of the third rank.
fn answer(request: &Answer, now: [u8; 8]) -> Answer {
    let mut answer = [0; MESSAGE_BYTES];
    answer[0] = request[0] & 0b0011_1000 | 4;
    answer[1] = 3;
    answer[24..32].copy_from_slice(&request[40..]);
    answer[32..40].copy_from_slice(&now);
    answer[40..].copy_from_slice(&now);
    answer
}

fn timestamp(ahead: Duration) -> [u8; 8] {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + ahead;
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    ((since.as_secs() + SECONDS_BEFORE_EPOCH) << 32 | fraction).to_be_bytes()
}
