//! The kernel's part of the catch, in eBPF: it gives TCP connections to a loopback address to our listener.
//!
//! The kernel runs it in the pod's namespace when a connection arrives that no established socket takes, before it looks
//! for a listener. Whatever happens in it, the answer is "pass": at worst the kernel goes on as if it were not there.

use std::os::fd::RawFd;

use peerpods_bpf::instruction::{
    Instruction, R0, R1, R2, R3, R6, R7, R10, add, and, call, copy, exit, jump, jump_if, jump_unless, load,
    load_map, second_half, set, store,
};

/// Slot of the IPv4 listener in the map of sockets.
pub(super) const SLOT_V4: u32 = 0;
/// Slot of the IPv6 listener.
pub(super) const SLOT_V6: u32 = 1;
/// How many slots the map has.
pub(super) const SLOTS: u32 = 2;

/// How many instructions the program has.
const LENGTH: usize = 34;

// The addresses below are those of a little-endian machine.
const _: () = assert!(cfg!(target_endian = "little"));

/// Fields of the context, `struct bpf_sk_lookup` of linux/bpf.h.
const FAMILY: i16 = 8;
const PROTOCOL: i16 = 12;
const LOCAL_IP4: i16 = 40;
const LOCAL_IP6: i16 = 44;

const AF_INET6: i32 = 10;
const IPPROTO_TCP: i32 = 6;
/// The first byte of an IPv4 address in network byte order, and its value on the loopback.
const FIRST_BYTE: i32 = 0xff;
const LOOPBACK_BYTE: i32 = 127;
/// The last four bytes of `::1`, as a little-endian machine reads them.
const LAST_OF_LOOPBACK: i32 = 0x0100_0000;

/// Helper functions of the kernel, by their numbers in linux/bpf.h.
const MAP_LOOKUP_ELEM: i32 = 1;
const SK_RELEASE: i32 = 86;
const SK_ASSIGN: i32 = 124;
/// What the program returns: SK_PASS.
const PASS: i32 = 1;
/// Where on the stack the slot is.
const SLOT: i16 = -4;

/// Positions that are jumped to.
const IPV6: i16 = 10;
const ASSIGN: i16 = 19;
const OUT: i16 = 32;

/// The program, with the map of listeners that it takes them from. A jump counts from the instruction after it.
pub(super) fn instructions(map: RawFd) -> [Instruction; LENGTH] {
    [
        /*  0 */ copy(R6, R1), // The context is wanted after calls.
        /*  1 */ load(R2, R6, PROTOCOL),
        /*  2 */ jump_unless(R2, IPPROTO_TCP, OUT - 3), // UDP is nobody's to forward.
        /*  3 */ load(R2, R6, FAMILY),
        /*  4 */ jump_if(R2, AF_INET6, IPV6 - 5), // The only other family is IPv4.
        /*  5 */ load(R2, R6, LOCAL_IP4),
        /*  6 */ and(R2, FIRST_BYTE),
        /*  7 */ jump_unless(R2, LOOPBACK_BYTE, OUT - 8), // 127.0.0.0/8, or untouched.
        /*  8 */ store(R10, SLOT, SLOT_V4),
        /*  9 */ jump(ASSIGN - 10),
        /* 10 */ load(R2, R6, LOCAL_IP6), // The first three words of ::1 are zero …
        /* 11 */ jump_unless(R2, 0, OUT - 12),
        /* 12 */ load(R2, R6, LOCAL_IP6 + 4),
        /* 13 */ jump_unless(R2, 0, OUT - 14),
        /* 14 */ load(R2, R6, LOCAL_IP6 + 8),
        /* 15 */ jump_unless(R2, 0, OUT - 16),
        /* 16 */ load(R2, R6, LOCAL_IP6 + 12), // … and the last is one.
        /* 17 */ jump_unless(R2, LAST_OF_LOOPBACK, OUT - 18),
        /* 18 */ store(R10, SLOT, SLOT_V6),
        /* 19 */ load_map(R1, map), // lookup(map, &slot); this instruction takes two places.
        /* 20 */ second_half(),
        /* 21 */ copy(R2, R10),
        /* 22 */ add(R2, SLOT),
        /* 23 */ call(MAP_LOOKUP_ELEM), // It takes a reference to the listener.
        /* 24 */ jump_if(R0, 0, OUT - 25), // This family has none.
        /* 25 */ copy(R7, R0), // The listener is wanted after the next call.
        /* 26 */ copy(R1, R6), // assign(context, listener, no flags)
        /* 27 */ copy(R2, R7),
        /* 28 */ set(R3, 0),
        /* 29 */ call(SK_ASSIGN), // Should it fail, nothing is assigned, and the kernel looks on.
        /* 30 */ copy(R1, R7), // release(listener)
        /* 31 */ call(SK_RELEASE),
        /* 32 */ set(R0, PASS),
        /* 33 */ exit(),
    ]
}
