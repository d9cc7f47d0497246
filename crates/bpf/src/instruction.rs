//! Instructions of eBPF, as many of them as the programs of this project are made of.
//!
//! A jump counts from the instruction after it.

use std::os::fd::RawFd;

/// One instruction, as the kernel takes it (`struct bpf_insn` of linux/bpf.h).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    /// The destination register in the lower half, the source register in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

// The halves of `registers` are those of a little-endian machine.
const _: () = assert!(cfg!(target_endian = "little"));

/// Results and the return value.
pub const R0: u8 = 0;
/// Arguments of calls; the first is the context when the program begins.
pub const R1: u8 = 1;
/// As [`R1`].
pub const R2: u8 = 2;
/// As [`R1`].
pub const R3: u8 = 3;
/// Kept over calls.
pub const R6: u8 = 6;
/// Kept over calls.
pub const R7: u8 = 7;
/// The end of the stack.
pub const R10: u8 = 10;

const fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: source << 4 | destination,
        offset,
        immediate,
    }
}

/// `to = from`, all 64 bits.
pub const fn copy(to: u8, from: u8) -> Instruction {
    instruction(0xbf, to, from, 0, 0)
}

/// `to = value`
pub const fn set(to: u8, value: i32) -> Instruction {
    instruction(0xb7, to, 0, 0, value)
}

/// `to <<= by`, all 64 bits.
pub const fn shift_left(to: u8, by: i32) -> Instruction {
    instruction(0x67, to, 0, 0, by)
}

/// `to += value`, all 64 bits.
pub const fn add(to: u8, value: i16) -> Instruction {
    instruction(0x07, to, 0, 0, value as i32)
}

/// `to &= value`, the lower 32 bits; the upper become zero.
pub const fn and(to: u8, value: i32) -> Instruction {
    instruction(0x54, to, 0, 0, value)
}

/// `to = *(u32 *)(from + offset)`
pub const fn load(to: u8, from: u8, offset: i16) -> Instruction {
    instruction(0x61, to, from, offset, 0)
}

/// `*(u32 *)(to + offset) = value`
pub const fn store(to: u8, offset: i16, value: u32) -> Instruction {
    instruction(0x62, to, 0, offset, value as i32)
}

/// `R0` becomes the byte at this position of the packet, whose context is in [`R6`]. Where the packet ends before, so does the
/// program, with 0 as its answer. Registers [`R1`] to R5 are lost.
pub const fn load_packet_byte(position: i32) -> Instruction {
    instruction(0x30, 0, 0, 0, position)
}

/// As [`load_packet_byte`], with two bytes in network byte order.
pub const fn load_packet_half(position: i32) -> Instruction {
    instruction(0x28, 0, 0, 0, position)
}

/// As [`load_packet_half`], at the position that is `from` bytes further.
pub const fn load_packet_half_from(from: u8, position: i32) -> Instruction {
    instruction(0x48, 0, from, 0, position)
}

/// `to` becomes the map with this descriptor; [`second_half`] follows.
pub const fn load_map(to: u8, map: RawFd) -> Instruction {
    const PSEUDO_MAP_FD: u8 = 1;
    instruction(0x18, to, PSEUDO_MAP_FD, 0, map)
}

/// The upper 32 bits of a 64-bit constant: none.
pub const fn second_half() -> Instruction {
    instruction(0, 0, 0, 0, 0)
}

/// Goes on `by` instructions further.
pub const fn jump(by: i16) -> Instruction {
    instruction(0x05, 0, 0, by, 0)
}

/// Goes on further if all 64 bits of the register are `value`.
pub const fn jump_if(register: u8, value: i32, by: i16) -> Instruction {
    instruction(0x15, register, 0, by, value)
}

/// Goes on further if they are anything else.
pub const fn jump_unless(register: u8, value: i32, by: i16) -> Instruction {
    instruction(0x55, register, 0, by, value)
}

/// `R0 = helper(R1, …)`
pub const fn call(helper: i32) -> Instruction {
    instruction(0x85, 0, 0, 0, helper)
}

/// The end, with [`R0`] as the answer.
pub const fn exit() -> Instruction {
    instruction(0x95, 0, 0, 0, 0)
}
