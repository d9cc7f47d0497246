//! The layer's directory, changed only through descriptors that the kernel resolved inside it.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{
    self as sys, AtFlags, Dev, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid,
    XattrFlags,
};

use super::{
    super::{ImageError, limits},
    archive::{Archive, Entry},
    path::{Place, lossy},
};

/// Buffer for file content.
const COPY_BYTES: usize = 64 << 10;

/// The attribute that makes a directory hide what lower layers have in it.
const OPAQUE: &str = "trusted.overlay.opaque";

/// What was at an entry's place before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// A whiteout, now removed: what comes does not merge with lower layers.
    Whiteout,
    /// A directory, kept.
    Directory,
}

/// A layer being unpacked.
pub(super) struct Tree {
    root: OwnedFd,
    /// The directory of the latest entry: archives list a directory's content together.
    latest: Option<(PathBuf, OwnedFd)>,
    /// Times of directories, set at the end because each entry in them changes them.
    times: Vec<(PathBuf, Timespec)>,
    remembered_bytes: usize,
    buffer: Vec<u8>,
}

impl Tree {
    pub(super) fn open(directory: &Path) -> Result<Tree, ImageError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = sys::open(directory, flags, Mode::empty()).map_err(|error| ImageError::Store {
            action: "open",
            path: directory.to_owned(),
            source: error.into(),
        })?;
        let buffer = vec![0; COPY_BYTES];
        Ok(Tree {
            root,
            latest: None,
            times: Vec::new(),
            remembered_bytes: 0,
            buffer,
        })
    }

    pub(super) fn file(
        &mut self,
        place: &Place,
        entry: &Entry,
        archive: &mut Archive<'_, impl Read>,
    ) -> Result<(), ImageError> {
        self.clear(place, false)?;
        let failed = failure("write", place);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = sys::openat(
            self.latest_parent(),
            &*place.name,
            flags,
            Mode::from_raw_mode(0o600),
        );
        let mut file = File::from(file.map_err(&failed)?);
        loop {
            let length = archive
                .read(&mut self.buffer)
                .map_err(|error| archive.failed(error))?;
            if length == 0 {
                break;
            }
            file.write_all(&self.buffer[..length])
                .map_err(|error| entry_error("write", place, error))?;
        }
        set_attributes(file.as_fd(), entry).map_err(failure("set the attributes of", place))?;
        sys::futimens(&file, &times(entry.modified)).map_err(failure("set the time of", place))
    }

    pub(super) fn directory(&mut self, place: &Place, entry: &Entry) -> Result<(), ImageError> {
        let before = self.clear(place, true)?;
        let parent = self.latest_parent();
        if before != Before::Directory {
            sys::mkdirat(parent, &*place.name, Mode::from_raw_mode(0o700))
                .map_err(failure("create", place))?;
        }
        let directory = open_child(parent, &place.name).map_err(failure("open", place))?;
        if before == Before::Whiteout {
            set_opaque(directory.as_fd()).map_err(failure("mark", place))?;
        }
        set_attributes(directory.as_fd(), entry).map_err(failure("set the attributes of", place))?;
        self.remember(place.path(), entry.modified)
    }

    /// The layer's own directory: what the container sees as `/`.
    pub(super) fn root_attributes(&mut self, entry: &Entry) -> Result<(), ImageError> {
        set_attributes(self.root.as_fd(), entry).map_err(|error| ImageError::Entry {
            action: "set the attributes of",
            entry: "/".to_owned(),
            source: error.into(),
        })?;
        self.remember(PathBuf::from("."), entry.modified)
    }

    pub(super) fn symlink(&mut self, place: &Place, entry: &Entry, target: &[u8]) -> Result<(), ImageError> {
        self.clear(place, false)?;
        let target = OsStr::from_bytes(target);
        sys::symlinkat(target, self.latest_parent(), &*place.name).map_err(failure("link", place))?;
        self.node_attributes(place, entry)
    }

    pub(super) fn hard_link(&mut self, place: &Place, target: &Place) -> Result<(), ImageError> {
        if place == target {
            return Ok(());
        }
        let failed = failure("link", place);
        let from = self.resolve(&target.parent, OFlags::PATH).map_err(&failed)?;
        self.clear(place, false)?;
        // Without the flag to follow, a symbolic link at the target is itself linked.
        sys::linkat(
            &from,
            &*target.name,
            self.latest_parent(),
            &*place.name,
            AtFlags::empty(),
        )
        .map_err(failed)
    }

    pub(super) fn node(
        &mut self,
        place: &Place,
        entry: &Entry,
        file_type: FileType,
        device: Dev,
    ) -> Result<(), ImageError> {
        self.clear(place, false)?;
        let mode = Mode::from_raw_mode(0o600);
        sys::mknodat(self.latest_parent(), &*place.name, file_type, mode, device)
            .map_err(failure("create", place))?;
        self.node_attributes(place, entry)?;
        sys::chmodat(
            self.latest_parent(),
            &*place.name,
            Mode::from_raw_mode(entry.mode),
            AtFlags::empty(),
        )
        .map_err(failure("set the mode of", place))
    }

    /// Hides what lower layers have here. What this layer itself put here stays, but merges with nothing.
    pub(super) fn whiteout(&mut self, place: &Place) -> Result<(), ImageError> {
        self.enter(place)?;
        let parent = self.latest_parent();
        match sys::statat(parent, &*place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => {
                sys::mknodat(parent, &*place.name, FileType::CharacterDevice, Mode::empty(), 0)
                    .map_err(failure("white out", place))
            }
            Err(error) => Err(failure("look at", place)(error)),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                let directory = open_child(parent, &place.name).map_err(failure("open", place))?;
                set_opaque(directory.as_fd()).map_err(failure("mark", place))
            }
            Ok(_) => Ok(()),
        }
    }

    /// Hides what lower layers have in the directory.
    pub(super) fn opaque(&mut self, directory: &Path) -> Result<(), ImageError> {
        let place = Place {
            parent: directory.to_owned(),
            name: OsStr::new(".wh..wh..opq").into(),
        };
        self.enter(&place)?;
        let failed = failure("mark", &place);
        let opened = self.resolve(directory, OFlags::RDONLY).map_err(&failed)?;
        set_opaque(opened.as_fd()).map_err(failed)
    }

    /// Sets the directories' times, the last-seen ones first, as a directory may be listed twice.
    pub(super) fn finish(self) -> Result<(), ImageError> {
        for (path, modified) in &self.times {
            // Replaced by something else later in the archive: then its time is set already.
            let Ok(directory) = self.resolve(path, OFlags::RDONLY) else {
                continue;
            };
            sys::futimens(&directory, &times(*modified)).map_err(|error| ImageError::Entry {
                action: "set the time of",
                entry: lossy(path.as_os_str().as_bytes()),
                source: error.into(),
            })?;
        }
        Ok(())
    }

    fn remember(&mut self, path: PathBuf, modified: Timespec) -> Result<(), ImageError> {
        self.remembered_bytes += path.as_os_str().len() + size_of::<(PathBuf, Timespec)>();
        if self.remembered_bytes > limits::REMEMBERED_PATH_BYTES {
            return Err(ImageError::LimitExceeded {
                subject: "the directories of a layer".to_owned(),
                limit: limits::REMEMBERED_PATH_BYTES as u64,
                unit: "bytes of paths",
            });
        }
        self.times.push((path, modified));
        Ok(())
    }

    /// Makes the entry's place free, except that a directory stays for a directory.
    fn clear(&mut self, place: &Place, keep_directory: bool) -> Result<Before, ImageError> {
        self.enter(place)?;
        let parent = self.latest_parent();
        let stat = match sys::statat(parent, &*place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => return Ok(Before::Nothing),
            answer => answer.map_err(failure("look at", place))?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if keep_directory => Ok(Before::Directory),
            FileType::Directory => {
                std::fs::remove_dir_all(through(parent, &place.name))
                    .map_err(|error| entry_error("replace", place, error))?;
                Ok(Before::Nothing)
            }
            kind => {
                sys::unlinkat(parent, &*place.name, AtFlags::empty()).map_err(failure("replace", place))?;
                let whiteout = kind == FileType::CharacterDevice && stat.st_rdev == 0;
                Ok(if whiteout {
                    Before::Whiteout
                } else {
                    Before::Nothing
                })
            }
        }
    }

    /// Makes the place's directory the latest one, creating it if the archive did not.
    fn enter(&mut self, place: &Place) -> Result<(), ImageError> {
        // A descriptor of a directory that was replaced meanwhile would still open: its name count tells.
        let current = self.latest.as_ref().filter(|(path, _)| *path == place.parent);
        if current.is_some_and(|(_, fd)| sys::fstat(fd).is_ok_and(|stat| stat.st_nlink > 0)) {
            return Ok(());
        }
        let failed = failure("create the directory of", place);
        let directory = match self.resolve(&place.parent, OFlags::PATH) {
            Err(rustix::io::Errno::NOENT) => self.create(&place.parent).map_err(failed)?,
            answer => answer.map_err(failed)?,
        };
        self.latest = Some((place.parent.clone(), directory));
        Ok(())
    }

    fn create(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let mut at = PathBuf::new();
        let mut directory = self.resolve(&at, OFlags::PATH)?;
        for part in path {
            match sys::mkdirat(&directory, part, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            at.push(part);
            directory = self.resolve(&at, OFlags::PATH)?;
        }
        Ok(directory)
    }

    fn latest_parent(&self) -> BorrowedFd<'_> {
        self.latest
            .as_ref()
            .map_or(self.root.as_fd(), |(_, directory)| directory.as_fd())
    }

    /// Opens a directory of the layer. The kernel resolves symbolic links in it as the container will, with
    /// the layer's directory as `/`, so that neither `..` nor an absolute target leads out.
    fn resolve(&self, path: &Path, access: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = access | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        sys::openat2(&self.root, path, flags, Mode::empty(), inside)
    }

    /// Attributes of what cannot be opened without effects: links, devices and pipes.
    fn node_attributes(&self, place: &Place, entry: &Entry) -> Result<(), ImageError> {
        let (parent, name) = (self.latest_parent(), &*place.name);
        let (owner, group) = (Uid::from_raw(entry.owner), Gid::from_raw(entry.group));
        sys::chownat(parent, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failure("set the owner of", place))?;
        for (attribute, value) in &entry.attributes {
            let set = sys::lsetxattr(through(parent, name), attribute, value, XattrFlags::empty());
            tolerate(attribute, set).map_err(failure("set an attribute of", place))?;
        }
        sys::utimensat(parent, name, &times(entry.modified), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failure("set the time of", place))
    }
}

/// Owner first: changing it clears capabilities and set-user-id bits.
fn set_attributes(fd: BorrowedFd<'_>, entry: &Entry) -> rustix::io::Result<()> {
    sys::fchown(
        fd,
        Some(Uid::from_raw(entry.owner)),
        Some(Gid::from_raw(entry.group)),
    )?;
    for (attribute, value) in &entry.attributes {
        tolerate(
            attribute,
            sys::fsetxattr(fd, attribute, value, XattrFlags::empty()),
        )?;
    }
    sys::fchmod(fd, Mode::from_raw_mode(entry.mode))
}

/// Users' attributes are dropped where the file system or the kind of file has none.
fn tolerate(attribute: &str, answer: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match answer {
        Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::PERM) if attribute.starts_with("user.") => Ok(()),
        answer => answer,
    }
}

fn set_opaque(directory: BorrowedFd<'_>) -> rustix::io::Result<()> {
    sys::fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())
}

fn open_child(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    sys::openat(parent, name, flags, Mode::empty())
}

/// A path for the few calls that take no descriptor; `name` is one component, so it cannot lead elsewhere.
fn through(parent: BorrowedFd<'_>, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd")
        .join(parent.as_raw_fd().to_string())
        .join(name)
}

fn times(modified: Timespec) -> Timestamps {
    Timestamps {
        last_access: modified,
        last_modification: modified,
    }
}

fn failure(action: &'static str, place: &Place) -> impl Fn(rustix::io::Errno) -> ImageError {
    move |error| entry_error(action, place, error.into())
}

fn entry_error(action: &'static str, place: &Place, source: io::Error) -> ImageError {
    ImageError::Entry {
        action,
        entry: lossy(place.path().as_os_str().as_bytes()),
        source,
    }
}
