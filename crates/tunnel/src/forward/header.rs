//! What is said before the bytes: where to, and whether anybody is there.
//!
//! ```text
//! worker → guest   port, two bytes, big-endian; family, one byte: 4 or 6
//! guest → worker   answer, one byte: 0 connected, 1 refused, 2 unavailable
//! ```
//!
//! The version is that of the protocol's name: a guest that does not know it ends the handshake.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// The bytes of a destination on the wire.
pub(super) const HEADER_BYTES: usize = 3;

/// The family of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4: 127.0.0.1.
    V4,
    /// IPv6: `::1`.
    V6,
}

/// A port of the pod's loopback. It names no address: nothing else can be dialled through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The family that is dialled first.
    pub family: Family,
    /// The port.
    pub port: u16,
}

impl Destination {
    /// The destination of a connection to `address`, which is a loopback address.
    pub fn of(address: SocketAddr) -> Self {
        let family = match address {
            SocketAddr::V4(_) => Family::V4,
            SocketAddr::V6(_) => Family::V6,
        };
        Self {
            family,
            port: address.port(),
        }
    }

    /// Both loopback addresses, the one that was dialled first.
    pub(super) fn addresses(self) -> [SocketAddr; 2] {
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, self.port));
        match self.family {
            Family::V4 => [v4, v6],
            Family::V6 => [v6, v4],
        }
    }

    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let [high, low] = self.port.to_be_bytes();
        let family = match self.family {
            Family::V4 => 4,
            Family::V6 => 6,
        };
        [high, low, family]
    }

    /// Port 0 and any other family are no destination.
    pub(super) fn from_bytes([high, low, family]: [u8; HEADER_BYTES]) -> Option<Self> {
        let family = match family {
            4 => Family::V4,
            6 => Family::V6,
            _ => return None,
        };
        let port = u16::from_be_bytes([high, low]);
        (port != 0).then_some(Self { family, port })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.addresses()[0].fmt(formatter)
    }
}

/// What the guest says to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The bytes that follow are those of whoever listens there.
    Connected,
    /// Nobody listens there.
    Refused,
    /// It could not be found out whether anybody does.
    Unavailable,
}

impl Answer {
    pub(super) fn to_byte(self) -> u8 {
        match self {
            Self::Connected => 0,
            Self::Refused => 1,
            Self::Unavailable => 2,
        }
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Connected),
            1 => Some(Self::Refused),
            2 => Some(Self::Unavailable),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_header_is_a_destination_that_writes_the_same_or_none() {
        for port in [[0, 0], [0, 1], [0x1f, 0x90], [0xff, 0xff]] {
            for family in 0..=u8::MAX {
                let bytes = [port[0], port[1], family];
                let wanted = matches!(family, 4 | 6) && port != [0, 0];
                let read = Destination::from_bytes(bytes);
                assert_eq!(read.map(Destination::to_bytes), wanted.then_some(bytes));
            }
        }
    }

    #[test]
    fn every_byte_is_an_answer_that_writes_the_same_or_none() {
        for byte in 0..=u8::MAX {
            let read = Answer::from_byte(byte);
            assert_eq!(read.map(Answer::to_byte), (byte <= 2).then_some(byte));
        }
    }

    #[test]
    fn the_port_is_in_network_byte_order() {
        let destination = Destination::of(SocketAddr::from((Ipv6Addr::LOCALHOST, 8080)));
        assert_eq!(destination.to_bytes(), [0x1f, 0x90, 6]);
        assert_eq!(destination.to_string(), "[::1]:8080");
    }
}
