//! How every program tells an error: with all its causes, in one line.

use std::error::Error;

/// The error's message and those of all its causes, outermost first, separated by `": "`.
///
/// A cause whose words the message before it already ends with is not said again: some libraries quote their causes.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// Somebody else's words, who is not trusted with the length of an event or the control of a terminal: at most this many
/// characters, none of them a control character.
pub fn shorten(words: &str, characters: usize) -> String {
    let plain = words.chars().filter(|character| !character.is_control());
    plain.take(characters).collect()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{chain, shorten};

    #[derive(Debug, thiserror::Error)]
    enum Failure {
        #[error("cannot read the journal")]
        Read(#[source] io::Error),
        #[error("cannot read the journal: {0}")]
        Quoted(#[source] io::Error),
    }

    #[test]
    fn every_cause_is_told_once() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        for error in [Failure::Read(denied()), Failure::Quoted(denied())] {
            assert_eq!(chain(&error), "cannot read the journal: permission denied");
        }
        assert_eq!(chain(&denied()), "permission denied");
    }

    #[test]
    fn words_of_strangers_are_short_and_plain() {
        assert_eq!(shorten("\u{1b}[2Jgrün\nund lang", 8), "[2Jgrünu");
    }
}
