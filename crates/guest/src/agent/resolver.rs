//! The pod's resolver, as Kata's shims hand it over: the lines of its `resolv.conf`.

use std::{fs, path::Path};

use crate::error::GuestError;

/// Where Kata's agent keeps the file.
const FILE: &str = "/run/kata-containers/sandbox/resolv.conf";
/// The resolver itself reads no longer file with any use.
const SIZE_LIMIT: usize = 64 << 10;

/// Writes the lines to where Kata's agent does. The VM's own file, where it has one, stays: it is for the VM's network, in
/// which the cluster's resolver is not.
///
/// # Errors
/// [`GuestError::Invalid`]: they are too long; [`GuestError::File`].
pub(super) fn provide(lines: &[String]) -> Result<(), GuestError> {
    if lines.is_empty() {
        return Ok(());
    }
    let text = lines.join("\n");
    if text.len() > SIZE_LIMIT {
        return Err(GuestError::Invalid {
            field: "dns",
            problem: format!("longer than {SIZE_LIMIT} bytes"),
        });
    }
    if let Some(folder) = Path::new(FILE).parent() {
        fs::create_dir_all(folder).map_err(GuestError::file("make", folder))?;
    }
    fs::write(FILE, text).map_err(GuestError::file("write", FILE))?;
    Ok(())
}
