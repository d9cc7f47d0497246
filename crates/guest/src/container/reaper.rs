//! PID 1 inherits every process whose parent has ended, and must take note of every end.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use nix::{
    errno::Errno,
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::error::GuestError;

/// Ends that nobody has asked for yet. Who starts a process asks at once, so all but the newest are of processes that
/// nobody waits for.
const KEPT_ENDS: usize = 64;

/// How a process ended: its exit code, or 128 and the signal's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit(pub(crate) i32);

/// Reaps all children of this process; a clone is the same reaper.
#[derive(Clone)]
pub(crate) struct Reaper {
    ends: Arc<Mutex<VecDeque<(i32, Exit)>>>,
    count: watch::Receiver<u64>,
}

impl Reaper {
    /// Starts to reap. There must be one per process, and nothing else that waits for children.
    pub(crate) fn start() -> Result<Self, GuestError> {
        let mut children =
            signal(SignalKind::child()).map_err(GuestError::system("listen for ends of children"))?;
        let ends = Arc::new(Mutex::new(VecDeque::new()));
        let (counter, count) = watch::channel(0);
        let reaper = Self { ends, count };
        let reaping = reaper.clone();
        tokio::spawn(async move {
            loop {
                reaping.reap();
                counter.send_modify(|count| *count += 1);
                if children.recv().await.is_none() {
                    return;
                }
            }
        });
        Ok(reaper)
    }

    /// Waits for the end of a child, once.
    pub(crate) async fn wait(&self, pid: i32) -> Exit {
        let mut count = self.count.clone();
        loop {
            count.borrow_and_update();
            if let Some(exit) = self.take(pid) {
                return exit;
            }
            if count.changed().await.is_err() {
                // The reaper ends with the runtime, and so does this task.
                std::future::pending::<()>().await;
            }
        }
    }

    fn take(&self, pid: i32) -> Option<Exit> {
        let mut ends = self.ends.lock().expect("nothing panics while it holds the ends");
        let at = ends.iter().position(|(of, _)| *of == pid)?;
        ends.remove(at).map(|(_, exit)| exit)
    }

    fn reap(&self) {
        loop {
            let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit(128 + signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "cannot wait for children");
                    return;
                }
            };
            let mut ends = self.ends.lock().expect("nothing panics while it holds the ends");
            // A number is used again only after its process was reaped: an older end is of another process.
            ends.retain(|(of, _)| *of != pid.as_raw());
            ends.push_back((pid.as_raw(), exit));
            if ends.len() > KEPT_ENDS {
                ends.pop_front();
            }
        }
    }
}
