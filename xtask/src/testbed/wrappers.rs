//! The programs in `target/testbed` by which people, scripts and tests use a bed that is up.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, Result};

use super::{holder::Holder, layout, layout::State};

const WRAPPERS: [(&str, &str); 3] = [
    ("enter", include_str!("files/enter.sh")),
    ("push-image", include_str!("files/push-image.sh")),
    // Last: where it is there, the bed is up.
    ("kubectl", include_str!("files/kubectl.sh")),
];

/// Writes them for the bed of that holder.
pub(super) fn write(state: &State, holder: Holder, programs: &Path) -> Result<()> {
    let values = [
        ("@HOLDER@", holder.pid.to_string()),
        ("@STARTED@", holder.started.to_string()),
        ("@STATE@", state.0.display().to_string()),
        ("@PROGRAMS@", programs.display().to_string()),
        ("@IMAGE@", layout::image().display().to_string()),
        ("@FOLDER@", layout::folder().display().to_string()),
    ];
    for (name, template) in WRAPPERS {
        let text = values
            .iter()
            .fold(template.to_owned(), |text, (from, to)| text.replace(from, to));
        let (path, unfinished) = (layout::folder().join(name), state.file(name));
        fs::write(&unfinished, text)
            .and_then(|()| fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o755)))
            .and_then(|()| fs::rename(&unfinished, &path))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Removes them.
pub(super) fn remove() -> Result<()> {
    for (name, _) in WRAPPERS.iter().rev() {
        let path = layout::folder().join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).context(format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}
