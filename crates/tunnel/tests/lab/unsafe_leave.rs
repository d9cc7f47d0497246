//! Leaving the machine's namespaces, which rustix counts as unsafe for what else the same call could do.
#![allow(unsafe_code)]

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Puts the calling thread into network and mount namespaces of its own.
pub(super) fn leave() {
    // SAFETY: only CLONE_FILES makes the call unsafe; NEWNS implies CLONE_FS, which std does not rely on.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }.unwrap();
}
