//! Packet sockets, for which there is no safe way to say which device they are of.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};

/// ETH_P_ALL, in network byte order.
const EVERYTHING: u16 = 0x0003_u16.to_be();

/// A socket that takes whole frames that one device of this thread's namespace receives, and sends them without a queue.
pub(crate) fn open(device: u32) -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        std::num::NonZeroU32::new(u32::from(EVERYTHING)).map(Protocol::from_raw),
    )?;
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
        sll_protocol: EVERYTHING,
        sll_ifindex: i32::try_from(device).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    set(&socket, libc::PACKET_QDISC_BYPASS)?;
    set(&socket, libc::PACKET_IGNORE_OUTGOING)?;
    let size = size_of_val(&address) as u32;
    // SAFETY: the kernel reads as many bytes of the address as it has, and does not keep it.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
    done(bound).map(|()| socket)
}

fn set(socket: &OwnedFd, option: i32) -> io::Result<()> {
    let on: i32 = 1;
    let size = size_of_val(&on) as u32;
    // SAFETY: the kernel reads as many bytes of the number as it has, and does not keep it.
    done(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const on).cast(),
            size,
        )
    })
}

fn done(answer: i32) -> io::Result<()> {
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
