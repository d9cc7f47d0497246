//! The kernel's part of the catch, in eBPF: it gives TCP connections to a loopback address to our listener.
//!
//! The kernel runs it in the pod's namespace when a connection arrives that no established socket takes, before it looks
//! for a listener. Whatever happens in it, the answer is "pass": at worst the kernel goes on as if it were not there.

use std::os::fd::RawFd;

/// Slot of the IPv4 listener in the map of sockets.
pub(super) const SLOT_V4: u32 = 0;
/// Slot of the IPv6 listener.
pub(super) const SLOT_V6: u32 = 1;
/// How many slots the map has.
pub(super) const SLOTS: u32 = 2;

/// How many instructions the program has.
const LENGTH: usize = 34;

/// One instruction, as the kernel takes it (`struct bpf_insn` of linux/bpf.h).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Instruction {
    code: u8,
    /// The destination register in the lower half, the source register in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

// The halves of `registers`, and the addresses below, are those of a little-endian machine.
const _: () = assert!(cfg!(target_endian = "little"));

/// Results and the return value.
const R0: u8 = 0;
/// Arguments of calls.
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
/// Kept over calls: the context.
const R6: u8 = 6;
/// Kept over calls: the listener.
const R7: u8 = 7;
/// The end of the stack.
const R10: u8 = 10;

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

const fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: source << 4 | destination,
        offset,
        immediate,
    }
}

/// `to = from`, all 64 bits.
const fn copy(to: u8, from: u8) -> Instruction {
    instruction(0xbf, to, from, 0, 0)
}

/// `to = value`
const fn set(to: u8, value: i32) -> Instruction {
    instruction(0xb7, to, 0, 0, value)
}

/// `to += value`, all 64 bits.
const fn add(to: u8, value: i16) -> Instruction {
    instruction(0x07, to, 0, 0, value as i32)
}

/// `to &= value`, the lower 32 bits; the upper become zero.
const fn and(to: u8, value: i32) -> Instruction {
    instruction(0x54, to, 0, 0, value)
}

/// `to = *(u32 *)(from + offset)`
const fn load(to: u8, from: u8, offset: i16) -> Instruction {
    instruction(0x61, to, from, offset, 0)
}

/// `*(u32 *)(to + offset) = value`
const fn store(to: u8, offset: i16, value: u32) -> Instruction {
    instruction(0x62, to, 0, offset, value as i32)
}

/// `to` becomes the map with this descriptor; [`second_half`] follows.
const fn load_map(to: u8, map: RawFd) -> Instruction {
    const PSEUDO_MAP_FD: u8 = 1;
    instruction(0x18, to, PSEUDO_MAP_FD, 0, map)
}

/// The upper 32 bits of a 64-bit constant: none.
const fn second_half() -> Instruction {
    instruction(0, 0, 0, 0, 0)
}

const fn jump(by: i16) -> Instruction {
    instruction(0x05, 0, 0, by, 0)
}

const fn jump_if(register: u8, value: i32, by: i16) -> Instruction {
    instruction(0x15, register, 0, by, value)
}

const fn jump_unless(register: u8, value: i32, by: i16) -> Instruction {
    instruction(0x55, register, 0, by, value)
}

/// `R0 = helper(R1, …)`
const fn call(helper: i32) -> Instruction {
    instruction(0x85, 0, 0, 0, helper)
}

const fn exit() -> Instruction {
    instruction(0x95, 0, 0, 0, 0)
}
