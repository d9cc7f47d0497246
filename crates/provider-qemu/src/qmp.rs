//! The little of QEMU's machine protocol that a launch needs: to ask whether the machine runs.

use std::{fs::File, io, os::fd::AsRawFd, path::Path};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};

use crate::error::QemuError;

/// More than QEMU's greeting and both answers have; a larger answer is none of QEMU's.
const ANSWER_LIMIT_BYTES: u64 = 64 << 10;

/// Enters command mode and asks for the machine's state; the ids let the answers be told from events.
const QUESTION: &[u8] =
    b"{\"execute\":\"qmp_capabilities\",\"id\":\"enter\"}\n{\"execute\":\"query-status\",\"id\":\"status\"}\n";

/// Waits until the machine's control socket in `directory` answers that the machine runs.
///
/// QEMU answers from its main loop, that is, after it has read all its files and made all its devices.
/// An error may mean that it has not come so far.
pub(crate) async fn confirm_running(directory: &Path) -> Result<(), QemuError> {
    let directory = File::open(directory).map_err(QemuError::Control)?;
    // A socket's path can have 107 bytes, and the state directory may be deeper than that.
    let path = format!("/proc/self/fd/{}/control.sock", directory.as_raw_fd());
    let mut socket = UnixStream::connect(path).await.map_err(QemuError::Control)?;
    socket.write_all(QUESTION).await.map_err(QemuError::Control)?;

    let mut lines = BufReader::new(socket.take(ANSWER_LIMIT_BYTES)).lines();
    while let Some(line) = lines.next_line().await.map_err(QemuError::Control)? {
        let unexpected = || QemuError::UnexpectedAnswer(line.clone());
        let answer: serde_json::Value = serde_json::from_str(&line).map_err(|_| unexpected())?;
        if answer["id"] != "status" {
            continue;
        }
        return if answer["return"]["running"] == true {
            Ok(())
        } else {
            Err(unexpected())
        };
    }
    Err(QemuError::Control(io::ErrorKind::UnexpectedEof.into()))
}
