//! What can go wrong while an image is built.

use std::{io, path::PathBuf};

use crate::Architecture;

/// A failed build; each variant names the step and the file it was about.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file or directory could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// `dpkg-deb` could not be started.
    #[error("cannot run dpkg-deb to unpack {package}")]
    RunUnpacker {
        /// The package.
        package: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// `dpkg-deb` refused the package.
    #[error("dpkg-deb cannot unpack {package}: {message}")]
    Unpack {
        /// The package.
        package: PathBuf,
        /// What `dpkg-deb` said.
        message: String,
    },
    /// The tree does not hold exactly one kernel.
    #[error("{tree} must hold exactly one {what}, it holds {found:?}")]
    KernelCount {
        /// The tree that was searched.
        tree: PathBuf,
        /// What was searched for.
        what: &'static str,
        /// The names that were found.
        found: Vec<String>,
    },
    /// A needed module is neither in the tree nor built into the kernel.
    #[error("kernel {version} has no module {module}, which {needed_by} needs")]
    MissingModule {
        /// The kernel's version.
        version: String,
        /// The module.
        module: String,
        /// The group or module that asks for it.
        needed_by: String,
    },
    /// Modules need each other in a circle.
    #[error("module {0} depends on itself")]
    ModuleCycle(String),
    /// A module file is not what it should be.
    #[error("{module} is no module of this kernel: {reason}")]
    InvalidModule {
        /// The module.
        module: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file does not fit the archive format.
    #[error("{path} has {bytes} bytes, too many for an initrd")]
    FileTooLarge {
        /// The file's name in the initrd.
        path: String,
        /// Its size.
        bytes: usize,
    },
    /// The EFI stub is not one, or cannot hold an image.
    #[error("the EFI stub cannot be used: {reason}")]
    InvalidStub {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A part of the image is for processors that no image is for.
    #[error("the {what} is for neither amd64 nor arm64")]
    UnknownArchitecture {
        /// The part.
        what: &'static str,
    },
    /// A part of the image is for other processors than the kernel.
    #[error("the {what} is for {found}, and the kernel for {kernel}")]
    MixedArchitectures {
        /// The part.
        what: &'static str,
        /// What it is for.
        found: Architecture,
        /// What the kernel is for.
        kernel: Architecture,
    },
    /// A file is no disk.
    #[error("{path} is no disk image: {reason}")]
    InvalidDisk {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The disk holds more than the limit.
    #[error("the disk holds {data_bytes} bytes, more than its limit of {limit} bytes")]
    DiskTooLarge {
        /// What it holds, in whole blocks.
        data_bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Kernel and initrd together exceed the limit.
    #[error(
        "kernel ({kernel_bytes} bytes) and initrd ({initrd_bytes} bytes) exceed the image's limit of {limit} bytes; \
         the guest program has {guest_bytes} bytes: a stripped release build is expected"
    )]
    ImageTooLarge {
        /// The kernel's size.
        kernel_bytes: usize,
        /// The initrd's size.
        initrd_bytes: usize,
        /// The guest program's size.
        guest_bytes: usize,
        /// The limit.
        limit: usize,
    },
}
