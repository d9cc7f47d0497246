//! Builds images from Debian's kernel package and compares them.
//!
//! `PEERPODS_TEST_KERNEL_DEB` names the package, and `PEERPODS_TEST_STUB_DEB` that of systemd's EFI stub; without them
//! these tests say so and pass.
#![allow(clippy::unwrap_used)] // A test stops where its bed fails.

use std::{
    fs,
    path::{Path, PathBuf},
};

use peerpods_image::{
    Architecture, BlockList, BuildRequest, DISK_DATA_LIMIT_BYTES, ImageError, KernelSource, Manifest,
    StubSource, build,
};
use tempfile::TempDir;

fn packages() -> Option<(KernelSource, StubSource)> {
    let package = |name| std::env::var_os(name).map(PathBuf::from);
    let packages = package("PEERPODS_TEST_KERNEL_DEB").zip(package("PEERPODS_TEST_STUB_DEB"));
    if packages.is_none() {
        eprintln!("skipped: PEERPODS_TEST_KERNEL_DEB and PEERPODS_TEST_STUB_DEB name no Debian packages");
    }
    packages.map(|(kernel, stub)| (KernelSource::Package(kernel), StubSource::Package(stub)))
}

fn build_in(
    directory: &Path,
    guest: &[u8],
    kernel: &KernelSource,
    stub: Option<&StubSource>,
) -> Result<Manifest, ImageError> {
    let guest_path = directory.join("guest");
    fs::write(&guest_path, guest).unwrap();
    let request = BuildRequest {
        guest: guest_path,
        kernel: kernel.clone(),
        stub: stub.cloned(),
        output: directory.join("image"),
    };
    build(&request, |line| eprintln!("{line}"))
}

#[test]
fn the_same_inputs_give_the_same_image() {
    let Some((kernel, stub)) = packages() else {
        return;
    };
    let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let manifest = build_in(first.path(), b"a guest", &kernel, Some(&stub)).unwrap();
    build_in(second.path(), b"a guest", &kernel, Some(&stub)).unwrap();

    for name in ["vmlinuz", "initrd.img", "manifest.json"] {
        let read = |directory: &TempDir| fs::read(directory.path().join("image").join(name)).unwrap();
        assert!(read(&first) == read(&second), "{name} differs");
    }
    // Read block by block: most of it is empty.
    let blocks = |directory: &TempDir| BlockList::read(&directory.path().join("image/disk.raw")).unwrap();
    assert_eq!(blocks(&first), blocks(&second));
    let disk = manifest.disk.unwrap();
    assert_eq!(disk.digest, blocks(&first).digest().to_string());
    assert!(disk.data_bytes <= DISK_DATA_LIMIT_BYTES);
    let position = |line: &str| manifest.modules.iter().position(|found| found == line).unwrap();
    assert!(position("qemu virtio_ring.ko") < position("qemu virtio_pci.ko"));
    assert!(position("qemu net_failover.ko") < position("qemu virtio_net.ko"));
    // EC2's network card; its disks' driver is part of the kernel.
    assert!(position("ec2 ena.ko") < position("common vxlan.ko"));
    assert_eq!(manifest.architecture, Architecture::Amd64);
    assert!(position("common udp_tunnel.ko") < position("common vxlan.ko"));
}

#[test]
fn an_image_beyond_the_limit_is_refused_before_anything_is_written() {
    let Some((kernel, _)) = packages() else { return };
    let directory = TempDir::new().unwrap();
    let error = build_in(directory.path(), &vec![0; 60 << 20], &kernel, None).unwrap_err();
    assert!(matches!(error, ImageError::ImageTooLarge { .. }), "{error}");
    assert!(!directory.path().join("image").exists());
}

#[test]
fn a_tree_without_a_kernel_is_refused() {
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("boot")).unwrap();
    let kernel = KernelSource::Tree(directory.path().to_owned());
    let error = build_in(directory.path(), b"a guest", &kernel, None).unwrap_err();
    assert!(matches!(error, ImageError::KernelCount { .. }), "{error}");
}
