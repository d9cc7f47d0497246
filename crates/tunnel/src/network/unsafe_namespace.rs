//! Leaving the network namespace, which rustix counts as unsafe for what else the same call could do.
#![allow(unsafe_code)]

use std::io;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Puts the calling thread, and no other, into a new network namespace.
pub(super) fn leave_network_namespace() -> io::Result<()> {
    // SAFETY: the call is unsafe because with CLONE_FILES a thread could see descriptors of another table. NEWNET does not
    // touch the descriptor table.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(())
}
