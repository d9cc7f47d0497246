//! A descriptor that a program inherits besides its standard ones; the standard library has no safe way.
#![allow(unsafe_code)]

use std::{io, os::fd::OwnedFd};

use rustix::io::{FdFlags, fcntl_setfd};
use tokio::process::Command;

/// Lets the program that `command` starts have `descriptor`, under the number that it has here. Nothing else that this
/// process starts inherits it: here it stays closed on exec.
pub(crate) fn inherit(command: &mut Command, descriptor: OwnedFd) {
    let keep = move || fcntl_setfd(&descriptor, FdFlags::empty()).map_err(io::Error::from);
    // SAFETY: between fork and exec the closure makes one system call on a descriptor that it owns; it allocates
    // nothing, takes no lock, and touches nothing that another thread of the parent may have held.
    unsafe { command.pre_exec(keep) };
}
