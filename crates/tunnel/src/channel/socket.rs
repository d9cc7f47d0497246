//! What both ends set on their TCP connection, so that a silent peer is noticed.

use std::{io, time::Duration};

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// A connection this long without a word is asked whether it lives.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(3);
/// How often it is asked again.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// After how many unanswered questions it is dead: 8 s of silence in all.
const KEEPALIVE_COUNT: u32 = 5;
/// How long sent data may stay unacknowledged: the keepalive does not run while data is on its way.
const USER_TIMEOUT: Duration = Duration::from_secs(8);

/// Requests are small and wait for their answers: no delay; and a peer that fell silent is given up within 8 s.
pub(super) fn configure(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_COUNT)?;
    let milliseconds = USER_TIMEOUT.as_millis().try_into().expect("8 s fit");
    sockopt::set_tcp_user_timeout(stream, milliseconds)?;
    Ok(())
}

/// For a connection whose reader decides when it reads: the kernel counts a window that stays closed as unacknowledged data,
/// even while the peer answers every probe. A peer that is gone shows on the agent connection.
pub(super) fn let_reader_pause(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_tcp_user_timeout(stream, 0)?;
    Ok(())
}
