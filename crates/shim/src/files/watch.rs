//! One thread that sleeps until the kubelet publishes a version.

use std::{
    collections::HashMap,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::sync::mpsc::UnboundedSender;

use super::PUBLISHED;
use crate::{error::Error, mounts::Copy};

/// The thread calls nothing deep.
const STACK_BYTES: usize = 64 << 10;
/// Room for a few events with the longest names.
const BUFFER_BYTES: usize = 2048;

/// The copies to renew for each watch of a volume.
type Followers = Arc<Mutex<HashMap<i32, Vec<Copy>>>>;

/// A running watch; it ends with the process.
pub(super) struct Watch {
    events: Arc<OwnedFd>,
    followers: Followers,
}

impl Watch {
    /// Starts to watch nothing; each published version is reported to `published`.
    pub(super) fn start(published: UnboundedSender<Copy>) -> Result<Self, Error> {
        let failed = |source| Error::System {
            action: "watch the pod's configuration",
            source,
        };
        let events = inotify::init(CreateFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
        let watch = Self {
            events: Arc::new(events),
            followers: Followers::default(),
        };
        let (events, followers) = (watch.events.clone(), watch.followers.clone());
        std::thread::Builder::new()
            .name("configuration".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || report(&events, &followers, &published))
            .map_err(failed)?;
        Ok(watch)
    }

    /// Watches the source of `copy`, once however often it is asked for.
    pub(super) fn add(&self, copy: Copy) -> Result<(), Error> {
        // Held before the watch exists, so that its first event finds its follower.
        let mut followers = lock(&self.followers);
        let watched = inotify::add_watch(&*self.events, &copy.source, WatchFlags::MOVED_TO);
        let watched = watched.map_err(|error| Error::file("watch", &copy.source)(error.into()))?;
        let copies = followers.entry(watched).or_default();
        if !copies.contains(&copy) {
            copies.push(copy);
        }
        Ok(())
    }
}

fn report(events: &OwnedFd, followers: &Followers, published: &UnboundedSender<Copy>) {
    let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
    let mut reader = Reader::new(events, &mut buffer);
    loop {
        let (watched, is_publication) = match reader.next() {
            Ok(event) if event.events().contains(ReadFlags::IGNORED) => {
                // The volume is gone; its number may be given to another.
                lock(followers).remove(&event.wd());
                continue;
            }
            // Events were lost: every copy is compared with its source.
            Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => (None, true),
            Ok(event) => {
                let name = event.file_name().map(|name| name.to_bytes());
                (Some(event.wd()), name == Some(PUBLISHED.as_bytes()))
            }
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => {
                tracing::warn!(%error, "configuration does not follow changes any more");
                return;
            }
        };
        if !is_publication {
            continue;
        }
        let copies: Vec<Copy> = match watched {
            Some(watched) => lock(followers).get(&watched).cloned().unwrap_or_default(),
            None => lock(followers).values().flatten().cloned().collect(),
        };
        for copy in copies {
            if published.send(copy).is_err() {
                return;
            }
        }
    }
}

fn lock(followers: &Followers) -> MutexGuard<'_, HashMap<i32, Vec<Copy>>> {
    // A panic elsewhere cannot leave the map half changed.
    followers.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::mounts::Renewal;

    #[tokio::test]
    async fn only_a_publication_is_reported_and_to_every_copy() {
        let volume = tempfile::tempdir().unwrap();
        let (published, mut changes) = tokio::sync::mpsc::unbounded_channel();
        let watch = Watch::start(published).unwrap();
        let copy = |target: &str| Copy {
            source: volume.path().to_owned(),
            target: target.to_owned(),
            renewal: Renewal::WithSource,
        };
        for target in ["one", "one", "other"] {
            watch.add(copy(target)).unwrap();
        }
        fs::write(volume.path().join("noise"), "").unwrap();
        fs::rename(volume.path().join("noise"), volume.path().join("more noise")).unwrap();
        symlink("..2026_2", volume.path().join("..data_tmp")).unwrap();
        fs::rename(volume.path().join("..data_tmp"), volume.path().join("..data")).unwrap();
        assert_eq!(changes.recv().await, Some(copy("one")));
        assert_eq!(changes.recv().await, Some(copy("other")));
        assert!(changes.try_recv().is_err());
    }
}
