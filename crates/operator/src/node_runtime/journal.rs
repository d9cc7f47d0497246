//! What adaptors leave on a node: the folder of their journal.

use std::{
    fs::{self, File, TryLockError},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use super::NodeRoot;
use crate::names::ADAPTOR_JOURNAL;

/// How long an adaptor may take to end that is on its way: its pod has half a minute from when its DaemonSet lets it go.
const END_LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Takes the folder away if nothing is in it once no adaptor works there. An adaptor that ends with nothing to remember empties
/// it before it lets go of its lock; whatever stays may stand for VMs, and is not ours to forget.
pub(super) fn remove_empty(node: &NodeRoot) {
    let folder = node.at(ADAPTOR_JOURNAL);
    let start = Instant::now();
    while is_used(&folder) && start.elapsed() < END_LIMIT {
        sleep(LOOK_INTERVAL);
    }
    node.remove_empty_folders(&[Path::new(ADAPTOR_JOURNAL)]);
}

/// Whether a process has a file there locked.
fn is_used(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    files.any(|entry| {
        let file = File::open(entry.path());
        file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    })
}
