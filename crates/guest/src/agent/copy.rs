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
            // A link is replaced at once: whoever reads sees the old one or the new one.
            let partial = partial(name);
            let _ = unlinkat(parent, partial.as_os_str(), AtFlags::empty());
            symlinkat(OsStr::from_bytes(&request.data), parent, partial.as_os_str())?;
            chownat(
                parent,
                partial.as_os_str(),
                owner.0,
                owner.1,
                AtFlags::SYMLINK_NOFOLLOW,
            )?;
            renameat(parent, partial.as_os_str(), parent, name)?;
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
