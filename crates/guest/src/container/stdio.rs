//! A process's streams, from the agent's side.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
    termios::{Winsize, tcsetwinsize},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest, unix::AsyncFd},
    net::unix::pipe,
    sync::Mutex,
};

use crate::error::GuestError;
use crate::unsafe_register::register;

/// What a process's output may hold until it is read: four times what a pipe holds by itself.
const OUTPUT_PIPE_BYTES: usize = 256 << 10;
/// The kernel's line discipline gives no more at once.
const TERMINAL_READ_BYTES: usize = 4096;

/// What a process gets: its ends of its streams. With a terminal it gets them from libcontainer.
#[derive(Default)]
pub(crate) struct ChildEnds {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

/// The agent's ends of a process's streams. Each stream has one reader or writer at a time; others wait.
pub(crate) struct Stdio {
    input: Mutex<Input>,
    output: Mutex<Output>,
    error: Mutex<Output>,
    terminal: Option<Arc<AsyncFd<OwnedFd>>>,
}

enum Input {
    Closed,
    Pipe(pipe::Sender),
    Terminal(Arc<AsyncFd<OwnedFd>>),
}

enum Output {
    Closed,
    Pipe(pipe::Receiver),
    Terminal(Arc<AsyncFd<OwnedFd>>),
}

/// Which stream to read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    Output,
    Error,
}

impl Stdio {
    /// Three pipes.
    pub(crate) fn pipes() -> Result<(Self, ChildEnds), GuestError> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(GuestError::system("make a pipe"));
        let ((stdin, input), (output, stdout), (error, stderr)) = (pipe()?, pipe()?, pipe()?);
        // A pipe that holds more is read in fewer round trips; one that does not is slower, and nothing else.
        let _ = fcntl_setpipe_size(&output, OUTPUT_PIPE_BYTES);
        let receiver = |fd| pipe::Receiver::from_owned_fd(fd).map_err(GuestError::system("read a pipe"));
        let stdio = Self {
            input: Mutex::new(Input::Pipe(
                pipe::Sender::from_owned_fd(input).map_err(GuestError::system("write to a pipe"))?,
            )),
            output: Mutex::new(Output::Pipe(receiver(output)?)),
            error: Mutex::new(Output::Pipe(receiver(error)?)),
            terminal: None,
        };
        Ok((
            stdio,
            ChildEnds {
                stdin: Some(stdin),
                stdout: Some(stdout),
                stderr: Some(stderr),
            },
        ))
    }

    /// A terminal's controlling side.
    pub(crate) fn terminal(controller: OwnedFd) -> Result<Self, GuestError> {
        let flags = fcntl_getfl(&controller).map_err(GuestError::system("use the terminal"))?;
        fcntl_setfl(&controller, flags | OFlags::NONBLOCK).map_err(GuestError::system("use the terminal"))?;
        let terminal = Arc::new(register(controller).map_err(GuestError::system("use the terminal"))?);
        Ok(Self {
            input: Mutex::new(Input::Terminal(terminal.clone())),
            output: Mutex::new(Output::Terminal(terminal.clone())),
            error: Mutex::new(Output::Closed),
            terminal: Some(terminal),
        })
    }

    /// Reads up to `limit` bytes; none means that the stream has ended.
    pub(crate) async fn read(&self, stream: Stream, limit: usize) -> Result<Vec<u8>, GuestError> {
        let mut output = match stream {
            Stream::Output => self.output.lock().await,
            Stream::Error => self.error.lock().await,
        };
        let read = match &mut *output {
            Output::Closed => Ok(Vec::new()),
            Output::Pipe(receiver) => read_pipe(receiver, limit).await,
            Output::Terminal(terminal) => {
                let mut bytes = vec![0; limit.min(TERMINAL_READ_BYTES)];
                let read = terminal
                    .async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut bytes[..])?))
                    .await;
                let length = match read {
                    // No process has the terminal open any more.
                    Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => Ok(0),
                    read => read,
                };
                length.map(|length| {
                    bytes.truncate(length);
                    bytes
                })
            }
        };
        let bytes = read.map_err(GuestError::system("read the process's output"))?;
        if bytes.is_empty() {
            *output = Output::Closed;
        }
        Ok(bytes)
    }

    /// Writes all of `bytes`; nothing of them is an end of input.
    pub(crate) async fn write(&self, bytes: &[u8]) -> Result<(), GuestError> {
        if bytes.is_empty() {
            self.close_input().await;
            return Ok(());
        }
        let written = match &mut *self.input.lock().await {
            Input::Closed => Err(io::ErrorKind::BrokenPipe.into()),
            Input::Pipe(sender) => sender.write_all(bytes).await,
            Input::Terminal(terminal) => write_terminal(terminal, bytes).await,
        };
        written.map_err(GuestError::system("write to the process's input"))
    }

    /// Ends the process's input.
    pub(crate) async fn close_input(&self) {
        let mut input = self.input.lock().await;
        if let Input::Pipe(_) = &*input {
            *input = Input::Closed;
        }
    }

    /// Sets the terminal's size, where there is one.
    pub(crate) fn resize(&self, rows: u16, columns: u16) -> Result<(), GuestError> {
        let Some(terminal) = &self.terminal else {
            return Ok(());
        };
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(terminal.get_ref().as_fd(), size).map_err(GuestError::system("set the terminal's size"))
    }

    /// Whether everything that the process wrote was read.
    pub(crate) fn drained(&self) -> bool {
        let closed = |output: &Mutex<Output>| {
            output
                .try_lock()
                .is_ok_and(|output| matches!(*output, Output::Closed))
        };
        closed(&self.output) && closed(&self.error)
    }
}

/// Reads what is there, up to `limit`, in memory of just that size.
async fn read_pipe(receiver: &mut pipe::Receiver, limit: usize) -> io::Result<Vec<u8>> {
    receiver.readable().await?;
    let there = usize::try_from(rustix::io::ioctl_fionread(&*receiver)?).unwrap_or(limit);
    let mut bytes = Vec::with_capacity(there.clamp(1, limit));
    receiver.read_buf(&mut bytes).await?;
    Ok(bytes)
}

async fn write_terminal(terminal: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = terminal
            .async_io(Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, bytes)?))
            .await?;
        bytes = &bytes[written..];
    }
    Ok(())
}
