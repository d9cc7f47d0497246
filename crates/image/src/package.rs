//! Debian packages as inputs: unpacked into a folder that goes when the build is done.

use std::{path::Path, process::Command};

use tempfile::TempDir;

use crate::ImageError;

/// Unpacks a package's files.
pub(crate) fn unpack(package: &Path) -> Result<TempDir, ImageError> {
    let directory = TempDir::with_prefix("peerpods-image-").map_err(|source| ImageError::Write {
        path: std::env::temp_dir(),
        source,
    })?;
    let output = Command::new("dpkg-deb")
        .arg("--extract")
        .args([package, directory.path()])
        .output()
        .map_err(|source| ImageError::RunUnpacker {
            package: package.to_owned(),
            source,
        })?;
    if !output.status.success() {
        return Err(ImageError::Unpack {
            package: package.to_owned(),
            message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    Ok(directory)
}
