//! What went into an image and what came out, for people and for publishing.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Architecture, BlockList};

/// The manifest of one image. It names no paths of the build machine, so it is as reproducible as the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The processors that it is for.
    #[serde(default)]
    pub architecture: Architecture,
    /// The kernel's version, for example `6.1.0-56-cloud-amd64`.
    pub kernel_version: String,
    /// The guest program that went in.
    pub guest: FileRecord,
    /// The kernel that came out, unchanged: `vmlinuz`.
    pub kernel: FileRecord,
    /// The initrd that came out: `initrd.img`.
    pub initrd: FileRecord,
    /// The modules in load order: `<group> <file>`.
    pub modules: Vec<String>,
    /// The disk that came out: `disk.raw`; none where only kernel and initrd were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskRecord>,
}

/// What went into the disk besides kernel and initrd, and what it is known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRecord {
    /// The EFI stub that went in.
    pub stub: FileRecord,
    /// The size of the disk in bytes.
    pub bytes: u64,
    /// How much of it holds anything, in whole blocks of 512 KiB.
    pub data_bytes: u64,
    /// What it is known by, in hex; see [`BlockList::digest`].
    pub digest: String,
}

impl DiskRecord {
    pub(crate) fn of(stub: &[u8], list: &BlockList) -> Self {
        Self {
            stub: FileRecord::of(stub),
            bytes: list.disk_bytes(),
            data_bytes: list.data_bytes(),
            digest: list.digest().to_string(),
        }
    }
}

/// Size and digest of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its size in bytes.
    pub bytes: usize,
    /// SHA-256 in hex.
    pub sha256: String,
}

impl FileRecord {
    /// Measures `contents`.
    pub fn of(contents: &[u8]) -> Self {
        Self {
            bytes: contents.len(),
            sha256: hex::encode(Sha256::digest(contents)),
        }
    }
}
