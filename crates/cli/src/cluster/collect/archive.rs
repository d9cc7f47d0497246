//! An archive that has its name only when it is complete.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::{Compression, write::GzEncoder};
use k8s_openapi::jiff::Timestamp;
use tempfile::NamedTempFile;

/// A gzipped tar file on its way. Dropped before it is finished, it leaves nothing.
pub(super) struct Archive {
    builder: tar::Builder<GzEncoder<NamedTempFile>>,
    /// All files are in this folder.
    folder: String,
    files: usize,
    modified: u64,
}

impl Archive {
    /// Begins one beside where it will be.
    pub(super) fn create(path: &Path, folder: &str) -> Result<Self> {
        let beside = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        // Only the one who gathers may read it: that is how such files are made.
        let file = NamedTempFile::with_prefix_in(".peerpods-", &beside);
        let file = file.with_context(|| format!("cannot write to {}", beside.display()))?;
        let now = Timestamp::now().as_second();
        Ok(Self {
            builder: tar::Builder::new(GzEncoder::new(file, Compression::default())),
            folder: folder.to_owned(),
            files: 0,
            modified: u64::try_from(now).unwrap_or_default(),
        })
    }

    pub(super) fn add(&mut self, name: &str, text: &str) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.modified);
        let path = format!("{}/{name}", self.folder);
        self.builder
            .append_data(&mut header, path, text.as_bytes())
            .with_context(|| format!("cannot add {name} to the archive"))?;
        self.files += 1;
        Ok(())
    }

    /// Gives it its name; tells how many files it has. A file that came to have the name meanwhile is not replaced.
    pub(super) fn finish(self, path: &Path) -> Result<usize> {
        let action = || format!("cannot write {}", path.display());
        let file = self
            .builder
            .into_inner()
            .and_then(GzEncoder::finish)
            .with_context(action)?;
        file.persist_noclobber(path).with_context(action)?;
        Ok(self.files)
    }
}
