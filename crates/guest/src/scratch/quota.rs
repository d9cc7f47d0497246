//! How much a folder on the scratch disk may take: a project quota of ext4's, of which each such folder is one project.
//!
//! What is made in the folder inherits its project, and `statfs` tells the limit as the folder's size. Who may change any
//! limit of the VM (CAP_SYS_RESOURCE, which containers have only when privileged) is bound by none.

use std::{fs::File, io, os::unix::fs::MetadataExt, path::Path};

use super::unsafe_quota;
use crate::error::GuestError;

/// Quotas count in blocks of this size.
const QUOTA_BLOCK_BYTES: u64 = 1024;

/// Lets the folder `place` and all that comes to be in it take no more than `bytes`, rounded up to whole KiB.
pub(super) fn limit(place: &Path, bytes: u64) -> Result<(), GuestError> {
    let failed = || GuestError::file("limit the size of", place);
    let folder = File::open(place).map_err(failed())?;
    let project = project_of(&folder).map_err(failed())?;
    // In this order, so that nothing is ever in the folder without a limit.
    unsafe_quota::set_limit(&folder, project, bytes.div_ceil(QUOTA_BLOCK_BYTES)).map_err(failed())?;
    unsafe_quota::assign(&folder, project).map_err(failed())
}

/// A folder's inode number is nobody else's as long as the folder is there, and ext4's have 32 bits.
fn project_of(folder: &File) -> io::Result<u32> {
    let number = folder.metadata()?.ino();
    u32::try_from(number).map_err(|_| io::ErrorKind::Unsupported.into())
}
