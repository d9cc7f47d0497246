//! Leaving the node's namespaces, which rustix counts as unsafe for what else the same call could do.
#![allow(unsafe_code)]

use std::io;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Puts this process into new namespaces of every kind that a VM has of its own; its children into a new pid namespace.
pub(crate) fn leave_namespaces() -> io::Result<()> {
    let all = UnshareFlags::NEWNET
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWCGROUP;
    // SAFETY: the call is unsafe because with CLONE_FILES a thread could see descriptors of another table. It is not
    // among the flags.
    unsafe { unshare_unsafe(all) }?;
    Ok(())
}
