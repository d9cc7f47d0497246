//! From an archive's bytes to the directory that overlayfs takes as a layer.
//!
//! The archive is hostile until proven otherwise: every path is resolved by the kernel inside the layer's
//! directory, headers are bounded, and nothing in the archive can set the attributes by which overlayfs is
//! steered.

mod archive;
mod path;
mod pax;
mod tree;

use std::{io::Read, path::Path};

use super::{ImageError, limits};
use archive::{Archive, Kind};
use path::Name;
use tree::Tree;

/// Unpacks a layer's archive into `directory`, which must exist and which nobody else may write to meanwhile.
/// Deleted files become the character devices, and emptied directories the attribute, that overlayfs knows.
///
/// `layer` names the layer in errors. Reads up to the archive's end mark. On failure, what was unpacked so far
/// stays: the caller removes the directory.
pub fn unpack_layer(reader: &mut impl Read, directory: &Path, layer: &str) -> Result<(), ImageError> {
    let mut tree = Tree::open(directory)?;
    let mut archive = Archive::new(reader, layer);
    let mut entries = 0;
    while let Some(entry) = archive.next_entry()? {
        entries += 1;
        if entries > limits::LAYER_ENTRIES {
            let subject = format!("layer {layer}");
            return Err(ImageError::LimitExceeded {
                subject,
                limit: limits::LAYER_ENTRIES,
                unit: "entries",
            });
        }
        match Name::parse(&entry.path)? {
            Name::Root => tree.root_attributes(&entry)?,
            Name::Whiteout(place) => tree.whiteout(&place)?,
            Name::Opaque(directory) => tree.opaque(&directory)?,
            Name::Reserved => {}
            Name::Entry(place) => match &entry.kind {
                Kind::File => tree.file(&place, &entry, &mut archive)?,
                Kind::Directory => tree.directory(&place, &entry)?,
                Kind::Symlink(target) => tree.symlink(&place, &entry, target)?,
                Kind::HardLink(target) => match Name::parse(target)? {
                    Name::Entry(target) => tree.hard_link(&place, &target)?,
                    _ => return Err(path::refused(&entry.path, "a hard link to what is not a file")),
                },
                Kind::Device {
                    file_type,
                    major,
                    minor,
                } => {
                    tree.node(&place, &entry, *file_type, rustix::fs::makedev(*major, *minor))?;
                }
                Kind::Fifo => tree.node(&place, &entry, rustix::fs::FileType::Fifo, 0)?,
            },
        }
    }
    tree.finish()
}

/// What reading a layer failed with; a limit that was met inside the reader is taken out again.
pub(super) fn stream_error(layer: &str, error: std::io::Error) -> ImageError {
    match error.downcast::<ImageError>() {
        Ok(limit) => limit,
        Err(source) => ImageError::LayerStream {
            layer: layer.to_owned(),
            source,
        },
    }
}
