//! The last lines of what a guest, or what runs it, has said.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// How much a person is shown.
const TAIL_BYTES: u64 = 8 << 10;

/// The last lines of the file; empty when it is not there.
pub fn tail(path: &Path) -> String {
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{TAIL_BYTES, tail};

    #[test]
    fn the_tail_is_bounded_and_begins_with_a_whole_line() {
        let directory = tempfile::tempdir().unwrap();
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
}
