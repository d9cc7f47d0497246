//! Ids that container runtimes give.

/// The longest id, in bytes: containerd and CRI-O give 64, and paths of sockets that hold one stay below the 108 bytes that they may
/// have.
pub const ID_LIMIT_BYTES: usize = 72;

/// Whether a text is an id of a sandbox or a container, and so can name a folder: 1 to [`ID_LIMIT_BYTES`] letters, digits, `-`, `_`
/// and `.` of ASCII, the first of them a letter or digit.
pub fn is_id(text: &str) -> bool {
    text.len() <= ID_LIMIT_BYTES
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
