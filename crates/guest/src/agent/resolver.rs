//! The pod's resolver, as Kata's shims hand it over: the lines of its `resolv.conf`.

use std::{fs, path::Path};

use rustix::mount::mount_bind;

use crate::error::GuestError;

/// Where Kata's agent keeps the file.
const FILE: &str = "/run/kata-containers/sandbox/resolv.conf";
/// The VM's own.
const OF_MACHINE: &str = "/etc/resolv.conf";
/// The resolver itself reads no longer file with any use.
const SIZE_LIMIT: usize = 64 << 10;

/// Writes the lines to where Kata's agent does, and puts them in the place of the VM's own file where it has one.
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
    if Path::new(OF_MACHINE).exists() {
        mount_bind(FILE, OF_MACHINE).map_err(|error| GuestError::file("mount", OF_MACHINE)(error.into()))?;
    }
    Ok(())
}
