//! The number by which the runtime names a container's process.
//!
//! The process itself is in the guest, so the number stands for a container as long as that exists, and its use is to
//! tell containers of a pod apart: the runtime writes it into the spec of a container that is to join another's
//! processes. The first is this shim's own; each further one is that of a thread that sleeps, whose number nothing else
//! can have meanwhile.

use std::{
    io,
    sync::mpsc::{Receiver, Sender, channel},
    thread::Builder,
};

use rustix::thread::gettid;

use crate::error::Error;

/// The thread calls nothing.
const STACK_BYTES: usize = 16 << 10;

/// A number of a container's own.
pub(crate) enum ProcessNumber {
    /// The shim's.
    Shim,
    /// That of a thread, which ends when this is dropped.
    Thread { number: u32, _end: Sender<()> },
}

impl ProcessNumber {
    /// One that no other container has.
    pub(crate) fn of_a_thread() -> Result<Self, Error> {
        let failed = |source| Error::System {
            action: "number a further container",
            source,
        };
        let (end, ended) = channel();
        let (tell, told) = channel();
        let thread = Builder::new()
            .name("container".to_owned())
            .stack_size(STACK_BYTES);
        thread.spawn(move || sleep(&tell, &ended)).map_err(failed)?;
        let number: u32 = told
            .recv()
            .map_err(|_| failed(io::Error::other("the thread ended")))?;
        Ok(Self::Thread { number, _end: end })
    }

    pub(crate) fn get(&self) -> u32 {
        match self {
            Self::Shim => std::process::id(),
            Self::Thread { number, .. } => *number,
        }
    }
}

fn sleep(tell: &Sender<u32>, ended: &Receiver<()>) {
    let number = gettid().as_raw_nonzero().get();
    let _ = tell.send(number.unsigned_abs());
    // Nothing is ever sent: it returns when the other end is dropped.
    let _ = ended.recv();
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn numbers_differ_and_stand_for_something_that_exists() {
        let (one, other) = (
            ProcessNumber::of_a_thread().unwrap(),
            ProcessNumber::of_a_thread().unwrap(),
        );
        let numbers = [ProcessNumber::Shim.get(), one.get(), other.get()];
        assert!(numbers[0] != numbers[1] && numbers[1] != numbers[2] && numbers[0] != numbers[2]);
        for number in numbers {
            assert!(PathBuf::from(format!("/proc/{number}/ns/pid")).exists());
        }
        drop(other);
    }
}
