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

/// The sockets in a machine's directory: one for questions, of which QEMU answers one connection at a time, and one that
/// is held open to see the machine's end.
pub(crate) const CONTROL_SOCKET: &str = "control.sock";
pub(crate) const LIFE_SOCKET: &str = "life.sock";

/// Returns when the machine in `directory` has ended, or cannot be reached: the kernel closes its sockets with it.
pub(crate) async fn ended(directory: &Path) {
    let Ok(mut socket) = connect(directory, LIFE_SOCKET).await else {
        return;
    };
    // QEMU greets and then reports what happens; none of it is of interest.
    let mut ignored = [0; 512];
    while socket.read(&mut ignored).await.is_ok_and(|length| length > 0) {}
}

async fn connect(directory: &Path, name: &str) -> io::Result<UnixStream> {
    let directory = File::open(directory)?;
    // A socket's path can have 107 bytes, and the state directory may be deeper than that.
    let path = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
    UnixStream::connect(path).await
}

/// Waits until the machine's control socket in `directory` answers that the machine runs.
///
/// QEMU answers from its main loop, that is, after it has read all its files and made all its devices.
/// An error may mean that it has not come so far.
pub(crate) async fn confirm_running(directory: &Path) -> Result<(), QemuError> {
    let mut socket = connect(directory, CONTROL_SOCKET)
        .await
        .map_err(QemuError::Control)?;
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
