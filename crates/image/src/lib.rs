//! The VM image: kernel and initrd, built deterministically.
//!
//! Inputs: the guest program, and a Debian kernel package (or the tree it unpacks to). Outputs in one
//! directory: `vmlinuz`, `initrd.img` and `manifest.json`. The same inputs give the same bytes: nothing
//! of time, user, path or directory order enters the outputs.
//!
//! The initrd is an uncompressed `newc` archive. Under plain emulation, 20 MiB of it boot 0.1 s sooner than
//! packed with gzip or zstd and 1.2 s sooner than with xz, and on a cloud's disk the difference in size does
//! not matter.
//!
//! - `/init`: the guest program, PID 1.
//! - `/modules/*.ko`: kernel modules.
//! - `/modules/load`: lines `<group> <file>`; the guest loads its groups' files from top to bottom.
//! - empty directories for the guest to mount and write on.

mod build;
mod elf;
mod error;
mod initrd;
mod kernel;
mod manifest;
mod modules;

pub use build::{BuildRequest, IMAGE_LIMIT_BYTES, KernelSource, build};
pub use error::ImageError;
pub use manifest::{FileRecord, Manifest};
