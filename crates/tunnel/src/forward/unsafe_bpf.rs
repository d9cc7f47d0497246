//! The bpf(2) system call, for which there is no safe wrapper: the few commands that the catch needs.
//!
//! Every descriptor it returns is closed on exec; what the kernel made lives as long as something refers to it.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, c_long},
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use super::program::Instruction;

/// Commands, of `enum bpf_cmd` in linux/bpf.h.
const BPF_MAP_CREATE: c_long = 0;
const BPF_MAP_UPDATE_ELEM: c_long = 2;
const BPF_PROG_LOAD: c_long = 5;
const BPF_LINK_CREATE: c_long = 28;

/// A map of sockets: it does not keep them open.
const BPF_MAP_TYPE_SOCKMAP: u32 = 15;
/// A program that chooses the socket for a connection, and where such a program is attached.
const BPF_PROG_TYPE_SK_LOOKUP: u32 = 30;
const BPF_SK_LOOKUP: u32 = 36;

/// Only programs that use functions reserved to the GPL must name it; ours does not.
const LICENSE: &CStr = c"Apache-2.0";

/// The name by which an administrator finds the program; 15 characters at most and a zero byte, as the kernel demands.
const PROGRAM_NAME: [u8; 16] = *b"peerpods_catch\0\0";

/// The part of `union bpf_attr` that makes a map; the kernel takes what is missing for zero.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// The part that changes an entry of a map.
#[repr(C)]
struct MapUpdate {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The part that loads a program.
#[repr(C)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
}

/// The part that attaches a program.
#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// Makes a map of sockets with the keys below `entries`.
pub(super) fn make_socket_map(entries: u32) -> io::Result<OwnedFd> {
    let attribute = MapCreate {
        map_type: BPF_MAP_TYPE_SOCKMAP,
        key_size: size::<u32>(),
        value_size: size::<u32>(),
        max_entries: entries,
    };
    // SAFETY: the attribute is the command's and holds no pointer.
    unsafe { make(BPF_MAP_CREATE, &attribute) }
}

/// Puts a listening socket into a map of sockets.
pub(super) fn put_socket(map: BorrowedFd<'_>, key: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
    let value = plain(socket);
    let attribute = MapUpdate {
        map: plain(map),
        padding: 0,
        key: address(&key),
        value: address(&value),
        flags: 0,
    };
    // SAFETY: the attribute is the command's. The kernel reads four bytes each, the sizes of the map's keys and values,
    // through the two pointers, whose variables live until the call has returned.
    unsafe { call(BPF_MAP_UPDATE_ELEM, &attribute) }.map(drop)
}

/// Loads a program that chooses sockets; the kernel refuses one that it cannot prove harmless.
pub(super) fn load_lookup_program(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    let count = u32::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let attribute = ProgramLoad {
        program_type: BPF_PROG_TYPE_SK_LOOKUP,
        instruction_count: count,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        license: LICENSE.as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name: PROGRAM_NAME,
        interface: 0,
        expected_attach_type: BPF_SK_LOOKUP,
    };
    // SAFETY: the attribute is the command's. The kernel reads `count` instructions, each laid out as `struct bpf_insn`,
    // and a string that ends with a zero byte through the two pointers; the slice is borrowed and the string static.
    unsafe { make(BPF_PROG_LOAD, &attribute) }
}

/// Attaches a program that chooses sockets to a network namespace, until the descriptor that is returned is closed.
pub(super) fn attach_to_namespace(program: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let attribute = LinkCreate {
        program: plain(program),
        target: plain(namespace),
        attach_type: BPF_SK_LOOKUP,
        flags: 0,
    };
    // SAFETY: the attribute is the command's and holds no pointer.
    unsafe { make(BPF_LINK_CREATE, &attribute) }
}

/// A command that makes a descriptor.
///
/// # Safety
/// As for [`call`]; and the command returns a descriptor.
unsafe fn make<Attribute>(command: c_long, attribute: &Attribute) -> io::Result<OwnedFd> {
    // SAFETY: the caller vouches for it.
    let made = unsafe { call(command, attribute) }?;
    let descriptor = RawFd::try_from(made).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made the descriptor for this call, so that nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The system call.
///
/// # Safety
/// `attribute` is the part of `union bpf_attr` that belongs to `command`, and its pointers are valid for what the command
/// does with them.
unsafe fn call<Attribute>(command: c_long, attribute: &Attribute) -> io::Result<c_long> {
    // SAFETY: the kernel reads as many bytes as it is told, which are those of the attribute; the rest is the caller's word.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attribute),
            c_long::from(size::<Attribute>()),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// A descriptor as the kernel's attributes hold it.
fn plain(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor
        .as_raw_fd()
        .try_into()
        .expect("an open descriptor is not negative")
}

/// The address of a variable as the kernel's attributes hold it.
fn address<T>(variable: &T) -> u64 {
    std::ptr::from_ref(variable).expose_provenance() as u64
}

/// A size as the kernel's attributes hold it.
const fn size<T>() -> u32 {
    let size = size_of::<T>();
    assert!(size < 1024, "attributes, keys and values are small");
    size as u32
}
