//! Which processors an image is for: those of its kernel.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ImageError, elf, portable_executable};

/// A processor architecture, by Debian's and EC2's second name for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86-64, as of images that do not say.
    #[default]
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

/// The numbers of the two in ELF files and in EFI programs.
const ELF_AMD64: u16 = 62;
const ELF_ARM64: u16 = 183;
const EFI_AMD64: u16 = 0x8664;
const EFI_ARM64: u16 = 0xaa64;

impl Architecture {
    /// That of an EFI program, as which kernels and EFI's stubs are made.
    pub(crate) fn of_program(program: &[u8], what: &'static str) -> Result<Self, ImageError> {
        match portable_executable::machine(program) {
            Some(EFI_AMD64) => Ok(Self::Amd64),
            Some(EFI_ARM64) => Ok(Self::Arm64),
            Some(_) | None => Err(ImageError::UnknownArchitecture { what }),
        }
    }

    /// Refuses a guest program for another architecture.
    pub(crate) fn check_guest(self, guest: &[u8]) -> Result<(), ImageError> {
        let found = match elf::machine(guest) {
            Some(ELF_AMD64) => Self::Amd64,
            Some(ELF_ARM64) => Self::Arm64,
            // The kernel finds out what it is.
            Some(_) | None => return Ok(()),
        };
        self.check(found, "guest program")
    }

    /// Refuses a part of the image for another architecture.
    pub(crate) fn check(self, found: Self, what: &'static str) -> Result<(), ImageError> {
        if found == self {
            return Ok(());
        }
        Err(ImageError::MixedArchitectures {
            what,
            found,
            kernel: self,
        })
    }

    /// EC2's name for it.
    pub(crate) fn ec2_name(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }

    /// The file of systemd's EFI stub.
    pub(crate) fn stub_file(self) -> &'static str {
        match self {
            Self::Amd64 => "linuxx64.efi.stub",
            Self::Arm64 => "linuxaa64.efi.stub",
        }
    }

    /// The program that firmware looks for on a disk that it knows no boot entry for.
    pub(crate) fn boot_program(self) -> &'static str {
        match self {
            Self::Amd64 => "EFI/BOOT/BOOTX64.EFI",
            Self::Arm64 => "EFI/BOOT/BOOTAA64.EFI",
        }
    }

    /// The serial consoles, of which the last that there is becomes the guest's: EC2's, and on ARM that of QEMU too.
    pub(crate) fn consoles(self) -> &'static str {
        match self {
            Self::Amd64 => "console=ttyS0",
            Self::Arm64 => "console=ttyAMA0 console=ttyS0",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portable_executable::tests::program;

    fn for_machine(machine: u16) -> Vec<u8> {
        let mut program = program();
        program[0x84..0x86].copy_from_slice(&machine.to_le_bytes());
        program
    }

    #[test]
    fn a_program_says_what_it_is_for() {
        let of = |machine| Architecture::of_program(&for_machine(machine), "kernel");
        assert_eq!(of(0x8664).unwrap(), Architecture::Amd64);
        assert_eq!(of(0xaa64).unwrap(), Architecture::Arm64);
        let error = of(0x14c).unwrap_err().to_string();
        assert_eq!(error, "the kernel is for neither amd64 nor arm64");
    }

    #[test]
    fn parts_for_another_architecture_are_refused() {
        let mut guest = b"\x7fELF\x02\x01".to_vec();
        guest.resize(64, 0);
        guest[18] = 62;
        Architecture::Amd64.check_guest(&guest).unwrap();
        let error = Architecture::Arm64.check_guest(&guest).unwrap_err().to_string();
        assert_eq!(error, "the guest program is for amd64, and the kernel for arm64");
    }
}
