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
/// The package with libseccomp as a static library.
const SECCOMP: &str = "libseccomp-dev";
/// The package with Prometheus' tool.
const PROMETHEUS: &str = "prometheus";

/// For which processors packages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Architecture {
    /// This machine's.
    Amd64,
    /// Graviton's.
    Arm64,
}

impl Architecture {
    /// Debian's name for it.
    fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Where its packages are kept: many have the same name for all.
    fn folder(self) -> Result<PathBuf> {
        let name = match self {
            Self::Amd64 => "debian",
            Self::Arm64 => "debian-arm64",
        };
        let folder = tools::cache()?.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// apt, which for these processors needs no leave of the machine's.
    fn apt(self, program: &str, arguments: &[&str]) -> Command {
        let mut apt = command(program, &["-o", "APT::Architectures::=amd64"]);
        if self == Self::Arm64 {
            apt.args(["-o", "APT::Architectures::=arm64"]);
        }
        apt.args(arguments);
        apt
    }

    /// The name of a package, for apt.
    fn package(self, name: &str) -> String {
        format!("{name}:{}", self.name())
    }

    /// The package that always depends on the newest kernel for clouds.
    fn kernel(self) -> String {
        format!("linux-image-cloud-{}", self.name())
    }
}

/// The program `promtool`.
pub(crate) fn promtool() -> Result<PathBuf> {
    Ok(unpacked(Architecture::Amd64, PROMETHEUS)?.join("usr/bin/promtool"))
}

/// The program `docker-registry`.
pub(super) fn registry() -> Result<PathBuf> {
    Ok(unpacked(Architecture::Amd64, REGISTRY)?.join("usr/bin/docker-registry"))
}

/// The folder with the UEFI firmware for QEMU: `OVMF_CODE_4M.fd`, `OVMF_VARS_4M.fd` and more.
pub(crate) fn firmware() -> Result<PathBuf> {
    Ok(unpacked(Architecture::Amd64, FIRMWARE)?.join("usr/share/OVMF"))
}

/// The folder with the static library libseccomp for ARM.
pub(super) fn seccomp_for_arm() -> Result<PathBuf> {
    Ok(unpacked(Architecture::Arm64, SECCOMP)?.join("usr/lib/aarch64-linux-gnu"))
}

/// The package with systemd's EFI stub.
pub(super) fn stub(architecture: Architecture) -> Result<PathBuf> {
    let folder = architecture.folder()?;
    let _lock = lock::take(&folder.join("lock"))?;
    download(architecture, &folder, STUB)
}

/// The folder with a package's files.
fn unpacked(architecture: Architecture, name: &str) -> Result<PathBuf> {
    let folder = architecture.folder()?;
    let finished = folder.join(name);
    if finished.exists() {
        return Ok(finished);
    }
    let _lock = lock::take(&folder.join("lock"))?;
    let package = download(architecture, &folder, name)?;
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
pub(super) fn kernel(architecture: Architecture) -> Result<PathBuf> {
    let folder = architecture.folder()?;
    let newest_kernel = architecture.kernel();
    let flavour = format!("-cloud-{}_", architecture.name());
    let is_kernel = |name: &str| {
        name.starts_with("linux-image-") && name.contains(&flavour) && !name.starts_with(&newest_kernel)
    };
    if let Some(package) = newest(&folder, is_kernel)? {
        return Ok(package);
    }
    let _lock = lock::take(&folder.join("lock"))?;
    let listed = dependencies(architecture).or_else(|_| {
        refresh(architecture)?;
        dependencies(architecture)
    })?;
    let name = listed
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .with_context(|| format!("the package {newest_kernel} names no kernel:\n{listed}"))?;
    // Of other processors than the machine's it comes with their name.
    let name = name.split(':').next().unwrap_or(name);
    download(architecture, &folder, name)
}

fn dependencies(architecture: Architecture) -> Result<String> {
    let kernel = architecture.package(&architecture.kernel());
    let listed = output(&mut architecture.apt("apt-cache", &["depends", &kernel]))?;
    ensure!(!listed.is_empty(), "the package lists do not know {kernel}");
    Ok(listed)
}

fn refresh(architecture: Architecture) -> Result<()> {
    run(&mut architecture.apt("apt-get", &["update", "-qq"]))
}

/// Downloads a package into `folder`, unless it is there.
fn download(architecture: Architecture, folder: &Path, name: &str) -> Result<PathBuf> {
    let is_package = |file: &str| file.strip_prefix(name).is_some_and(|rest| rest.starts_with('_'));
    if let Some(package) = newest(folder, is_package)? {
        return Ok(package);
    }
    println!("downloading {name}");
    // Root's own folders are closed to the user that apt would otherwise download as.
    let package = architecture.package(name);
    let apt = || {
        let arguments = ["download", "-qq", "-o", "APT::Sandbox::User=root", &package];
        run(architecture.apt("apt-get", &arguments).current_dir(folder))
    };
    apt().or_else(|_| refresh(architecture).and_then(|()| apt()))?;
    newest(folder, is_package)?.with_context(|| format!("apt-get left no package {name}"))
}

/// The last by name of the packages that fit.
fn newest(folder: &Path, fits: impl Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let found = names.filter(|name| name.ends_with(".deb") && fits(name)).max();
    Ok(found.map(|name| folder.join(name)))
}
