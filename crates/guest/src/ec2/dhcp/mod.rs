//! An IPv4 address by DHCP (RFC 2131), for a device that has none.
//!
//! Four messages: we discover, a server offers, we request what it offered, it acknowledges. What we send goes out of an
//! ordinary socket. What comes back is read from a packet socket: it may be addressed to the address that is being offered,
//! which the kernel does not yet take for ours.

mod message;

use std::{io, net::Ipv4Addr, os::fd::OwnedFd, path::Path, time::Duration};

use peerpods_tunnel::network::{self, NetworkError};
use ring::rand::{SecureRandom, SystemRandom};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::UdpSocket,
    runtime::Handle,
    time::{Instant, timeout, timeout_at},
};

use crate::unsafe_register::register;

pub use self::message::{Answer, Lease, Malformed, Transaction, payload_of_packet};

/// The ports of DHCP.
const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
/// Packets of IPv4, in network byte order, as packet sockets want it.
const IPV4_PACKETS: u32 = 0x0800_u16.to_be() as u32;
/// The longest packet that is read. Servers send no more than 576 bytes to whom does not ask for more.
const PACKET_LIMIT: usize = 1500;

/// How long the first message waits for its answer: servers of EC2 answer in milliseconds, but a device that was started a
/// moment ago may not send yet. Each further one waits twice as long as the one before, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// A VM that has no address by then has a network without a server.
const LIMIT: Duration = Duration::from_secs(60);

/// No address was to be had.
#[derive(Debug, thiserror::Error)]
pub enum DhcpError {
    /// A socket could not be made or used.
    #[error("cannot {action} for DHCP on {device}")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// The network device.
        device: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The device's namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] NetworkError),
    /// There is no randomness for a transaction's number.
    #[error("there is no randomness for DHCP")]
    Randomness,
    /// Nobody answered, or only nonsense.
    #[error("no DHCP server gave {device} an address within {LIMIT:?}; last seen: {seen}")]
    NoLease {
        /// The network device.
        device: String,
        /// What came last.
        seen: String,
    },
}

/// Gets an address for a device that is up and has none, in a namespace where no other has one either.
///
/// # Errors
/// [`DhcpError`], after a minute at the latest.
pub async fn acquire(device: &str, mac: [u8; 6]) -> Result<Lease, DhcpError> {
    Exchange::open(device, transaction(mac)?)?.lease().await
}

/// As [`acquire`], in the network namespace `netns`: sockets belong to that in which they are made.
///
/// # Errors
/// [`DhcpError`], after a minute at the latest.
pub async fn acquire_inside(netns: &Path, device: &str, mac: [u8; 6]) -> Result<Lease, DhcpError> {
    let (runtime, transaction) = (Handle::current(), transaction(mac)?);
    let opened = network::run_inside(netns, || {
        let _entered = runtime.enter();
        Exchange::open(device, transaction)
    });
    opened??.lease().await
}

fn transaction(mac: [u8; 6]) -> Result<Transaction, DhcpError> {
    let mut number = [0; 4];
    SystemRandom::new()
        .fill(&mut number)
        .map_err(|_| DhcpError::Randomness)?;
    Ok(Transaction::new(u32::from_ne_bytes(number), mac))
}

/// One client's conversation with whatever servers there are.
struct Exchange {
    device: String,
    transaction: Transaction,
    sender: UdpSocket,
    receiver: AsyncFd<OwnedFd>,
    /// What came last, for a person who looks for why nothing came of it.
    seen: String,
}

impl Exchange {
    fn open(device: &str, transaction: Transaction) -> Result<Self, DhcpError> {
        let failed = |action| {
            move |source| DhcpError::Socket {
                action,
                device: device.to_owned(),
                source,
            }
        };
        let receiver = socket_with(
            AddressFamily::PACKET,
            SocketType::DGRAM,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            std::num::NonZeroU32::new(IPV4_PACKETS).map(Protocol::from_raw),
        );
        let receiver = receiver
            .map_err(io::Error::from)
            .and_then(register)
            .map_err(failed("open a packet socket"))?;
        let sender = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, CLIENT_PORT));
        let sender = sender.and_then(|sender| {
            sender.set_nonblocking(true)?;
            sender.set_broadcast(true)?;
            let sender = UdpSocket::from_std(sender)?;
            sender.bind_device(Some(device.as_bytes()))?;
            Ok(sender)
        });
        Ok(Self {
            device: device.to_owned(),
            transaction,
            sender: sender.map_err(failed("open a socket"))?,
            receiver,
            seen: "nothing".to_owned(),
        })
    }

    /// What a server gives, in time.
    async fn lease(mut self) -> Result<Lease, DhcpError> {
        match timeout(LIMIT, self.run()).await {
            Ok(ended) => ended,
            Err(_) => Err(DhcpError::NoLease {
                device: self.device,
                seen: self.seen,
            }),
        }
    }

    /// Goes on until a server has acknowledged.
    async fn run(&mut self) -> Result<Lease, DhcpError> {
        let mut wait = FIRST_WAIT;
        loop {
            if let Some(Answer::Offer(offer)) = self.ask(&self.transaction.discover(), wait).await? {
                match self
                    .ask(&self.transaction.request(&offer), wait.max(LONGEST_WAIT / 4))
                    .await?
                {
                    Some(Answer::Acknowledged(lease)) => return Ok(lease),
                    Some(Answer::Offer(_) | Answer::Refused) | None => {}
                }
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Sends one message, and waits for what a server says to it.
    async fn ask(&mut self, message: &[u8], wait: Duration) -> Result<Option<Answer>, DhcpError> {
        let deadline = Instant::now() + wait;
        let sent = self
            .sender
            .send_to(message, (Ipv4Addr::BROADCAST, SERVER_PORT))
            .await;
        if let Err(error) = sent {
            // The device may not be ready yet: that is what the next attempt is for.
            self.seen = format!("{} cannot send: {error}", self.device);
        }
        loop {
            let Ok(packet) = timeout_at(deadline, self.receive()).await else {
                return Ok(None);
            };
            let packet = packet?;
            let Some(payload) = payload_of_packet(&packet, CLIENT_PORT) else {
                continue;
            };
            match self.transaction.read(payload) {
                Ok(answer) => {
                    self.seen = format!("{answer:?}");
                    return Ok(Some(answer));
                }
                // Everybody on the network can send it.
                Err(problem) => self.seen = problem.to_string(),
            }
        }
    }

    async fn receive(&self) -> Result<Vec<u8>, DhcpError> {
        let read = |socket: &OwnedFd| {
            let mut packet = vec![0; PACKET_LIMIT];
            let (length, _) = recv(socket, &mut packet[..], RecvFlags::empty())?;
            packet.truncate(length);
            Ok(packet)
        };
        let packet = self.receiver.async_io(Interest::READABLE, read).await;
        packet.map_err(|source| DhcpError::Socket {
            action: "receive",
            device: self.device.clone(),
            source,
        })
    }
}
