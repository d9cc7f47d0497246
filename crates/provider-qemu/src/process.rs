//! The QEMU process of an instance, found by the file that it holds rather than by a remembered number.

use std::{fs, io, os::fd::OwnedFd, os::unix::fs::MetadataExt, path::Path};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::error::QemuError;

/// Kills the process whose standard output is `alive`; nothing happens when there is none.
///
/// Process numbers are reused, open files are not: the process is fixed by a descriptor first, and then
/// asked once more whether it is the one.
pub(crate) fn kill_holder(alive: &Path) -> Result<(), QemuError> {
    let Some(process) = holder(alive).map_err(QemuError::Kill)? else {
        return Ok(());
    };
    match pidfd_send_signal(&process, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(QemuError::Kill(errno.into())),
    }
}

fn holder(alive: &Path) -> io::Result<Option<OwnedFd>> {
    let file = fs::metadata(alive)?;
    let holds = |pid: i32| {
        // A process that has ended, or is not ours to look into, holds nothing of ours.
        let output = fs::metadata(format!("/proc/{pid}/fd/1"));
        output.is_ok_and(|output| output.dev() == file.dev() && output.ino() == file.ino())
    };
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if !holds(pid) {
            continue;
        }
        let process = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        if let Some(Ok(process)) = process.filter(|_| holds(pid)) {
            return Ok(Some(process));
        }
    }
    Ok(None)
}
