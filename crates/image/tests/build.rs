//! Builds images from Debian's kernel package and compares them.
//!
//! `PEERPODS_TEST_KERNEL_DEB` names the package; without it these tests say so and pass.
#![allow(clippy::unwrap_used)] // A test stops where its bed fails.

use std::{fs, path::Path};

use peerpods_image::{BuildRequest, ImageError, KernelSource, Manifest, build};
use tempfile::TempDir;

fn kernel_package() -> Option<KernelSource> {
    let package = std::env::var_os("PEERPODS_TEST_KERNEL_DEB");
    if package.is_none() {
        eprintln!("skipped: PEERPODS_TEST_KERNEL_DEB names no linux-image package");
    }
    package.map(|path| KernelSource::Package(path.into()))
}

fn build_in(directory: &Path, guest: &[u8], kernel: &KernelSource) -> Result<Manifest, ImageError> {
    let guest_path = directory.join("guest");
    fs::write(&guest_path, guest).unwrap();
    let request = BuildRequest {
        guest: guest_path,
        kernel: kernel.clone(),
        output: directory.join("image"),
    };
    build(&request, |line| eprintln!("{line}"))
}

#[test]
fn the_same_inputs_give_the_same_image() {
    let Some(kernel) = kernel_package() else { return };
    let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let manifest = build_in(first.path(), b"a guest", &kernel).unwrap();
    build_in(second.path(), b"a guest", &kernel).unwrap();

    for name in ["vmlinuz", "initrd.img", "manifest.json"] {
        let read = |directory: &TempDir| fs::read(directory.path().join("image").join(name)).unwrap();
        assert!(read(&first) == read(&second), "{name} differs");
    }
    let position = |line: &str| manifest.modules.iter().position(|found| found == line).unwrap();
    assert!(position("qemu virtio_ring.ko") < position("qemu virtio_pci.ko"));
    assert!(position("qemu net_failover.ko") < position("qemu virtio_net.ko"));
    assert!(position("common udp_tunnel.ko") < position("common vxlan.ko"));
}

#[test]
fn an_image_beyond_the_limit_is_refused_before_anything_is_written() {
    let Some(kernel) = kernel_package() else { return };
    let directory = TempDir::new().unwrap();
    let error = build_in(directory.path(), &vec![0; 60 << 20], &kernel).unwrap_err();
    assert!(matches!(error, ImageError::ImageTooLarge { .. }), "{error}");
    assert!(!directory.path().join("image").exists());
}

#[test]
fn a_tree_without_a_kernel_is_refused() {
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("boot")).unwrap();
    let kernel = KernelSource::Tree(directory.path().to_owned());
    let error = build_in(directory.path(), b"a guest", &kernel).unwrap_err();
    assert!(matches!(error, ImageError::KernelCount { .. }), "{error}");
}
