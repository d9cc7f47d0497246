//! The guest's serial console: a file that stays small, and its last lines.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// How much of a console a person is shown.
const TAIL_BYTES: u64 = 8 << 10;

/// Beyond this size a console is cut. The guest boots with some kilobytes; more is a fault worth its end only.
const CUT_BYTES: u64 = 1 << 20;

/// The size that QEMU cannot exceed whatever its guest writes: between two looks of ours a guest can write
/// much, and the file takes the node's memory. A guest that gets there loses its VM.
pub(crate) const LIMIT_BYTES: u64 = 64 << 20;

/// The last lines of the file; empty when it is not there.
pub(crate) fn tail(path: &Path) -> String {
    let text = read_tail(path).unwrap_or_default();
    let from_line_start = match text.iter().position(|byte| *byte == b'\n') {
        Some(end) if text.len() as u64 >= TAIL_BYTES => &text[end + 1..],
        _ => &text[..],
    };
    String::from_utf8_lossy(from_line_start).into_owned()
}

fn read_tail(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES)))?;
    let mut text = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

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

    use super::{CUT_BYTES, TAIL_BYTES, cut, tail};

    #[test]
    fn the_tail_is_bounded_and_begins_with_a_whole_line() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("console.log");
        assert_eq!(tail(&path), "");
        fs::write(&path, "one line\nno end").unwrap();
        assert_eq!(tail(&path), "one line\nno end");
        fs::write(&path, "0123456789\n".repeat(10_000)).unwrap();
        let tail = tail(&path);
        assert!(
            tail.len() as u64 <= TAIL_BYTES && tail.starts_with("0123456789\n"),
            "{}",
            tail.len()
        );
    }

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
