//! `peerpods-image`: builds the VM image.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser};
use peerpods_image::{BuildRequest, KernelSource, build};

/// Builds the VM image of peer pods.
#[derive(Parser)]
#[command(name = "peerpods-image", version)]
enum Command {
    /// Builds kernel and initrd from the guest program and a Debian kernel.
    Build(BuildArguments),
}

#[derive(Args)]
struct BuildArguments {
    /// The guest program (`peerpods-guest`), a static binary.
    #[arg(long)]
    guest: PathBuf,
    #[command(flatten)]
    kernel: KernelArguments,
    /// The directory for `vmlinuz`, `initrd.img` and `manifest.json`.
    #[arg(long)]
    output: PathBuf,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct KernelArguments {
    /// Debian's package `linux-image-VERSION-cloud-ARCHITECTURE`.
    #[arg(long)]
    kernel_deb: Option<PathBuf>,
    /// A directory with `boot/vmlinuz-VERSION` and `lib/modules/VERSION`.
    #[arg(long)]
    kernel_dir: Option<PathBuf>,
}

impl KernelArguments {
    fn source(self) -> Option<KernelSource> {
        self.kernel_deb
            .map(KernelSource::Package)
            .or(self.kernel_dir.map(KernelSource::Tree))
    }
}

fn main() -> ExitCode {
    let Command::Build(arguments) = Command::parse();
    let request = BuildRequest {
        guest: arguments.guest,
        kernel: arguments
            .kernel
            .source()
            .expect("the argument group requires one of the two"),
        output: arguments.output,
    };
    match build(&request, |line| eprintln!("{line}")) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peerpods-image: {}", peerpods_error::chain(&error));
            ExitCode::FAILURE
        }
    }
}
