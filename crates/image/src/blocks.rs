//! A disk as the blocks that hold anything: what is published of it, and by what it is known.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use sha2::{Digest, Sha256};

use crate::ImageError;

/// The size of a block, as the EBS direct API has it.
pub const BLOCK_BYTES: usize = 512 << 10;

/// A block that holds anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its place on the disk, counted in blocks.
    pub index: u32,
    /// The checksum of its bytes.
    pub sha256: [u8; 32],
}

/// The blocks of a disk that hold anything, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockList {
    disk_bytes: u64,
    blocks: Vec<Block>,
}

impl BlockList {
    /// Reads a disk once.
    ///
    /// # Errors
    /// [`ImageError::Read`]; [`ImageError::InvalidDisk`] where it does not consist of whole blocks.
    pub fn read(path: &Path) -> Result<Self, ImageError> {
        let failed = |source| ImageError::Read {
            path: path.to_owned(),
            source,
        };
        let invalid = |reason| ImageError::InvalidDisk {
            path: path.to_owned(),
            reason,
        };
        let mut file = File::open(path).map_err(failed)?;
        let disk_bytes = file.metadata().map_err(failed)?.len();
        if disk_bytes == 0 || disk_bytes % BLOCK_BYTES as u64 != 0 {
            return Err(invalid("it does not consist of blocks of 512 KiB"));
        }
        let count = u32::try_from(disk_bytes / BLOCK_BYTES as u64)
            .map_err(|_| invalid("it has more blocks than can be numbered"))?;
        let empty = vec![0; BLOCK_BYTES];
        let mut bytes = vec![0; BLOCK_BYTES];
        let mut blocks = Vec::new();
        for index in 0..count {
            file.read_exact(&mut bytes).map_err(failed)?;
            if bytes != empty {
                let sha256 = Sha256::digest(&bytes).into();
                blocks.push(Block { index, sha256 });
            }
        }
        Ok(Self { disk_bytes, blocks })
    }

    /// The blocks that hold anything.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The size of the disk.
    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    /// How much of the disk holds anything, in whole blocks.
    pub fn data_bytes(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK_BYTES as u64
    }

    /// What the disk is known by: SHA-256 of the checksums of its blocks in their order, as the EBS direct API aggregates
    /// them (`LINEAR`).
    pub fn digest(&self) -> DiskDigest {
        let mut digest = Sha256::new();
        for block in &self.blocks {
            digest.update(block.sha256);
        }
        DiskDigest(digest.finalize().into())
    }
}

/// What a disk is known by; see [`BlockList::digest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DiskDigest(pub [u8; 32]);

impl std::fmt::Display for DiskDigest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", hex::encode(self.0))
    }
}

/// One block's bytes.
///
/// # Errors
/// The file's own.
pub fn read_block(file: &File, index: u32) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;

    let mut bytes = vec![0; BLOCK_BYTES];
    file.read_exact_at(&mut bytes, u64::from(index) * BLOCK_BYTES as u64)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt};

    use sha2::{Digest, Sha256};

    use super::{BLOCK_BYTES, BlockList, read_block};

    #[test]
    fn only_blocks_that_hold_anything_are_listed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        let disk = File::create_new(&path).unwrap();
        disk.set_len(BLOCK_BYTES as u64 * 5).unwrap();
        disk.write_all_at(b"last byte of a block", BLOCK_BYTES as u64 * 2 - 20)
            .unwrap();
        disk.write_all_at(b"x", BLOCK_BYTES as u64 * 4).unwrap();

        let list = BlockList::read(&path).unwrap();
        let indexes: Vec<u32> = list.blocks().iter().map(|block| block.index).collect();
        assert_eq!(indexes, [1, 4]);
        assert_eq!(list.data_bytes(), 2 * BLOCK_BYTES as u64);
        let bytes = read_block(&File::open(&path).unwrap(), 1).unwrap();
        assert_eq!(<[u8; 32]>::from(Sha256::digest(&bytes)), list.blocks()[0].sha256);
        let both = [list.blocks()[0].sha256, list.blocks()[1].sha256].concat();
        assert_eq!(list.digest().0, <[u8; 32]>::from(Sha256::digest(both)));
    }

    #[test]
    fn half_a_block_is_no_disk() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        File::create_new(&path).unwrap().set_len(1000).unwrap();
        let error = BlockList::read(&path).unwrap_err().to_string();
        assert!(
            error.ends_with("it does not consist of blocks of 512 KiB"),
            "{error}"
        );
    }
}
