//! What tells one state of a source from another.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::published_link;
use crate::error::Error;

/// A state of a source, as far as it can be told without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Version {
    /// A file, by what changes whenever it is written or replaced.
    File {
        device: u64,
        inode: u64,
        size: u64,
        modified: (i64, i64),
    },
    /// A volume whose versions are published by a link: its target.
    Published(PathBuf),
    /// A folder like any other: it is copied once.
    Folder,
}

impl Version {
    pub(super) fn of(source: &Path) -> Result<Self, Error> {
        let metadata = fs::metadata(source).map_err(Error::file("inspect", source))?;
        if !metadata.is_dir() {
            return Ok(Self::File {
                device: metadata.dev(),
                inode: metadata.ino(),
                size: metadata.size(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
            });
        }
        let link = published_link(source);
        match fs::read_link(&link) {
            Ok(target) => Ok(Self::Published(target)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::InvalidInput
                ) =>
            {
                Ok(Self::Folder)
            }
            Err(error) => Err(Error::file("read the link", link)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_new_link_is_a_new_version() {
        let volume = tempfile::tempdir().unwrap();
        assert_eq!(Version::of(volume.path()).unwrap(), Version::Folder);
        symlink("..2026_1", volume.path().join("..data")).unwrap();
        let first = Version::of(volume.path()).unwrap();
        symlink("..2026_2", volume.path().join("..new")).unwrap();
        fs::rename(volume.path().join("..new"), volume.path().join("..data")).unwrap();
        assert_ne!(first, Version::of(volume.path()).unwrap());
    }

    #[test]
    fn a_replaced_file_is_a_new_version() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("file"), folder.path().join("other"));
        fs::write(&file, "a").unwrap();
        let first = Version::of(&file).unwrap();
        assert_eq!(first, Version::of(&file).unwrap());
        fs::write(&other, "b").unwrap();
        fs::rename(&other, &file).unwrap();
        assert_ne!(first, Version::of(&file).unwrap());
    }
}
