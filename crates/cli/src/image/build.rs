//! `peerpodctl image build`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use peerpods_image::{BuildRequest, KernelSource, Manifest, StubSource, build, pack};
use serde::Serialize;

use super::{DISK, PACKED_DISK};
use crate::output::{Format, Report, print};

const HELP: &str = "\
The outputs are vmlinuz and initrd.img, which QEMU boots directly; disk.raw, which EC2 boots, where the
EFI stub is given; and manifest.json, which says what went in and came out.

It is for the processors of the kernel: guest and stub must be for the same ones.

Example, on Debian 12:
  apt-get download linux-image-6.1.0-56-cloud-amd64 systemd-boot-efi
  peerpodctl image build --guest peerpods-guest --kernel-deb linux-image-*.deb \\
    --stub-deb systemd-boot-efi_*.deb --directory image
  peerpodctl image publish --region eu-central-1 image";

#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    /// The guest program (`peerpods-guest`), a static binary.
    #[arg(long, value_name = "FILE")]
    guest: PathBuf,
    #[command(flatten)]
    kernel: Kernel,
    #[command(flatten)]
    stub: Stub,
    /// Where the outputs go; it is made when it is not there.
    #[arg(long, value_name = "FOLDER")]
    directory: PathBuf,
    /// Also writes disk.raw.gz, the disk as a container image can hold it, for `image publish --unpack-into`.
    #[arg(long, requires = "Stub")]
    packed: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Kernel {
    /// Debian's package `linux-image-VERSION-cloud-ARCHITECTURE`.
    #[arg(long, value_name = "FILE")]
    kernel_deb: Option<PathBuf>,
    /// A folder with `boot/vmlinuz-VERSION` and `lib/modules/VERSION`.
    #[arg(long, value_name = "FOLDER")]
    kernel_dir: Option<PathBuf>,
}

#[derive(Args)]
#[group(multiple = false)]
struct Stub {
    /// Debian's package `systemd-boot-efi`; without it there is no disk.
    #[arg(long, value_name = "FILE")]
    stub_deb: Option<PathBuf>,
    /// systemd's EFI stub itself, `linuxx64.efi.stub` or `linuxaa64.efi.stub`.
    #[arg(long, value_name = "FILE")]
    stub_file: Option<PathBuf>,
}

/// The manifest, and where everything is.
#[derive(Serialize)]
struct Built {
    directory: PathBuf,
    #[serde(flatten)]
    manifest: Manifest,
}

impl Report for Built {
    fn text(&self) -> String {
        let mut text = format!(
            "image of kernel {} for {} in {}",
            self.manifest.kernel_version,
            self.manifest.architecture,
            self.directory.display()
        );
        if let Some(disk) = &self.manifest.disk {
            text += &format!(
                "\ndisk.raw: {} MiB to publish, digest {}",
                disk.data_bytes >> 20,
                disk.digest
            );
        }
        text
    }
}

pub(crate) fn run(arguments: Arguments, format: Format) -> Result<()> {
    let (package, tree) = (arguments.kernel.kernel_deb, arguments.kernel.kernel_dir);
    let kernel = package
        .map(KernelSource::Package)
        .or(tree.map(KernelSource::Tree));
    let (package, file) = (arguments.stub.stub_deb, arguments.stub.stub_file);
    let request = BuildRequest {
        guest: arguments.guest,
        kernel: kernel.expect("the argument group requires one of the two"),
        stub: package.map(StubSource::Package).or(file.map(StubSource::File)),
        output: arguments.directory,
    };
    let manifest = build(&request, |line| eprintln!("{line}")).context("cannot build the image")?;
    let directory = request.output;
    if arguments.packed {
        pack(&directory.join(DISK), &directory.join(PACKED_DISK)).context("cannot pack the disk")?;
    }
    print(format, &Built { directory, manifest })
}
