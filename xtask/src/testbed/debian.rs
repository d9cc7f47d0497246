//! Debian packages of which the test bed takes single files: downloaded and unpacked, not installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::lock;
use crate::{
    process::{command, output, run},
    tools,
};

/// The registry's package.
const REGISTRY: &str = "docker-registry";
/// The package with UEFI firmware for QEMU.
const FIRMWARE: &str = "ovmf";
/// The package with systemd's EFI stub.
const STUB: &str = "systemd-boot-efi";
/// The package that always depends on the newest kernel for clouds.
const KERNEL: &str = "linux-image-cloud-amd64";

/// The package with Prometheus' tool.
const PROMETHEUS: &str = "prometheus";

/// The program `promtool`.
pub(crate) fn promtool() -> Result<PathBuf> {
    Ok(unpacked(PROMETHEUS)?.join("usr/bin/promtool"))
}

/// The program `docker-registry`.
pub(super) fn registry() -> Result<PathBuf> {
    Ok(unpacked(REGISTRY)?.join("usr/bin/docker-registry"))
}

/// The folder with the UEFI firmware for QEMU: `OVMF_CODE_4M.fd`, `OVMF_VARS_4M.fd` and more.
pub(super) fn firmware() -> Result<PathBuf> {
    Ok(unpacked(FIRMWARE)?.join("usr/share/OVMF"))
}

/// The package with systemd's EFI stub.
pub(super) fn stub() -> Result<PathBuf> {
    let folder = folder()?;
    let _lock = lock::take(&folder.join("lock"))?;
    download(&folder, STUB)
}

/// The folder with a package's files.
fn unpacked(name: &str) -> Result<PathBuf> {
    let folder = folder()?;
    let finished = folder.join(name);
    if finished.exists() {
        return Ok(finished);
    }
    let _lock = lock::take(&folder.join("lock"))?;
    let package = download(&folder, name)?;
    let unfinished = folder.join(format!("{name}.unfinished"));
    println!("unpacking {}", package.display());
    run(Command::new("dpkg-deb")
        .arg("--extract")
        .arg(&package)
        .arg(&unfinished))?;
    if !finished.exists() {
        fs::rename(&unfinished, &finished).with_context(|| format!("cannot make {}", finished.display()))?;
    }
    Ok(finished)
}

/// The package with the kernel of the VM image.
pub(super) fn kernel() -> Result<PathBuf> {
    let folder = folder()?;
    let is_kernel = |name: &str| {
        name.starts_with("linux-image-") && name.contains("-cloud-amd64_") && !name.starts_with(KERNEL)
    };
    if let Some(package) = newest(&folder, is_kernel)? {
        return Ok(package);
    }
    let _lock = lock::take(&folder.join("lock"))?;
    let listed = dependencies().or_else(|_| {
        refresh()?;
        dependencies()
    })?;
    let name = listed
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .with_context(|| format!("the package {KERNEL} names no kernel:\n{listed}"))?;
    download(&folder, name)
}

fn folder() -> Result<PathBuf> {
    let folder = tools::cache()?.join("debian");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

fn dependencies() -> Result<String> {
    let listed = output(&mut command("apt-cache", &["depends", KERNEL]))?;
    ensure!(!listed.is_empty(), "the package lists do not know {KERNEL}");
    Ok(listed)
}

fn refresh() -> Result<()> {
    run(&mut command("apt-get", &["update", "-qq"]))
}

/// Downloads a package into `folder`, unless it is there.
fn download(folder: &Path, name: &str) -> Result<PathBuf> {
    let is_package = |file: &str| file.strip_prefix(name).is_some_and(|rest| rest.starts_with('_'));
    if let Some(package) = newest(folder, is_package)? {
        return Ok(package);
    }
    println!("downloading {name}");
    // Root's own folders are closed to the user that apt would otherwise download as.
    let apt = || {
        let mut apt = Command::new("apt-get");
        run(apt
            .current_dir(folder)
            .args(["download", "-qq", "-o", "APT::Sandbox::User=root", name]))
    };
    apt().or_else(|_| refresh().and_then(|()| apt()))?;
    newest(folder, is_package)?.with_context(|| format!("apt-get left no package {name}"))
}

/// The last by name of the packages that fit.
fn newest(folder: &Path, fits: impl Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let found = names.filter(|name| name.ends_with(".deb") && fits(name)).max();
    Ok(found.map(|name| folder.join(name)))
}
