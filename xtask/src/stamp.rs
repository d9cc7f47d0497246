//! Work that is done again only when what it is made from changed.

use std::{fs, path::Path, time::UNIX_EPOCH};

use anyhow::{Context, Result};

/// What tells one state of these files from another.
pub(crate) fn of(files: &[&Path]) -> Result<String> {
    let mut text = String::new();
    for file in files {
        let metadata = fs::metadata(file).with_context(|| format!("cannot look at {}", file.display()))?;
        let changed = metadata
            .modified()?
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        text += &format!("{} {} {}\n", file.display(), metadata.len(), changed.as_nanos());
    }
    Ok(text)
}

/// Runs `work` unless the last run that ended well was with the same inputs.
pub(crate) fn make(stamp: &Path, inputs: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    if fs::read_to_string(stamp).is_ok_and(|last| last == inputs) {
        return Ok(());
    }
    work()?;
    fs::write(stamp, inputs).with_context(|| format!("cannot write {}", stamp.display()))
}
