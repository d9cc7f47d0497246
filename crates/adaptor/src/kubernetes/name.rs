//! Names of objects, which become parts of a path.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Kubernetes has no longer ones.
const LIMIT: usize = 253;

/// A name or namespace: lower-case letters, digits, `-` and `.`, beginning and ending with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct ObjectName(String);

/// A text that no object can be named.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a Kubernetes object")]
pub(crate) struct InvalidName(String);

impl ObjectName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ObjectName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        let is_end =
            |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let allowed = |byte: u8| is_end(Some(byte)) || b"-.".contains(&byte);
        let ends = is_end(text.bytes().next()) && is_end(text.bytes().last());
        if ends && text.len() <= LIMIT && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err(InvalidName(text.chars().take(LIMIT).collect()))
        }
    }
}

impl From<ObjectName> for String {
    fn from(name: ObjectName) -> Self {
        name.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_a_path() {
        for right in ["web", "0", "web-1.example.com", &"a".repeat(253)] {
            ObjectName::try_from(right.to_owned()).unwrap();
        }
        for wrong in [
            "",
            "../x",
            "a/b",
            "a?b",
            "-a",
            "a-",
            ".",
            "A",
            "a b",
            "ü",
            &"a".repeat(254),
        ] {
            ObjectName::try_from(wrong.to_owned()).unwrap_err();
        }
    }
}
