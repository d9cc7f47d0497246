//! What the test bed is made of: built or fetched before it starts, and kept for the next time.

use std::{
    env::consts::ARCH,
    fs,
    io::{self, IsTerminal},
    panic::resume_unwind,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;

use super::{
    debian::{self, Architecture},
    images, layout, lock, programs,
};
use crate::{
    images::Image,
    process::{cargo, command, root, run},
    stamp,
};

/// Our own programs, and the cargo packages that they are of.
const OURS: [(&str, &str); 7] = [
    ("peerpods-guest", "peerpods-guest"),
    ("peerpods-shim", "containerd-shim-kata-v2"),
    ("peerpods-adaptor", "cloud-api-adaptor"),
    ("peerpods-cli", "peerpodctl"),
    ("peerpods-provider-namespaces", "peerpods-namespaces-launcher"),
    ("peerpods-operator", "peerpods-operator"),
    ("peerpods-webhook", "peerpods-webhook"),
];

/// Programs that no cluster has.
const OF_THE_BED: [(&str, &str); 1] = [("peerpods-testkit", "ec2-emulator")];

/// How our own programs are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Profile {
    /// In seconds, for development.
    Testbed,
    /// In minutes, as they are shipped.
    Release,
}

impl Profile {
    /// Cargo's name for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Testbed => "testbed",
            Self::Release => "release",
        }
    }

    /// Where its programs are.
    pub(crate) fn folder(self) -> PathBuf {
        root().join(format!("target/{ARCH}-unknown-linux-gnu/{}", self.name()))
    }
}

/// Everything that the test bed needs, on disk.
pub(crate) struct Artifacts {
    /// The VM image's kernel.
    pub(crate) kernel: PathBuf,
    /// The VM image's initrd.
    pub(crate) initrd: PathBuf,
    /// The VM image's disk, as EC2 boots it.
    pub(crate) disk: PathBuf,
    /// The folder with the UEFI firmware that boots it in QEMU.
    pub(crate) firmware: PathBuf,
    /// The images of our own programs.
    pub(crate) product: Vec<Image>,
    /// The program `docker-registry`.
    pub(crate) registry: PathBuf,
    /// The Debian package that the kernel is of.
    pub(crate) kernel_deb: PathBuf,
    /// The Debian package that the disk's EFI stub is of.
    pub(crate) stub_deb: PathBuf,
    /// The folder with Kubernetes, etcd, containerd and CoreDNS.
    pub(crate) programs: PathBuf,
    /// The folder with our own programs.
    pub(crate) ours: PathBuf,
    /// The archive of the pause image.
    pub(crate) pause: PathBuf,
    /// The archive of the busybox image.
    pub(crate) busybox: PathBuf,
    /// The archive of the image for tests.
    pub(crate) probe: PathBuf,
}

/// What the project consists of, on disk.
pub(crate) struct Product {
    /// The folder with our own programs.
    pub(crate) programs: PathBuf,
    /// The VM image's kernel.
    pub(crate) kernel: PathBuf,
    /// The VM image's initrd.
    pub(crate) initrd: PathBuf,
    /// The VM image's disk, as a container image holds it.
    pub(crate) packed_disk: PathBuf,
    /// What the VM image was made of.
    pub(crate) manifest: PathBuf,
    /// The Debian package that the kernel is of.
    pub(crate) kernel_deb: PathBuf,
    /// The Debian package that the disk's boot stub is of.
    pub(crate) stub_deb: PathBuf,
}

/// Builds our programs, and the VM image into the folder `image`; only what changed.
pub(crate) fn product(profile: Profile, image: &Path) -> Result<Product> {
    make_product(profile, image, &OURS)
}

fn make_product(profile: Profile, image: &Path, packages: &[(&str, &str)]) -> Result<Product> {
    let (kernel_deb, stub_deb) = (
        debian::kernel(Architecture::Amd64)?,
        debian::stub(Architecture::Amd64)?,
    );
    let programs = build(profile, packages)?;
    let _lock = lock::take(&layout::folder().join("artifacts.lock"))?;
    let (guest, builder) = (programs.join("peerpods-guest"), programs.join("peerpodctl"));
    build_vm_image(&builder, &guest, &kernel_deb, &stub_deb, image)?;
    Ok(Product {
        programs,
        kernel: image.join("vmlinuz"),
        initrd: image.join("initrd.img"),
        packed_disk: image.join("disk.raw.gz"),
        manifest: image.join("manifest.json"),
        kernel_deb,
        stub_deb,
    })
}

/// Builds and fetches what is not there yet or has changed.
pub(crate) fn prepare(profile: Profile) -> Result<Artifacts> {
    let registry = debian::registry()?;
    // In one call: apart, what both use would be built twice.
    let packages = [&OURS[..], &OF_THE_BED].concat();
    let (programs, product) = thread::scope(|scope| {
        // Both have long parts that use one processor: together they take less than one after the other.
        let programs = scope.spawn(programs::prepare);
        let product = make_product(profile, &layout::image(), &packages);
        let programs = programs.join().unwrap_or_else(|panic| resume_unwind(panic));
        anyhow::Ok((programs?, product?))
    })?;
    let firmware = debian::firmware()?;
    let _lock = lock::take(&layout::folder().join("artifacts.lock"))?;
    let images = images::prepare()?;
    let packed = crate::images::write(&product, &layout::folder().join("images"))?;
    Ok(Artifacts {
        product: packed,
        kernel: product.kernel,
        initrd: product.initrd,
        disk: layout::image().join("disk.raw"),
        firmware,
        registry,
        kernel_deb: product.kernel_deb,
        stub_deb: product.stub_deb,
        programs,
        ours: product.programs,
        pause: images.pause,
        busybox: images.busybox,
        probe: images.probe,
    })
}

fn build(profile: Profile, packages: &[(&str, &str)]) -> Result<PathBuf> {
    let mut build = cargo(&["build", "--profile", profile.name()]);
    // On a terminal cargo draws a bar; elsewhere it would print a line for each of some hundred crates.
    if !io::stderr().is_terminal() {
        build.arg("--quiet");
    }
    eprintln!("Building our programs: about 8 minutes the first time on 2 cores, then only what changed.");
    build.args(packages.iter().flat_map(|(package, _)| ["--package", package]));
    run(&mut build)?;
    let folder = profile.folder();
    for (package, program) in packages {
        let path = folder.join(program);
        fs::metadata(&path)
            .with_context(|| format!("{package} was built, but {} is not there", path.display()))?;
    }
    Ok(folder)
}

/// Builds the VM image for ARM, and gives its disk. The machine has a compiler for ARM: `testbed/packages arm64`.
pub(crate) fn disk_for_arm(profile: Profile) -> Result<PathBuf> {
    const TARGET: &str = "aarch64-unknown-linux-gnu";
    const COMPILER: &str = "aarch64-linux-gnu-gcc";
    let (kernel_deb, stub_deb) = (
        debian::kernel(Architecture::Arm64)?,
        debian::stub(Architecture::Arm64)?,
    );
    run(&mut command("rustup", &["target", "add", TARGET]))?;
    let package = ["--package", "peerpods-guest", "--target", TARGET];
    run(cargo(&["build", "--quiet", "--profile", profile.name()])
        .args(package)
        .env("CC_aarch64_unknown_linux_gnu", COMPILER)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", COMPILER)
        .env("LIBSECCOMP_LIB_PATH", debian::seccomp_for_arm()?))?;
    let builder = build(profile, &[("peerpods-cli", "peerpodctl")])?.join("peerpodctl");
    let guest = root().join(format!("target/{TARGET}/{}/peerpods-guest", profile.name()));
    let _lock = lock::take(&layout::folder().join("artifacts.lock"))?;
    let image = layout::image().with_file_name("image-arm64");
    build_vm_image(&builder, &guest, &kernel_deb, &stub_deb, &image)?;
    Ok(image.join("disk.raw"))
}

fn build_vm_image(
    builder: &Path,
    guest: &Path,
    kernel_deb: &Path,
    stub_deb: &Path,
    output: &Path,
) -> Result<()> {
    let inputs = stamp::of(&[guest, builder, kernel_deb, stub_deb])?;
    fs::create_dir_all(output).with_context(|| format!("cannot make {}", output.display()))?;
    stamp::make(&output.with_extension("inputs"), &inputs, || {
        run(Command::new(builder)
            .args(["image", "build", "--packed", "--guest"])
            .arg(guest)
            .arg("--kernel-deb")
            .arg(kernel_deb)
            .arg("--stub-deb")
            .arg(stub_deb)
            .arg("--directory")
            .arg(output))
    })
}
