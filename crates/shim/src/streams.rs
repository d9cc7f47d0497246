//! Standard streams of a process: between the runtime's fifos and the agent.
//!
//! Every fifo is held open in both directions, so a reader that comes late or goes (a runtime that
//! restarts) neither blocks nor breaks the stream; a full pipe simply holds the process back.

use std::{path::PathBuf, time::Duration};

use rustix::pipe::fcntl_setpipe_size;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    agent::{Agent, Output, ProcessId},
    error::Error,
};

/// One write of input: half of what a pipe holds.
const INPUT_BYTES: usize = 32 << 10;
/// One read of output: what the guest's pipe holds.
const OUTPUT_BYTES: u32 = 256 << 10;
/// How long a killed process's output may wait for a reader that does not read.
const STALL_TIME: Duration = Duration::from_secs(10);
/// How long input that is to be closed may wait for a writer that does not close its end.
const CLOSE_TIME: Duration = Duration::from_secs(10);

/// The paths that the runtime names; empty is no stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct StandardStreams {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) terminal: bool,
}

/// The opened fifos.
pub(crate) struct Opened {
    stdin: Option<(PathBuf, pipe::Receiver)>,
    stdout: Option<pipe::Sender>,
    stderr: Option<pipe::Sender>,
}

/// Whether somebody asked for the process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Live,
    /// It was told to end, and may take its time.
    End,
    /// It was killed.
    Killed,
}

/// Whether the runtime still has input for the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    Open,
    Closed,
}

impl StandardStreams {
    pub(crate) fn open(&self) -> Result<Opened, Error> {
        let stdin = match path(&self.stdin)? {
            Some(path) => {
                let fifo = pipe::OpenOptions::new().read_write(true).open_receiver(&path);
                let fifo = fifo.map_err(Error::file("open the fifo", &path))?;
                Some((path, fifo))
            }
            None => None,
        };
        // A terminal has a single stream.
        let stderr = if self.terminal {
            None
        } else {
            sender(&self.stderr)?
        };
        Ok(Opened {
            stdin,
            stdout: sender(&self.stdout)?,
            stderr,
        })
    }
}

/// A fifo's path; containerd also knows files and logging programs, which Kubernetes does not use.
fn path(address: &str) -> Result<Option<PathBuf>, Error> {
    let path = address.strip_prefix("fifo://").unwrap_or(address);
    match path {
        "" => Ok(None),
        path if path.contains("://") => {
            let problem = format!("{path}: only fifos are supported");
            Err(Error::Invalid {
                field: "standard stream",
                problem,
            })
        }
        path => Ok(Some(path.into())),
    }
}

fn sender(address: &str) -> Result<Option<pipe::Sender>, Error> {
    let Some(path) = path(address)? else {
        return Ok(None);
    };
    let fifo = pipe::OpenOptions::new().read_write(true).open_sender(&path);
    let fifo = fifo.map_err(Error::file("open the fifo", path))?;
    // A larger pipe wakes its reader less often; one that stays as it is is slower, and nothing else.
    let _ = fcntl_setpipe_size(&fifo, OUTPUT_BYTES as usize);
    Ok(Some(fifo))
}

impl Opened {
    /// Starts to feed the process, and returns what is left: the output.
    pub(crate) fn feed(
        self,
        agent: &Agent,
        process: &ProcessId,
        input: watch::Receiver<Input>,
    ) -> (Outputs, Option<tokio::task::JoinHandle<()>>) {
        let feeding = self.stdin.map(|(path, fifo)| {
            let (agent, process) = (agent.clone(), process.clone());
            tokio::spawn(async move { feed(&agent, &process, path, fifo, input).await })
        });
        (
            Outputs {
                stdout: self.stdout,
                stderr: self.stderr,
            },
            feeding,
        )
    }
}

/// The output fifos of a running process.
pub(crate) struct Outputs {
    stdout: Option<pipe::Sender>,
    stderr: Option<pipe::Sender>,
}

impl Outputs {
    /// Returns when the process has closed its output and all of it is delivered.
    pub(crate) async fn drain(self, agent: &Agent, process: &ProcessId, wish: &watch::Receiver<Wish>) {
        tokio::join!(
            drain(agent, process, Output::Stdout, self.stdout, wish.clone()),
            drain(agent, process, Output::Stderr, self.stderr, wish.clone()),
        );
    }
}

async fn drain(
    agent: &Agent,
    process: &ProcessId,
    from: Output,
    fifo: Option<pipe::Sender>,
    mut wish: watch::Receiver<Wish>,
) {
    let Some(mut fifo) = fifo else { return };
    // Once nobody takes the output of a killed process, the rest is read and dropped.
    let mut reader_left = false;
    let mut next = agent.read(process, from, OUTPUT_BYTES).await;
    loop {
        let data = match next {
            Ok(data) if data.is_empty() => return,
            Ok(data) => data,
            Err(error) => {
                tracing::debug!(%process, ?from, %error, "the stream ended");
                return;
            }
        };
        // The next piece is on its way while this one is delivered.
        let delivery = async {
            if !reader_left {
                tokio::select! {
                    written = fifo.write_all(&data) => reader_left = written.is_err(),
                    () = stalled(&mut wish) => reader_left = true,
                }
            }
        };
        (next, ()) = tokio::join!(agent.read(process, from, OUTPUT_BYTES), delivery);
    }
}

async fn stalled(wish: &mut watch::Receiver<Wish>) {
    if wish.wait_for(|wish| *wish != Wish::Live).await.is_ok() {
        sleep(STALL_TIME).await;
    } else {
        std::future::pending().await
    }
}

async fn feed(
    agent: &Agent,
    process: &ProcessId,
    path: PathBuf,
    mut fifo: pipe::Receiver,
    mut input: watch::Receiver<Input>,
) {
    let mut buffer = vec![0; INPUT_BYTES];
    loop {
        let size = tokio::select! {
            read = fifo.read(&mut buffer) => read.unwrap_or(0),
            _ = input.wait_for(|input| *input == Input::Closed) => break,
        };
        if size == 0 || !write(agent, process, &buffer[..size]).await {
            break;
        }
    }
    // What was written before the close is still in the pipe. Opened for reading only, the pipe ends when
    // the last writer has gone; it is opened before the first is dropped, so that nothing gets lost.
    match pipe::OpenOptions::new().open_receiver(&path) {
        Ok(mut rest) => {
            drop(fifo);
            while let Ok(Ok(size)) = timeout(CLOSE_TIME, rest.read(&mut buffer)).await {
                if size == 0 || !write(agent, process, &buffer[..size]).await {
                    break;
                }
            }
        }
        Err(error) => tracing::debug!(%process, %error, "the input fifo is gone"),
    }
    if let Err(error) = agent.close_stdin(process).await {
        tracing::debug!(%process, error = error.chain(), "input not closed");
    }
}

/// Whether the process still takes input.
async fn write(agent: &Agent, process: &ProcessId, mut data: &[u8]) -> bool {
    while !data.is_empty() {
        match agent.write(process, data.to_vec()).await {
            Ok(written) if written > 0 => data = &data[written.min(data.len())..],
            Ok(_) => return false,
            Err(error) => {
                tracing::debug!(%process, %error, "input not taken");
                return false;
            }
        }
    }
    true
}
