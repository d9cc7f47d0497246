//! What adaptors leave on a node: their journal, and what VMs under QEMU were resumed from.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use peerpods_api::names::node_folders;

use super::NodeRoot;

/// How long an adaptor may take to end that is on its way: its pod has half a minute from when its DaemonSet lets it go.
const END_LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Takes all of it away if there is no journal once no adaptor works there. An adaptor that ends with nothing to remember
/// removes its journal before it lets go of its lock; one that stays may stand for VMs, and is not ours to forget.
pub(super) fn remove_left(node: &NodeRoot) {
    let folder = node.at(node_folders::JOURNAL);
    let start = Instant::now();
    while files(&folder).any(is_locked) && start.elapsed() < END_LIMIT {
        sleep(LOOK_INTERVAL);
    }
    if files(&folder).next().is_some() {
        tracing::info!(folder = %folder.display(), "stays: an adaptor remembers something there");
        return;
    }
    if let Err(error) = fs::remove_dir_all(node.at(node_folders::TEMPLATES)) {
        tracing::debug!(%error, "there are no templates to remove");
    }
    node.remove_empty_folders(&[node_folders::SCRATCH, node_folders::JOURNAL].map(Path::new));
}

/// The files that are in a folder itself.
fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    files.map(|entry| entry.path())
}

fn is_locked(file: PathBuf) -> bool {
    let file = File::open(file);
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}
