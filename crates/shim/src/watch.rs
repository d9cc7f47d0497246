//! One thread that sleeps until something happens to the files that the pod depends on: the kubelet publishes a version
//! of its configuration, or the adaptor tells that the machine has ended.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use peerpods_proto::shim_settings::ENDED_FILE;
use peerpods_tunnel::channel::CONNECTION_FILE;
use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{error::Error, mounts::Copy};

/// The thread calls nothing deep.
const STACK_BYTES: usize = 64 << 10;
/// Room for a few events with the longest names.
const BUFFER_BYTES: usize = 2048;
/// The link by which the kubelet publishes a version.
pub(crate) const PUBLISHED: &str = "..data";
/// Where the adaptor gave no reason, or took it away with everything else.
const NO_REASON: &str = "the adaptor ended it";

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A new version of the source of this copy is there.
    Published(Copy),
    /// The machine has ended, for this reason.
    Ended(String),
}

/// What a watched folder is watched for.
#[derive(Debug, Clone)]
enum Interest {
    /// Versions of these copies' source.
    Versions(Vec<Copy>),
    /// The end of the machine whose pod directory it is.
    End(PathBuf),
}

type Interests = Arc<Mutex<HashMap<i32, Interest>>>;

/// A running watch; it ends with the process.
pub(crate) struct Watch {
    events: Arc<OwnedFd>,
    interests: Interests,
}

impl Watch {
    /// Starts to watch nothing.
    pub(crate) fn start() -> Result<(Self, UnboundedReceiver<Change>), Error> {
        let failed = |source| Error::System {
            action: "watch the pod's files",
            source,
        };
        let events = inotify::init(CreateFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
        let watch = Self {
            events: Arc::new(events),
            interests: Interests::default(),
        };
        let (changes, changed) = unbounded_channel();
        let (events, interests) = (watch.events.clone(), watch.interests.clone());
        std::thread::Builder::new()
            .name("files".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || report(&events, &interests, &changes))
            .map_err(failed)?;
        Ok((watch, changed))
    }

    /// Watches the source of `copy` for new versions, once however often it is asked for.
    pub(crate) fn versions_of(&self, copy: Copy) -> Result<(), Error> {
        // Held before the watch exists, so that its first event finds its interest.
        let mut interests = lock(&self.interests);
        let number = self.watch(&copy.source, WatchFlags::MOVED_TO)?;
        match interests
            .entry(number)
            .or_insert_with(|| Interest::Versions(Vec::new()))
        {
            Interest::Versions(copies) if !copies.contains(&copy) => copies.push(copy),
            Interest::Versions(_) | Interest::End(_) => {}
        }
        Ok(())
    }

    /// Watches a pod directory for the end of its machine.
    pub(crate) fn end_of(&self, pod_directory: &Path) -> Result<(), Error> {
        let mut interests = lock(&self.interests);
        let number = self.watch(pod_directory, WatchFlags::MOVED_TO | WatchFlags::DELETE)?;
        interests.insert(number, Interest::End(pod_directory.to_owned()));
        Ok(())
    }

    fn watch(&self, path: &Path, flags: WatchFlags) -> Result<i32, Error> {
        let watched = inotify::add_watch(&*self.events, path, flags);
        watched.map_err(|error| Error::file("watch", path)(error.into()))
    }
}

fn report(events: &OwnedFd, interests: &Interests, changes: &UnboundedSender<Change>) {
    let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
    let mut reader = Reader::new(events, &mut buffer);
    loop {
        let happened = match reader.next() {
            Ok(event) => happened(&event, interests),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => {
                tracing::warn!(%error, "the pod's files are not watched any more");
                return;
            }
        };
        for change in happened {
            if changes.send(change).is_err() {
                return;
            }
        }
    }
}

fn happened(event: &Event<'_>, interests: &Interests) -> Vec<Change> {
    let mut interests = lock(interests);
    if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
        // Events were lost: every copy is compared with its source.
        return interests.values().flat_map(Interest::versions).collect();
    }
    let interest = match event.events().contains(ReadFlags::IGNORED) {
        // The folder is gone; its number may be given to another.
        true => interests.remove(&event.wd()),
        false => interests.get(&event.wd()).cloned(),
    };
    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
    match interest {
        None => Vec::new(),
        Some(interest @ Interest::Versions(_)) if name == Some(OsStr::new(PUBLISHED)) => interest.versions(),
        Some(Interest::Versions(_)) => Vec::new(),
        Some(Interest::End(directory)) => {
            let is_gone = event.events().intersects(ReadFlags::IGNORED | ReadFlags::DELETE)
                && name.is_none_or(|name| name == CONNECTION_FILE);
            if name == Some(OsStr::new(ENDED_FILE)) {
                let reason = fs::read_to_string(directory.join(ENDED_FILE));
                vec![Change::Ended(reason.unwrap_or_else(|_| NO_REASON.to_owned()))]
            } else if is_gone {
                vec![Change::Ended(NO_REASON.to_owned())]
            } else {
                Vec::new()
            }
        }
    }
}

impl Interest {
    fn versions(&self) -> Vec<Change> {
        match self {
            Self::Versions(copies) => copies.iter().cloned().map(Change::Published).collect(),
            Self::End(_) => Vec::new(),
        }
    }
}

fn lock(interests: &Interests) -> MutexGuard<'_, HashMap<i32, Interest>> {
    // A panic elsewhere cannot leave the map half changed.
    interests.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::mounts::Renewal;

    #[tokio::test]
    async fn only_a_publication_is_reported_and_to_every_copy() {
        let volume = tempfile::tempdir().unwrap();
        let (watch, mut changes) = Watch::start().unwrap();
        let copy = |target: &str| Copy {
            source: volume.path().to_owned(),
            target: target.to_owned(),
            renewal: Renewal::WithSource,
        };
        for target in ["one", "one", "other"] {
            watch.versions_of(copy(target)).unwrap();
        }
        fs::write(volume.path().join("noise"), "").unwrap();
        fs::rename(volume.path().join("noise"), volume.path().join("more noise")).unwrap();
        symlink("..2026_2", volume.path().join("..data_tmp")).unwrap();
        fs::rename(volume.path().join("..data_tmp"), volume.path().join("..data")).unwrap();
        assert_eq!(changes.recv().await, Some(Change::Published(copy("one"))));
        assert_eq!(changes.recv().await, Some(Change::Published(copy("other"))));
        assert!(changes.try_recv().is_err());
    }

    #[tokio::test]
    async fn the_end_of_the_machine_is_told_with_its_reason() {
        let directory = tempfile::tempdir().unwrap();
        let (watch, mut changes) = Watch::start().unwrap();
        watch.end_of(directory.path()).unwrap();
        let file = |name: &str| directory.path().join(name);
        // A connection file that is replaced is no end.
        fs::write(file("connect.partial"), "").unwrap();
        fs::rename(file("connect.partial"), file("connect.json")).unwrap();
        fs::write(file("connect.partial"), "").unwrap();
        fs::rename(file("connect.partial"), file("connect.json")).unwrap();
        fs::write(file("ended.partial"), "its memory failed").unwrap();
        fs::rename(file("ended.partial"), file("ended")).unwrap();
        assert_eq!(
            changes.recv().await,
            Some(Change::Ended("its memory failed".to_owned()))
        );
        fs::remove_file(file("connect.json")).unwrap();
        assert_eq!(changes.recv().await, Some(Change::Ended(NO_REASON.to_owned())));
    }
}
