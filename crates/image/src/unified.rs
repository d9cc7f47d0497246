//! The unified kernel image: kernel, command line and initrd in one EFI program, which firmware starts by itself.
//!
//! The program is systemd's EFI stub; what it starts are its own sections.

use std::path::{Path, PathBuf};

use crate::{
    Architecture, ImageError, kernel, package,
    portable_executable::{Section, with_sections},
};

/// Where Debian's package has stubs.
const STUBS_IN_PACKAGE: &str = "usr/lib/systemd/boot/efi";

/// The guest's kernel: its serial console is slow, so it says only what went wrong; after a panic it resets, which
/// whoever runs the VM sees. A disk behind a network has no time limit of its own (as AWS advises for EBS).
const COMMAND_LINE: &str = "quiet loglevel=4 panic=-1 nvme_core.io_timeout=4294967295";

/// What tools that list boot entries show.
const RELEASE: &str = concat!(
    "ID=peerpods\nNAME=peerpods\nPRETTY_NAME=\"peer pod VM\"\nVERSION_ID=",
    env!("CARGO_PKG_VERSION"),
    "\n"
);

/// Where systemd's EFI stub comes from.
#[derive(Clone, Debug)]
pub enum StubSource {
    /// A Debian package `systemd-boot-efi_*.deb`.
    Package(PathBuf),
    /// The file `linuxx64.efi.stub` or `linuxaa64.efi.stub` itself.
    File(PathBuf),
}

impl StubSource {
    pub(crate) fn read(&self, architecture: Architecture) -> Result<Vec<u8>, ImageError> {
        let stub = match self {
            Self::Package(path) => {
                let unpacked = package::unpack(path)?;
                let stubs = unpacked.path().join(Path::new(STUBS_IN_PACKAGE));
                kernel::read(&stubs.join(architecture.stub_file()))?
            }
            Self::File(path) => kernel::read(path)?,
        };
        architecture.check(Architecture::of_program(&stub, "EFI stub")?, "EFI stub")?;
        Ok(stub)
    }
}

/// Puts a kernel and its initrd into the stub.
pub(crate) fn unified(
    stub: &[u8],
    vmlinuz: &[u8],
    initrd: &[u8],
    architecture: Architecture,
) -> Result<Vec<u8>, ImageError> {
    let command_line = format!("{} {COMMAND_LINE}\0", architecture.consoles());
    let section = |name, contents| Section { name, contents };
    let sections = [
        section(".osrel", RELEASE.as_bytes()),
        section(".cmdline", command_line.as_bytes()),
        section(".linux", vmlinuz),
        section(".initrd", initrd),
    ];
    with_sections(stub, &sections)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portable_executable::tests::{program, section};

    #[test]
    fn the_kernel_is_told_of_the_consoles_that_its_machines_have() {
        for (architecture, console) in [
            (Architecture::Amd64, "console=ttyS0"),
            (Architecture::Arm64, "console=ttyAMA0 console=ttyS0"),
        ] {
            let unified = unified(&program(), b"kernel", b"initrd", architecture).unwrap();
            let (_, line) = section(&unified, ".cmdline").unwrap();
            assert_eq!(line, format!("{console} {COMMAND_LINE}\0").as_bytes());
            assert_eq!(section(&unified, ".linux").unwrap().1, b"kernel");
            assert_eq!(section(&unified, ".initrd").unwrap().1, b"initrd");
        }
    }
}
