//! Which containers the kernel took processes of, for their memory.

use std::{
    collections::HashMap,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    sync::{Arc, Mutex as SyncMutex, MutexGuard},
};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{Mutex, mpsc},
};

use super::{Cgroup, ContainerId};
use crate::error::GuestError;
use crate::unsafe_register::register;

/// Kills that nobody has asked for yet; an asker that falls behind by more loses the rest, which are repetitions.
const QUEUE: usize = 64;
/// Room for many events: those of one file have no name.
const BUFFER_BYTES: usize = 1024;

/// Watches the control groups of all containers.
pub(crate) struct OutOfMemory {
    events: Arc<AsyncFd<OwnedFd>>,
    watched: Arc<SyncMutex<HashMap<i32, Watched>>>,
    kills: Mutex<mpsc::Receiver<ContainerId>>,
}

struct Watched {
    container: ContainerId,
    kills: u64,
}

impl OutOfMemory {
    /// Starts to watch nothing.
    pub(crate) fn watch() -> Result<Self, GuestError> {
        let failed = "watch the containers' memory";
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(GuestError::system(failed))?;
        let events = Arc::new(register(events).map_err(GuestError::system(failed))?);
        let watched = Arc::default();
        let (sender, kills) = mpsc::channel(QUEUE);
        tokio::spawn(report(events.clone(), Arc::clone(&watched), sender));
        Ok(Self {
            events,
            watched,
            kills: Mutex::new(kills),
        })
    }

    /// Watches a container's control group until that is removed.
    pub(crate) fn add(&self, container: &ContainerId) -> Result<(), GuestError> {
        let path = Cgroup::of(container).memory_events();
        // Held before the watch exists, so that its first event finds its container.
        let mut watched = lock(&self.watched);
        let number = inotify::add_watch(self.events.get_ref(), &path, WatchFlags::MODIFY)
            .map_err(|error| GuestError::file("watch", path)(error.into()))?;
        let container = container.clone();
        watched.insert(number, Watched { container, kills: 0 });
        Ok(())
    }

    /// Waits for the next container that lost a process. Several may ask; each kill is told once.
    pub(crate) async fn next(&self) -> ContainerId {
        match self.kills.lock().await.recv().await {
            Some(container) => container,
            // The watch ends with the runtime, and so does this task.
            None => std::future::pending().await,
        }
    }
}

async fn report(
    events: Arc<AsyncFd<OwnedFd>>,
    watched: Arc<SyncMutex<HashMap<i32, Watched>>>,
    kills: mpsc::Sender<ContainerId>,
) {
    loop {
        let changed = events
            .async_io(Interest::READABLE, |events| Ok(changed(events)?))
            .await;
        let changed = match changed {
            Ok(changed) => changed,
            Err(error) => {
                tracing::error!(%error, "kills for memory are not reported any more");
                return;
            }
        };
        for (number, is_gone) in changed {
            let mut watched = lock(&watched);
            if is_gone {
                watched.remove(&number);
                continue;
            }
            let Some(one) = watched.get_mut(&number) else {
                continue;
            };
            let now = Cgroup::of(&one.container).usage().out_of_memory_kills;
            if now > one.kills {
                one.kills = now;
                let _ = kills.try_send(one.container.clone());
            }
        }
    }
}

/// The numbers of the files that changed, and whether each is gone.
fn changed(events: &OwnedFd) -> Result<Vec<(i32, bool)>, rustix::io::Errno> {
    let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
    let mut reader = Reader::new(events, &mut buffer);
    let first = reader.next()?;
    let mut changed = vec![(first.wd(), first.events().contains(ReadFlags::IGNORED))];
    while !reader.is_buffer_empty() {
        let event = reader.next()?;
        changed.push((event.wd(), event.events().contains(ReadFlags::IGNORED)));
    }
    Ok(changed)
}

fn lock(watched: &SyncMutex<HashMap<i32, Watched>>) -> MutexGuard<'_, HashMap<i32, Watched>> {
    watched.lock().expect("nothing panics while it holds the watches")
}
