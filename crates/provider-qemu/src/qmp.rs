//! The little of QEMU's machine protocol that is needed: to ask whether a machine runs, and to save and resume it.

use std::{fs::File, io, os::fd::AsRawFd, path::Path};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines, Take},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use crate::error::QemuError;

/// More than QEMU says on one connection, even to who asks a hundred times whether it is done.
const ANSWER_LIMIT_BYTES: u64 = 1 << 20;

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

/// Whether a machine's CPUs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    Running,
    /// It waits for its state, or takes it in.
    Incoming,
}

/// A connection to a machine's control socket, in command mode. QEMU serves one at a time.
pub(crate) struct Control {
    answers: Lines<BufReader<Take<OwnedReadHalf>>>,
    commands: OwnedWriteHalf,
}

impl Control {
    /// Connects to the machine in `directory`.
    ///
    /// QEMU answers from its main loop, that is, after it has read all its files and made all its devices. An error may
    /// mean that it has not come so far.
    pub(crate) async fn open(directory: &Path) -> Result<Self, QemuError> {
        let socket = connect(directory, CONTROL_SOCKET)
            .await
            .map_err(QemuError::Control)?;
        let (answers, commands) = socket.into_split();
        let mut control = Self {
            answers: BufReader::new(answers.take(ANSWER_LIMIT_BYTES)).lines(),
            commands,
        };
        control.execute("qmp_capabilities", json!({})).await?;
        Ok(control)
    }

    /// Has a command executed, and gives its answer.
    pub(crate) async fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QemuError> {
        let line = json!({"execute": command, "arguments": arguments, "id": command}).to_string() + "\n";
        self.commands
            .write_all(line.as_bytes())
            .await
            .map_err(QemuError::Control)?;
        while let Some(line) = self.answers.next_line().await.map_err(QemuError::Control)? {
            let unexpected = || QemuError::UnexpectedAnswer(line.clone());
            let mut answer: Value = serde_json::from_str(&line).map_err(|_| unexpected())?;
            // The greeting and events have no id.
            if answer["id"] != command {
                continue;
            }
            return match answer.get_mut("return") {
                Some(value) => Ok(value.take()),
                None => Err(unexpected()),
            };
        }
        Err(QemuError::Control(io::ErrorKind::UnexpectedEof.into()))
    }

    /// Whether the CPUs run.
    pub(crate) async fn activity(&mut self) -> Result<Activity, QemuError> {
        let status = self.execute("query-status", json!({})).await?;
        match (&status["running"], &status["status"]) {
            (Value::Bool(true), _) => Ok(Activity::Running),
            (_, Value::String(name)) if name == "inmigrate" => Ok(Activity::Incoming),
            _ => Err(QemuError::UnexpectedAnswer(status.to_string())),
        }
    }
}
