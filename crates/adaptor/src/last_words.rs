//! Why the daemon ended, where the kubelet keeps it: in the status of its pod, in which the operator reads it.

use std::{fs::OpenOptions, io::Write, path::Path};

/// What the kubelet mounts into a container for it.
const FILE: &str = "/dev/termination-log";
/// The kubelet keeps no more of it.
const BYTES: usize = 4096;

/// Leaves them where there is a place for them: outside of a pod there is none.
pub(crate) fn leave(text: &str) {
    leave_at(Path::new(FILE), text);
}

fn leave_at(path: &Path, text: &str) {
    let Ok(mut file) = OpenOptions::new().write(true).truncate(true).open(path) else {
        return;
    };
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = line.floor_char_boundary(BYTES);
    if let Err(error) = file.write_all(&line.as_bytes()[..end]) {
        tracing::warn!(%error, "the reason is in the log alone");
    }
}

/// Of what is wrong with arguments, without how to get help: there is nobody at a prompt.
pub(crate) fn of_arguments(error: &clap::Error) -> String {
    let text = error.to_string();
    let what = text.split("\n\n").next().unwrap_or_default();
    what.trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_reason_is_one_line_in_the_file_that_the_kubelet_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("termination-log");
        leave_at(&path, "nobody reads this");
        assert!(!path.exists());
        fs::write(&path, "of an earlier end, which was longer").unwrap();
        leave_at(&path, "cannot set up the provider:\n  no image");
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "cannot set up the provider: no image"
        );
    }
}
