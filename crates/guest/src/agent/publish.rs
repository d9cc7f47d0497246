//! A new version of a kubelet's volume takes the place of the old one.
//!
//! The kubelet's volumes hold each version in a folder `..<time>`, a link `..data` to the present one, and for every
//! file a link `<name> -> ..data/<name>` (its "atomic writer"). Whoever replaces `..data` also removes what only the old
//! version had; the protocol has no request for that, so it follows from the new link.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, readlinkat, unlinkat},
    io::Errno,
};

/// The link by which a version is published.
pub(super) const PUBLISHED: &str = "..data";
/// What the names of versions begin with.
const VERSION_PREFIX: &[u8] = b"..";

/// Where a link points, if it is one.
pub(super) fn target_of(parent: &OwnedFd, name: &OsStr) -> Option<OsString> {
    let target = readlinkat(parent, name, Vec::new()).ok()?;
    Some(OsStr::from_bytes(target.as_bytes()).to_owned())
}

/// Removes what the version `old` had and the one that is published now has not.
pub(super) fn remove_outdated(parent: &OwnedFd, old: Option<&OsStr>) -> io::Result<()> {
    // A path through the descriptor: the folder itself cannot be exchanged meanwhile.
    let folder = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd()));
    for entry in fs::read_dir(&folder)? {
        let name = entry?.file_name();
        let expected = Path::new(PUBLISHED).join(&name);
        let is_ours = target_of(parent, &name).is_some_and(|target| Path::new(&target) == expected);
        if is_ours && !folder.join(&name).exists() {
            unless_absent(unlinkat(parent, name.as_os_str(), AtFlags::empty()))?;
        }
    }
    match old.filter(|old| is_version(old)) {
        Some(old) => match fs::remove_dir_all(folder.join(old)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        },
        None => Ok(()),
    }
}

/// Whether it is the name of a version's folder, in this folder.
fn is_version(name: &OsStr) -> bool {
    let mut parts = Path::new(name).components();
    matches!(parts.next(), Some(Component::Normal(_)))
        && parts.next().is_none()
        && name.as_bytes().starts_with(VERSION_PREFIX)
        && name != PUBLISHED
}

fn unless_absent(removed: Result<(), Errno>) -> io::Result<()> {
    match removed {
        Err(Errno::NOENT) => Ok(()),
        removed => Ok(removed?),
    }
}
