//! Files that the worker sends, kept under one folder whatever their path says.

use std::{
    ffi::OsStr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::FileExt},
    },
    path::{Component, Path},
};

use peerpods_proto::agent::CopyFileRequest;
use rustix::{
    fs::{
        AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chownat, fchmod, fchown, mkdirat, openat, renameat,
        symlinkat, unlinkat,
    },
    io::Errno,
};

use super::publish::{PUBLISHED, remove_outdated, target_of};
use crate::error::GuestError;

/// The only folder that files are put into.
const SHARED: &str = "/run/kata-containers/shared/containers";
/// The largest file: what is larger is data and needs a volume.
const SIZE_LIMIT: i64 = 1 << 30;

/// Writes one file's piece, a folder or a link.
pub(super) fn copy(request: &CopyFileRequest) -> Result<(), GuestError> {
    let invalid = |problem: String| GuestError::Invalid {
        field: "CopyFile.path",
        problem,
    };
    let relative = Path::new(&request.path).strip_prefix(SHARED);
    let relative = relative.map_err(|_| invalid(format!("{} is not below {SHARED}", request.path)))?;
    let mut names = Vec::new();
    for component in relative.components() {
        match component {
            Component::Normal(name) => names.push(name),
            _ => return Err(invalid(format!("{} leaves {SHARED}", request.path))),
        }
    }
    let name = names
        .pop()
        .ok_or_else(|| invalid("it names no file".to_owned()))?;
    let failed = |error: Errno| GuestError::file("write", &request.path)(error.into());
    let parent = open_parent(&names, mode(request.dir_mode | 0o700)).map_err(failed)?;
    put(&parent, name, request).map_err(|error| GuestError::file("write", &request.path)(error))
}

/// Opens the folder, making what is missing; a link on the way is an error.
fn open_parent(names: &[&OsStr], mode: Mode) -> Result<OwnedFd, Errno> {
    const FLAGS: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
    let mut folder = openat(CWD, SHARED, FLAGS, Mode::empty())?;
    for name in names {
        match mkdirat(&folder, *name, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        folder = openat(&folder, *name, FLAGS, Mode::empty())?;
    }
    Ok(folder)
}

fn put(parent: &OwnedFd, name: &OsStr, request: &CopyFileRequest) -> std::io::Result<()> {
    let owner = (
        Some(Uid::from_raw(request.uid.cast_unsigned())),
        Some(Gid::from_raw(request.gid.cast_unsigned())),
    );
    match FileType::from_raw_mode(request.file_mode) {
        FileType::Directory => {
            match mkdirat(parent, name, mode(request.file_mode)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let folder = openat(
                parent,
                name,
                OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            fchown(&folder, owner.0, owner.1)?;
            fchmod(&folder, mode(request.file_mode))?;
        }
        FileType::Symlink => {
            let (target, before) = (OsStr::from_bytes(&request.data), target_of(parent, name));
            if before.as_deref() == Some(target) {
                // Whoever watches the folder is not told of what did not change.
                return Ok(());
            }
            // A link is replaced at once: whoever reads sees the old one or the new one.
            let partial = partial(name);
            let _ = unlinkat(parent, partial.as_os_str(), AtFlags::empty());
            symlinkat(target, parent, partial.as_os_str())?;
            chownat(
                parent,
                partial.as_os_str(),
                owner.0,
                owner.1,
                AtFlags::SYMLINK_NOFOLLOW,
            )?;
            renameat(parent, partial.as_os_str(), parent, name)?;
            if name == PUBLISHED {
                remove_outdated(parent, before.as_deref())?;
            }
        }
        _ => put_file(parent, name, request, owner)?,
    }
    Ok(())
}

fn put_file(
    parent: &OwnedFd,
    name: &OsStr,
    request: &CopyFileRequest,
    owner: (Option<Uid>, Option<Gid>),
) -> std::io::Result<()> {
    let invalid = || {
        std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            "the file's size or offset is impossible",
        )
    };
    let end = request
        .offset
        .checked_add(i64::try_from(request.data.len()).map_err(|_| invalid())?);
    let end = end
        .filter(|end| (0..=SIZE_LIMIT).contains(end) && *end <= request.file_size)
        .ok_or_else(invalid)?;
    let offset = u64::try_from(request.offset).map_err(|_| invalid())?;
    let partial = partial(name);
    if offset == 0 {
        let _ = unlinkat(parent, partial.as_os_str(), AtFlags::empty());
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(
        parent.as_fd(),
        partial.as_os_str(),
        flags,
        Mode::RUSR | Mode::WUSR,
    )?;
    let file = std::fs::File::from(file);
    file.write_all_at(&request.data, offset)?;
    if end == request.file_size {
        fchown(&file, owner.0, owner.1)?;
        fchmod(&file, mode(request.file_mode))?;
        renameat(parent, partial.as_os_str(), parent, name)?;
    }
    Ok(())
}

/// Where a file is until it is whole.
fn partial(name: &OsStr) -> std::ffi::OsString {
    let mut partial = std::ffi::OsString::from(".partial-");
    partial.push(name);
    partial
}

/// The permission bits; a Go runtime sends bits of its own above them.
fn mode(bits: u32) -> Mode {
    Mode::from_raw_mode(bits & 0o7777)
}

/// Makes the folder.
pub(super) fn prepare() -> Result<(), GuestError> {
    std::fs::create_dir_all(SHARED).map_err(GuestError::file("make", SHARED))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Sends one entry as a worker does: a folder, a link to `content`, or a file that holds it.
    fn send(folder: &Path, path: &str, kind: FileType, content: &str) {
        let path = Path::new(path);
        let mut parent = OwnedFd::from(fs::File::open(folder).unwrap());
        for name in path.parent().unwrap().iter() {
            parent = openat(&parent, name, OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        let request = CopyFileRequest {
            file_mode: kind.as_raw_mode() | 0o644,
            file_size: content.len().try_into().unwrap(),
            data: content.into(),
            ..Default::default()
        };
        put(&parent, path.file_name().unwrap(), &request).unwrap();
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_version_takes_the_place_of_the_old_with_all_that_only_that_had() {
        let folder = tempfile::tempdir().unwrap();
        let send = |path: &str, kind, content: &str| send(folder.path(), path, kind, content);
        send("..2026_1", FileType::Directory, "");
        send("..2026_1/color", FileType::RegularFile, "red");
        send("..2026_1/shape", FileType::RegularFile, "round");
        send("..data", FileType::Symlink, "..2026_1");
        send("color", FileType::Symlink, "..data/color");
        send("shape", FileType::Symlink, "..data/shape");
        send("elsewhere", FileType::Symlink, "nowhere");
        send("..2026_2", FileType::Directory, "");
        send("..2026_2/color", FileType::RegularFile, "blue");
        send("..data", FileType::Symlink, "..2026_2");
        assert_eq!(names(folder.path()), ["..2026_2", "..data", "color", "elsewhere"]);
        assert_eq!(fs::read_to_string(folder.path().join("color")).unwrap(), "blue");
    }

    #[test]
    fn a_hostile_old_link_removes_nothing_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("volume");
        fs::create_dir_all(folder.path().join("kept")).unwrap();
        for old in ["../kept", "..", ".", "/", "..2026_2/../../kept"] {
            fs::create_dir_all(&volume).unwrap();
            send(&volume, "..data", FileType::Symlink, old);
            fs::create_dir(volume.join("..2026_2")).unwrap();
            send(&volume, "..data", FileType::Symlink, "..2026_2");
            assert_eq!(names(folder.path()), ["kept", "volume"], "{old}");
            assert_eq!(names(&volume), ["..2026_2", "..data"], "{old}");
            fs::remove_dir_all(&volume).unwrap();
        }
    }
}
