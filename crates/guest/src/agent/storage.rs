//! What a container's mounts refer to: an image, memory, a folder.

use std::{
    ffi::CString,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use peerpods_proto::agent::Storage;
use rustix::{
    fs::{Gid, chown},
    io::Errno,
    mount::{MountFlags, mount, mount_bind},
};

use super::Sandbox;
use crate::{
    container::ContainerId,
    error::GuestError,
    image::{ImageReference, mount_rootfs},
    scratch::Space,
};

/// Where storages may be mounted.
const ROOT: &str = "/run/kata-containers/";

/// Makes a storage of the pod itself available at its mount point.
pub(super) async fn provide_to_pod(sandbox: &Sandbox, storage: &Storage) -> Result<(), GuestError> {
    let target = target(storage)?;
    match storage.driver.as_str() {
        "ephemeral" => memory(storage, target),
        "local" => folder(storage, target, sandbox.scratch.space().await?),
        other => Err(unknown(other)),
    }
}

/// Makes a storage of a container available at its mount point.
pub(super) async fn provide(
    sandbox: &Sandbox,
    container: &ContainerId,
    storage: &Storage,
) -> Result<(), GuestError> {
    match storage.driver.as_str() {
        "image_guest_pull" => pull(sandbox, container, &storage.source, target(storage)?).await,
        _ => provide_to_pod(sandbox, storage).await,
    }
}

fn unknown(driver: &str) -> GuestError {
    GuestError::Invalid {
        field: "storages.driver",
        problem: format!("{driver:?} is not known"),
    }
}

/// Where it goes: below the folder of all storages.
fn target(storage: &Storage) -> Result<&Path, GuestError> {
    let target = Path::new(&storage.mount_point);
    let climbs = target
        .components()
        .any(|part| matches!(part, std::path::Component::ParentDir));
    if !target.starts_with(ROOT) || climbs {
        let problem = format!("{} is not below {ROOT}", storage.mount_point);
        return Err(GuestError::Invalid {
            field: "storages.mount_point",
            problem,
        });
    }
    Ok(target)
}

async fn pull(
    sandbox: &Sandbox,
    container: &ContainerId,
    image: &str,
    target: &Path,
) -> Result<(), GuestError> {
    let reference: ImageReference = image.parse()?;
    let access = sandbox.offers.take(container);
    let pulled = sandbox.images().await?.pull(&reference, access.as_deref()).await;
    // Wiped before the container runs.
    drop(access);
    let image = pulled?;
    fs::create_dir_all(target).map_err(GuestError::file("make", target))?;
    let scratch = sandbox.scratch.space().await?.container(container);
    fs::create_dir_all(&scratch).map_err(GuestError::file("make", &scratch))?;
    Ok(mount_rootfs(&image, target, &scratch)?)
}

/// A file system in memory, made once for all containers of the pod.
fn memory(storage: &Storage, target: &Path) -> Result<(), GuestError> {
    if is_mount(target) {
        return Ok(());
    }
    fs::create_dir_all(target).map_err(GuestError::file("make", target))?;
    let mut options: Vec<&str> = Vec::new();
    let mut flags = MountFlags::NODEV;
    for option in &storage.options {
        match option.as_str() {
            "noexec" => flags |= MountFlags::NOEXEC,
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" | "rw" | "rprivate" | "rbind" => {}
            option if option.starts_with("fsgid=") => {}
            option => options.push(option),
        }
    }
    let problem = |_| GuestError::Invalid {
        field: "storages.options",
        problem: "a NUL".to_owned(),
    };
    let options = CString::new(options.join(",")).map_err(problem)?;
    mount("tmpfs", target, "tmpfs", flags, options.as_c_str())
        .map_err(|error| GuestError::file("mount", target)(error.into()))?;
    set_group(storage, target)
}

/// A folder that the containers of the pod share, in the scratch space. A part of a volume that was provided before is
/// there already, within that.
fn folder(storage: &Storage, target: &Path, space: Space) -> Result<(), GuestError> {
    let name = target
        .strip_prefix(ROOT)
        .expect("`target` checked that it is below");
    let place = space.volume(name);
    if !place.exists() {
        fs::create_dir_all(&place).map_err(GuestError::file("make", &place))?;
        if let Some(bytes) = size(storage)? {
            // One that could not be limited must not be found by the next try.
            space
                .limit(&place, bytes)
                .inspect_err(|_| drop(fs::remove_dir(&place)))?;
        }
        let mode = option(storage, "mode=")
            .and_then(|octal| u32::from_str_radix(octal, 8).ok())
            .unwrap_or(0o777);
        fs::set_permissions(&place, fs::Permissions::from_mode(mode & 0o7777))
            .map_err(GuestError::file("set the mode of", &place))?;
        set_group(storage, &place)?;
    }
    fs::create_dir_all(target).map_err(GuestError::file("make", target))?;
    if is_same(&place, target).map_err(GuestError::file("look at", target))? {
        return Ok(());
    }
    mount_bind(&place, target).map_err(|error| GuestError::file("mount", target)(error.into()))
}

/// How many bytes a folder may take, where that is said.
fn size(storage: &Storage) -> Result<Option<u64>, GuestError> {
    let invalid = |text: &str| GuestError::Invalid {
        field: "storages.options",
        problem: format!("size={text} is no number of bytes"),
    };
    option(storage, "size=")
        .map(|text| text.parse().map_err(|_| invalid(text)))
        .transpose()
}

/// What follows `key` in the first option that begins with it.
fn option<'a>(storage: &'a Storage, key: &str) -> Option<&'a str> {
    let mut options = storage.options.iter();
    options.find_map(|option| option.strip_prefix(key))
}

fn is_same(left: &Path, right: &Path) -> io::Result<bool> {
    let (left, right) = (fs::metadata(left)?, fs::metadata(right)?);
    Ok((left.dev(), left.ino()) == (right.dev(), right.ino()))
}

fn set_group(storage: &Storage, target: &Path) -> Result<(), GuestError> {
    let group = storage
        .fs_group
        .as_ref()
        .map(|group| group.group_id)
        .or_else(|| option(storage, "fsgid=")?.parse().ok());
    match group {
        None => Ok(()),
        Some(group) => chown(target, None, Some(Gid::from_raw(group)))
            .map_err(|error: Errno| GuestError::file("set the group of", target)(error.into())),
    }
}

fn is_mount(path: &Path) -> bool {
    let device = |path: &Path| rustix::fs::stat(path).map(|status| status.st_dev);
    match (device(path), path.parent().map(device)) {
        (Ok(own), Some(Ok(parent))) => own != parent,
        _ => false,
    }
}
