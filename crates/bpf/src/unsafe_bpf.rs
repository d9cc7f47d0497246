//! The bpf(2) system call, for which there is no safe wrapper: the few commands that are needed here.
//!
//! Every descriptor it returns is closed on exec; what the kernel made lives as long as something refers to it.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, c_long},
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use crate::Instruction;

/// Commands, of `enum bpf_cmd` in linux/bpf.h.
const BPF_MAP_CREATE: c_long = 0;
const BPF_MAP_UPDATE_ELEM: c_long = 2;
const BPF_PROG_LOAD: c_long = 5;
const BPF_PROG_ATTACH: c_long = 8;
const BPF_LINK_CREATE: c_long = 28;

/// A map of sockets: it does not keep them open.
const BPF_MAP_TYPE_SOCKMAP: u32 = 15;
/// Where programs are attached, of `enum bpf_attach_type`.
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_SK_LOOKUP: u32 = 36;
/// Programs of groups below may forbid more, and all of them are asked.
const BPF_F_ALLOW_MULTI: u32 = 2;

/// Only programs that use functions reserved to the GPL must name it; ours does not.
const LICENSE: &CStr = c"Apache-2.0";

/// The length of a program's name, with at least one zero byte at its end.
const NAME_LENGTH: usize = 16;

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It chooses the socket for a connection to a network namespace; its context is a `struct bpf_sk_lookup`.
    SocketLookup,
    /// It allows processes of a control group to use a device; its context is a `struct bpf_cgroup_dev_ctx`.
    ControlGroupDevice,
    /// It says what becomes of a network device's packets; its context is a `struct __sk_buff`.
    TrafficFilter,
}

impl Kind {
    /// Of `enum bpf_prog_type`.
    fn program_type(self) -> u32 {
        match self {
            Self::SocketLookup => 30,
            Self::ControlGroupDevice => 15,
            Self::TrafficFilter => 3,
        }
    }

    fn attach_type(self) -> u32 {
        match self {
            Self::SocketLookup => BPF_SK_LOOKUP,
            Self::ControlGroupDevice => BPF_CGROUP_DEVICE,
            // It is attached by netlink, which asks for none.
            Self::TrafficFilter => 0,
        }
    }
}

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

/// The part that attaches a program for as long as what it is attached to exists.
#[repr(C)]
struct ProgramAttach {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// The part that attaches a program for as long as somebody holds the link.
#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// Makes a map of sockets with the keys below `entries`.
pub fn make_socket_map(entries: u32) -> io::Result<OwnedFd> {
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
pub fn put_socket(map: BorrowedFd<'_>, key: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
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

/// Loads a program; the kernel refuses one that it cannot prove harmless. An administrator finds it by its name, of which
/// 15 characters count.
pub fn load(kind: Kind, name: &str, instructions: &[Instruction]) -> io::Result<OwnedFd> {
    let count = u32::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut padded = [0; NAME_LENGTH];
    let length = name.len().min(NAME_LENGTH - 1);
    padded[..length].copy_from_slice(&name.as_bytes()[..length]);
    let attribute = ProgramLoad {
        program_type: kind.program_type(),
        instruction_count: count,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        license: LICENSE.as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name: padded,
        interface: 0,
        expected_attach_type: kind.attach_type(),
    };
    // SAFETY: the attribute is the command's. The kernel reads `count` instructions, each laid out as `struct bpf_insn`,
    // and a string that ends with a zero byte through the two pointers; the slice is borrowed and the string static.
    unsafe { make(BPF_PROG_LOAD, &attribute) }
}

/// Attaches a program that chooses sockets to a network namespace, until the descriptor that is returned is closed.
pub fn attach_to_namespace(program: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let attribute = LinkCreate {
        program: plain(program),
        target: plain(namespace),
        attach_type: BPF_SK_LOOKUP,
        flags: 0,
    };
    // SAFETY: the attribute is the command's and holds no pointer.
    unsafe { make(BPF_LINK_CREATE, &attribute) }
}

/// Attaches a program that is asked about devices to a control group of version 2, and to all groups below it, for as long
/// as the group exists.
pub fn attach_to_control_group(program: BorrowedFd<'_>, group: BorrowedFd<'_>) -> io::Result<()> {
    let attribute = ProgramAttach {
        target: plain(group),
        program: plain(program),
        attach_type: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: the attribute is the command's and holds no pointer.
    unsafe { call(BPF_PROG_ATTACH, &attribute) }.map(drop)
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
