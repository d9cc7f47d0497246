//! Entry names: where in the layer, and what overlay meaning.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::super::{ImageError, limits};

/// A directory in the layer and a name in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Relative to the layer's directory; empty for the directory itself.
    pub(super) parent: PathBuf,
    /// One path component, neither `.` nor `..`.
    pub(super) name: Box<OsStr>,
}

impl Place {
    pub(super) fn path(&self) -> PathBuf {
        self.parent.join(&*self.name)
    }
}

/// What an entry's name means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// The layer's own root directory.
    Root,
    /// An ordinary entry.
    Entry(Place),
    /// Lower layers' entry here is deleted.
    Whiteout(Place),
    /// Lower layers' content of this directory is deleted.
    Opaque(PathBuf),
    /// A name that older storage drivers kept for themselves and that has no meaning.
    Reserved,
}

impl Name {
    pub(super) fn parse(bytes: &[u8]) -> Result<Name, ImageError> {
        if bytes.len() > limits::PATH_BYTES {
            return Err(refused(bytes, "the path is too long"));
        }
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in bytes.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => return Err(refused(bytes, "the path leads upwards")),
                part if part.contains(&0) => return Err(refused(bytes, "the path has a zero byte")),
                part => parts.push(part),
            }
        }
        if parts.len() > limits::PATH_DEPTH {
            return Err(refused(bytes, "the path is too deep"));
        }
        let Some(name) = parts.pop() else {
            return Ok(Name::Root);
        };
        let parent: PathBuf = parts
            .iter()
            .map(|part| Path::new(OsStr::from_bytes(part)))
            .collect();
        let place = |name| Place {
            parent: parent.clone(),
            name: OsStr::from_bytes(name).into(),
        };
        match name.strip_prefix(b".wh.") {
            None => Ok(Name::Entry(place(name))),
            Some(b".wh..opq") => Ok(Name::Opaque(parent)),
            Some(b"" | b"." | b"..") => Err(refused(bytes, "a whiteout of no name")),
            Some(hidden) if hidden.starts_with(b".wh.") => Ok(Name::Reserved),
            Some(hidden) => Ok(Name::Whiteout(place(hidden))),
        }
    }
}

/// The error for an entry that is not even tried.
pub(super) fn refused(path: &[u8], reason: &'static str) -> ImageError {
    ImageError::RefusedEntry {
        entry: lossy(path),
        reason,
    }
}

/// An entry's path for an error: readable and not too long.
pub(super) fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(&path[..path.len().min(300)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(parent: &str, name: &str) -> Place {
        Place {
            parent: parent.into(),
            name: OsStr::new(name).into(),
        }
    }

    #[test]
    fn names_are_normalised_into_the_layer() {
        assert_eq!(Name::parse(b"./").unwrap(), Name::Root);
        assert_eq!(
            Name::parse(b"/etc//./passwd").unwrap(),
            Name::Entry(place("etc", "passwd"))
        );
        assert_eq!(
            Name::parse(b"etc/.wh.passwd").unwrap(),
            Name::Whiteout(place("etc", "passwd"))
        );
        assert_eq!(
            Name::parse(b"etc/.wh..wh..opq").unwrap(),
            Name::Opaque("etc".into())
        );
        assert_eq!(Name::parse(b".wh..wh.plnk").unwrap(), Name::Reserved);
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        for name in [
            &b"../x"[..],
            b"a/../../x",
            b"a/..",
            b"a/.wh...",
            b".wh.",
            b"a\0b",
            &[b'a'; 5000],
        ] {
            assert!(Name::parse(name).is_err(), "{name:?}");
        }
    }
}
