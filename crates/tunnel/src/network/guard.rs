//! What a pod may send and receive past its worker, in eBPF.
//!
//! The program is at the VM's own device, below everything that the pod has: no capability in the pod's namespaces changes
//! it, and no way of sending goes around it. Routes alone would not do: a process needs no right at all to bind a socket to a
//! device, and where routes say no the kernel then takes the destination for a neighbour.

use std::net::Ipv4Addr;

use peerpods_bpf::{
    self as bpf, Kind,
    instruction::{
        Instruction, R0, R1, R6, R7, and, copy, exit, jump_if, jump_unless, load_packet_byte,
        load_packet_half, load_packet_half_from, set, shift_left,
    },
};

use super::NetworkError;

/// By this name `bpftool` lists the program.
pub(super) const PROGRAM: &str = "external_guard";

/// What a pod is kept from on its way past the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExternalGuard {
    /// The instance metadata service.
    pub metadata: Ipv4Addr,
    /// The UDP port of pod tunnels: a pod that could send there would speak for other pods.
    pub tunnel_port: u16,
}

/// How many instructions the program has.
const LENGTH: usize = 23;

/// Positions in a frame: the Ethernet header has 14 bytes.
const ETHERNET_TYPE: i32 = 12;
const IPV4: i32 = 14;
const IPV4_FRAGMENT: i32 = IPV4 + 6;
const IPV4_PROTOCOL: i32 = IPV4 + 9;
const IPV4_DESTINATION: i32 = IPV4 + 16;
/// From the end of the IPv4 header on.
const UDP_DESTINATION: i32 = 2;

const TYPE_IPV4: i32 = 0x0800;
const TYPE_ARP: i32 = 0x0806;
const PROTOCOL_UDP: i32 = 17;
/// The part of the first byte of an IPv4 header that is its length, in words of four bytes.
const HEADER_LENGTH: i32 = 0x0f;
/// The part of the fragment field that is zero in what has a UDP header.
const FRAGMENT_OFFSET: i32 = 0x1fff;

/// Answers, of linux/pkt_cls.h.
const TC_ACT_OK: i32 = 0;
const TC_ACT_SHOT: i32 = 2;

/// Positions that are jumped to.
const PASS: i16 = 19;
const DROP: i16 = 21;

impl ExternalGuard {
    /// Loads the program.
    pub(super) fn load(self) -> Result<std::os::fd::OwnedFd, NetworkError> {
        let loaded = bpf::load(Kind::TrafficFilter, PROGRAM, &self.instructions());
        loaded.map_err(|source| NetworkError::Refused {
            action: "load the program",
            subject: PROGRAM.to_owned(),
            source,
        })
    }

    /// IPv4 and what finds its neighbours pass; all else, IPv6 among it, does not.
    fn instructions(self) -> [Instruction; LENGTH] {
        let [high, low] = halves(self.metadata);
        [
            /*  0 */ copy(R6, R1), // Packets are read by the context in this register.
            /*  1 */ load_packet_half(ETHERNET_TYPE),
            /*  2 */ jump_if(R0, TYPE_ARP, PASS - 3),
            /*  3 */ jump_unless(R0, TYPE_IPV4, DROP - 4),
            /*  4 */ load_packet_half(IPV4_DESTINATION),
            /*  5 */ jump_unless(R0, high, 2),
            /*  6 */ load_packet_half(IPV4_DESTINATION + 2),
            /*  7 */ jump_if(R0, low, DROP - 8),
            /*  8 */ load_packet_byte(IPV4_PROTOCOL),
            /*  9 */ jump_unless(R0, PROTOCOL_UDP, PASS - 10),
            /* 10 */ load_packet_half(IPV4_FRAGMENT),
            /* 11 */ and(R0, FRAGMENT_OFFSET),
            /* 12 */ jump_unless(R0, 0, PASS - 13),
            /* 13 */ load_packet_byte(IPV4),
            /* 14 */ and(R0, HEADER_LENGTH),
            /* 15 */ shift_left(R0, 2),
            /* 16 */ copy(R7, R0),
            /* 17 */ load_packet_half_from(R7, IPV4 + UDP_DESTINATION),
            /* 18 */ jump_if(R0, i32::from(self.tunnel_port), DROP - 19),
            /* 19 */ set(R0, TC_ACT_OK),
            /* 20 */ exit(),
            /* 21 */ set(R0, TC_ACT_SHOT),
            /* 22 */ exit(),
        ]
    }
}

/// The two halves of an address, as they are read of a packet.
fn halves(address: Ipv4Addr) -> [i32; 2] {
    let [first, second, third, fourth] = address.octets();
    let half = |high, low| i32::from(u16::from_be_bytes([high, low]));
    [half(first, second), half(third, fourth)]
}
