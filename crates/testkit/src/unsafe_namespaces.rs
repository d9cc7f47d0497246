//! The system call that gives a test's thread namespaces of its own, which rustix counts as unsafe for what else it can do.
#![allow(unsafe_code)]

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Moves the calling thread, and all threads and processes that it makes, to new network and mount namespaces.
pub(crate) fn enter_new() -> rustix::io::Result<()> {
    // SAFETY: only the flag for file descriptor tables can invalidate what other code of this thread holds, and it is
    // not among the flags. NEWNS gives the thread a working directory of its own, which std does not mind.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }
}
