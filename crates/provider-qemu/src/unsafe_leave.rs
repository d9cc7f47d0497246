//! A process that leaves the container of whoever starts it; the standard library has no safe way between fork and exec.
#![allow(unsafe_code)]

use std::{ffi::CString, fs::File, io, os::fd::AsFd};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::process::Command;

/// Where a process goes.
#[derive(Debug)]
pub(crate) struct Outside {
    /// The files `cgroup.procs` of the control groups that it joins.
    pub(crate) groups: Vec<File>,
    /// The mount namespace whose files it sees.
    pub(crate) mounts: File,
    /// Its working directory there.
    pub(crate) directory: CString,
}

/// Has the program that `command` starts begin there.
pub(crate) fn leave(command: &mut Command, outside: Outside) {
    let go = move || {
        for group in &outside.groups {
            // The writer itself, whatever its number is.
            rustix::io::write(group, b"0")?;
        }
        move_into_link_name_space(outside.mounts.as_fd(), Some(LinkNameSpaceType::Mount))?;
        rustix::process::chdir(outside.directory.as_c_str())?;
        Ok::<_, io::Error>(())
    };
    // SAFETY: between fork and exec the closure makes system calls on descriptors and a string that it owns; it allocates
    // nothing, takes no lock, and touches nothing that another thread of the parent may have held.
    unsafe { command.pre_exec(go) };
}
