//! The guest's serial console: a file that stays small, and its last lines.

use std::{fs::OpenOptions, path::Path};

pub(crate) use peerpods_provider::local::tail;

/// Beyond this size a console is cut. The guest boots with some kilobytes; more is a fault worth its end only.
const CUT_BYTES: u64 = 1 << 20;

/// The size that QEMU cannot exceed whatever its guest writes: between two looks of ours a guest can write
/// much, and the file takes the node's memory. A guest that gets there loses its VM.
pub(crate) const LIMIT_BYTES: u64 = 64 << 20;

/// Cuts a console that has grown too large. QEMU appends, so it goes on at the new end.
pub(crate) fn cut(path: &Path) {
    let cut = || {
        let file = OpenOptions::new().write(true).open(path)?;
        if file.metadata()?.len() > CUT_BYTES {
            file.set_len(0)
        } else {
            Ok(())
        }
    };
    if let Err(error) = cut() {
        tracing::warn!(path = %path.display(), %error, "cannot cut a VM's console");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::{CUT_BYTES, cut};

    #[test]
    fn a_large_console_is_cut_and_a_small_one_kept() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("console.log");
        fs::write(&path, "kept").unwrap();
        cut(&path);
        assert_eq!(fs::read(&path).unwrap(), b"kept");
        fs::write(&path, vec![b'x'; CUT_BYTES as usize + 1]).unwrap();
        cut(&path);
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    }
}
