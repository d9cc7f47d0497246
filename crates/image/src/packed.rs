//! A disk as one small file: container images hold it so, because almost all of a disk is nothing.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};

use crate::{BLOCK_BYTES, DISK_BYTES, ImageError};

/// Packs a disk into another file, with gzip: the same bytes from the same disk.
///
/// # Errors
/// [`ImageError::Read`], [`ImageError::Write`].
pub fn pack(disk: &Path, packed: &Path) -> Result<(), ImageError> {
    let mut source = File::open(disk).map_err(cannot_read(disk))?;
    let target = File::create(packed).map_err(cannot_write(packed))?;
    let mut encoder = GzEncoder::new(target, Compression::fast());
    let mut chunk = vec![0; BLOCK_BYTES];
    loop {
        match source.read(&mut chunk).map_err(cannot_read(disk))? {
            0 => break,
            bytes => encoder.write_all(&chunk[..bytes]).map_err(cannot_write(packed))?,
        }
    }
    encoder.finish().map(drop).map_err(cannot_write(packed))
}

/// Unpacks it again: a file that has room only for what holds anything.
///
/// # Errors
/// [`ImageError::Read`], [`ImageError::Write`]; [`ImageError::InvalidDisk`] where more comes out than a disk has.
pub fn unpack(packed: &Path, disk: &Path) -> Result<(), ImageError> {
    let source = File::open(packed).map_err(cannot_read(packed))?;
    let mut decoder = GzDecoder::new(io::BufReader::new(source));
    let mut target = File::create(disk).map_err(cannot_write(disk))?;
    let (mut chunk, nothing) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
    let mut size = 0;
    loop {
        let bytes = decoder.read(&mut chunk).map_err(cannot_read(packed))?;
        if bytes == 0 {
            return target.set_len(size).map_err(cannot_write(disk));
        }
        size += bytes as u64;
        if size > DISK_BYTES {
            return Err(ImageError::InvalidDisk {
                path: packed.to_owned(),
                reason: "more comes out of it than a disk has",
            });
        }
        let written = if chunk[..bytes] == nothing[..bytes] {
            target.seek(SeekFrom::Start(size)).map(drop)
        } else {
            target.write_all(&chunk[..bytes])
        };
        written.map_err(cannot_write(disk))?;
    }
}

fn cannot_read(path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_owned();
    move |source| ImageError::Read { path, source }
}

fn cannot_write(path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_owned();
    move |source| ImageError::Write { path, source }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{FileExt, MetadataExt},
    };

    use super::*;
    use crate::BlockList;

    #[test]
    fn a_disk_is_the_same_after_packing_and_takes_no_more_room() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let disk = File::create_new(at("disk")).unwrap();
        let size = 64 * BLOCK_BYTES as u64;
        disk.set_len(size).unwrap();
        disk.write_all_at(b"begins", 0).unwrap();
        disk.write_all_at(b"ends", size - 4).unwrap();
        disk.sync_all().unwrap();

        pack(&at("disk"), &at("packed")).unwrap();
        assert!(fs::metadata(at("packed")).unwrap().len() < BLOCK_BYTES as u64);
        unpack(&at("packed"), &at("again")).unwrap();
        assert_eq!(
            BlockList::read(&at("again")).unwrap(),
            BlockList::read(&at("disk")).unwrap()
        );
        let room = fs::metadata(at("again")).unwrap().blocks() * 512;
        assert!(room < size / 2, "{room} bytes");

        fs::write(at("packed"), "no gzip").unwrap();
        assert!(matches!(
            unpack(&at("packed"), &at("again")),
            Err(ImageError::Read { .. })
        ));
    }
}
