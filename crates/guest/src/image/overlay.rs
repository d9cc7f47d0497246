//! A container's root file system: the image's layers, and a writable directory on top.

use std::{
    collections::HashSet,
    ffi::CString,
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
    },
    path::Path,
};

use rustix::{
    fs::OFlags,
    mount::{MountFlags, mount},
};

use super::{ImageError, LayerPath, PulledImage};

/// Mounts the image at `target`; changes go to directories made under `scratch`, which must be on a file system
/// that can hold an overlay's upper directory (not another overlay).
///
/// `target` is made if it is missing. On failure nothing is mounted; directories made so far stay.
pub fn mount_rootfs(image: &PulledImage, target: &Path, scratch: &Path) -> Result<(), ImageError> {
    let (upper, work) = (scratch.join("upper"), scratch.join("work"));
    for path in [target, &upper, &work] {
        fs::create_dir_all(path).map_err(|source| store_error("create", path, source))?;
    }
    let layers = topmost_occurrences(&image.layers);
    match layers.first() {
        Some(top) => copy_attributes(top.path(), &upper)?,
        // An overlay needs a lower directory, even for an image of no layers: an empty one.
        None => fs::create_dir_all(scratch.join("empty"))
            .map_err(|source| store_error("create", &scratch.join("empty"), source))?,
    }
    let lower = if layers.is_empty() {
        vec![open(&scratch.join("empty"))?]
    } else {
        layers
            .iter()
            .map(|layer| open(layer.path()))
            .collect::<Result<Vec<_>, _>>()?
    };
    let (upper, work) = (open(&upper)?, open(&work)?);
    mount(
        "overlay",
        target,
        "overlay",
        MountFlags::empty(),
        options(&lower, &upper, &work).as_c_str(),
    )
    .map_err(|error| ImageError::Mount {
        target: target.to_owned(),
        source: error.into(),
    })
}

/// The mount's options. The kernel takes one page of them, and the digests of 128 layers would fill two: so
/// directories are named by descriptors of this process, which also need no escaping. Nothing that a container writes
/// outlives its VM: so nobody waits for it to be written to a disk (`volatile`).
fn options(lower: &[File], upper: &File, work: &File) -> CString {
    let mut options = String::from("lowerdir=");
    for (index, layer) in lower.iter().enumerate() {
        let separator = if index == 0 { "" } else { ":" };
        let _ = write!(options, "{separator}/proc/self/fd/{}", layer.as_raw_fd());
    }
    let (upper, work) = (upper.as_raw_fd(), work.as_raw_fd());
    let _ = write!(
        options,
        ",upperdir=/proc/self/fd/{upper},workdir=/proc/self/fd/{work},volatile"
    );
    CString::new(options).expect("paths made of digits and slashes hold no zero byte")
}

/// The layers highest first, as the kernel wants them, each once: a layer that comes again higher up hides and
/// replaces everything that its lower occurrence did, and the kernel refuses one directory twice.
fn topmost_occurrences(layers: &[LayerPath]) -> Vec<&LayerPath> {
    let mut seen = HashSet::new();
    layers
        .iter()
        .rev()
        .filter(|layer| seen.insert(layer.path()))
        .collect()
}

/// The root directory's owner and mode are those of the highest directory, which is ours.
fn copy_attributes(from: &Path, to: &Path) -> Result<(), ImageError> {
    let attributes = fs::metadata(from).map_err(|source| store_error("read", from, source))?;
    chown(to, Some(attributes.uid()), Some(attributes.gid()))
        .and_then(|()| fs::set_permissions(to, fs::Permissions::from_mode(attributes.mode() & 0o7777)))
        .map_err(|source| store_error("set the owner and mode of", to, source))
}

fn open(path: &Path) -> Result<File, ImageError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(|source| store_error("open", path, source))
}

fn store_error(action: &'static str, path: &Path, source: io::Error) -> ImageError {
    ImageError::Store {
        action,
        path: path.to_owned(),
        source,
    }
}
