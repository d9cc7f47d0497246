//! The disk that firmware boots: a partition table, and one EFI system partition with the unified kernel image.
//!
//! ```text
//! 0          1 MiB                              129 MiB                    1 GiB
//! ├ GPT ─────┼ EFI system partition, FAT32 ─────┼ free ──────────────── GPT ┤
//!            └ EFI/BOOT/BOOTX64.EFI or BOOTAA64.EFI
//! ```
//!
//! A VM's volume may be larger; what is free of it is scratch space of the guest, which finds the partition by its name.
//! Every identifier and time in it is fixed, so that the same unified kernel image gives the same disk.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Cursor, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use fatfs::{Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider};
use gpt::{GptConfig, mbr::ProtectiveMBR, partition::Partition, partition_types};
use uuid::{Uuid, uuid};

use crate::{Architecture, ImageError, blocks::BlockList};

/// The size of the disk: the least that an EBS volume can have.
pub const DISK_BYTES: u64 = 1 << 30;
/// The most of the disk that may hold anything, in whole blocks: what a start of a VM reads, and what is published.
pub const DISK_DATA_LIMIT_BYTES: u64 = 64 << 20;

const SECTOR_BYTES: u64 = 512;
const PARTITION_OFFSET: u64 = 1 << 20;
/// Enough clusters for FAT32, and twice what may be in it.
const PARTITION_BYTES: usize = 128 << 20;
const CLUSTER_BYTES: u32 = 1024;

/// By this name the guest finds the partition.
const PARTITION_NAME: &str = "peerpods-boot";
/// Made once, at random.
const DISK_ID: Uuid = uuid!("3e34fb93-6fe9-4357-a7b6-0c1df48d2690");
const PARTITION_ID: Uuid = uuid!("505a8d86-90fe-4125-8982-e45ece21a6cc");
const VOLUME_ID: u32 = 0x9e37_0b0d;
const VOLUME_LABEL: [u8; 11] = *b"PEERPODS   ";

/// Where firmware looks on a disk that it knows no boot entry for.
const FOLDERS: [&str; 2] = ["EFI", "EFI/BOOT"];

/// Writes the disk, a sparse file, and answers what it holds.
pub(crate) fn write(
    path: &Path,
    unified: &[u8],
    architecture: Architecture,
) -> Result<BlockList, ImageError> {
    let failed = |source| ImageError::Write {
        path: path.to_owned(),
        source,
    };
    let partition = file_system(unified, architecture).map_err(failed)?;
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .map_err(failed)?;
    file.set_len(DISK_BYTES).map_err(failed)?;
    write_table(&file).map_err(failed)?;
    for (number, chunk) in (0..).zip(partition.chunks(CHUNK_BYTES)) {
        if chunk.iter().any(|byte| *byte != 0) {
            let offset = PARTITION_OFFSET + number * CHUNK_BYTES as u64;
            file.write_all_at(chunk, offset).map_err(failed)?;
        }
    }
    let list = BlockList::read(path)?;
    if list.data_bytes() > DISK_DATA_LIMIT_BYTES {
        return Err(ImageError::DiskTooLarge {
            data_bytes: list.data_bytes(),
            limit: DISK_DATA_LIMIT_BYTES,
        });
    }
    Ok(list)
}

/// What a disk is for: what firmware for ARM finds a program on. Any other is taken to be for x86-64, as all were before.
pub(crate) fn architecture(path: &Path) -> Architecture {
    let finds = |architecture: Architecture| -> std::io::Result<()> {
        let mut partition = vec![0; PARTITION_BYTES];
        File::open(path)?.read_exact_at(&mut partition, PARTITION_OFFSET)?;
        let volume = FileSystem::new(Cursor::new(&mut partition[..]), FsOptions::new())?;
        volume.root_dir().open_file(architecture.boot_program()).map(drop)
    };
    match finds(Architecture::Arm64) {
        Ok(()) => Architecture::Arm64,
        Err(_) => Architecture::Amd64,
    }
}

/// What is written at once, or, where it is empty, left out: a page, of which sparse files are made.
const CHUNK_BYTES: usize = 4096;

fn write_table(mut disk: &File) -> std::io::Result<()> {
    let sectors = u32::try_from(DISK_BYTES / SECTOR_BYTES - 1).expect("the disk has less than 2 TiB");
    ProtectiveMBR::with_lb_size(sectors)
        .overwrite_lba0(&mut disk)
        .map_err(std::io::Error::other)?;
    let partition = Partition {
        part_type_guid: partition_types::EFI,
        part_guid: PARTITION_ID,
        first_lba: PARTITION_OFFSET / SECTOR_BYTES,
        last_lba: (PARTITION_OFFSET + PARTITION_BYTES as u64) / SECTOR_BYTES - 1,
        flags: 0,
        name: PARTITION_NAME.to_owned(),
    };
    let mut table = GptConfig::new()
        .writable(true)
        .create_from_device(disk, Some(DISK_ID))
        .map_err(std::io::Error::other)?;
    table
        .update_partitions(BTreeMap::from([(1, partition)]))
        .map_err(std::io::Error::other)?;
    table.write().map_err(std::io::Error::other)?;
    Ok(())
}

/// The partition's bytes.
fn file_system(unified: &[u8], architecture: Architecture) -> std::io::Result<Vec<u8>> {
    let mut partition = vec![0; PARTITION_BYTES];
    let format = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_cluster(CLUSTER_BYTES)
        .volume_id(VOLUME_ID)
        .volume_label(VOLUME_LABEL);
    fatfs::format_volume(Cursor::new(&mut partition[..]), format)?;
    {
        let options = FsOptions::new().time_provider(&FixedTime);
        let volume = FileSystem::new(Cursor::new(&mut partition[..]), options)?;
        for folder in FOLDERS {
            volume.root_dir().create_dir(folder)?;
        }
        let mut program = volume.root_dir().create_file(architecture.boot_program())?;
        program.write_all(unified)?;
        program.flush()?;
    }
    Ok(partition)
}

/// The beginning of FAT's time, for every file.
#[derive(Debug)]
struct FixedTime;

impl TimeProvider for FixedTime {
    fn get_current_date(&self) -> Date {
        Date {
            year: 1980,
            month: 1,
            day: 1,
        }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime {
            date: self.get_current_date(),
            time: Time {
                hour: 0,
                min: 0,
                sec: 0,
                millis: 0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::{Read, Seek, SeekFrom},
        path::Path,
    };

    use fatfs::{FileSystem, FsOptions};
    use gpt::GptConfig;
    use tempfile::TempDir;

    use super::{
        Architecture, BlockList, DISK_BYTES, PARTITION_BYTES, PARTITION_NAME, PARTITION_OFFSET, architecture,
        write,
    };

    #[test]
    fn firmware_finds_the_program_on_the_disk() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("disk.raw");
        let unified: Vec<u8> = (0..3 << 20).map(|position: u32| (position % 251) as u8).collect();
        for (architecture, program) in [
            (Architecture::Amd64, "efi/boot/bootx64.efi"),
            (Architecture::Arm64, "efi/boot/bootaa64.efi"),
        ] {
            let list = write(&path, &unified, architecture).unwrap();
            assert_boots(&path, &list, program, &unified);
        }
    }

    fn assert_boots(path: &Path, list: &BlockList, name: &str, unified: &[u8]) {
        assert_eq!(fs::metadata(path).unwrap().len(), DISK_BYTES);
        assert!(list.data_bytes() < 8 << 20, "{}", list.data_bytes());

        let table = GptConfig::new().open(path).unwrap();
        assert!(table.primary_header().is_ok() && table.backup_header().is_ok());
        let partition = &table.partitions()[&1];
        assert_eq!(partition.name, PARTITION_NAME);
        assert_eq!(partition.first_lba * 512, PARTITION_OFFSET);
        assert_eq!(
            partition.last_lba * 512 + 512,
            PARTITION_OFFSET + PARTITION_BYTES as u64
        );

        let mut disk = File::open(path).unwrap();
        disk.seek(SeekFrom::Start(PARTITION_OFFSET)).unwrap();
        let mut partition = Vec::new();
        disk.take(PARTITION_BYTES as u64)
            .read_to_end(&mut partition)
            .unwrap();
        let volume = FileSystem::new(std::io::Cursor::new(partition), FsOptions::new()).unwrap();
        let mut program = Vec::new();
        let mut file = volume.root_dir().open_file(name).unwrap();
        file.read_to_end(&mut program).unwrap();
        assert!(program == unified);
    }

    #[test]
    fn a_disk_says_what_it_is_for() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("disk.raw");
        for known in [Architecture::Arm64, Architecture::Amd64] {
            write(&path, b"program", known).unwrap();
            assert_eq!(architecture(&path), known);
        }
        fs::write(&path, "no disk").unwrap();
        assert_eq!(architecture(&path), Architecture::Amd64);
    }

    #[test]
    fn the_same_program_gives_the_same_disk_in_a_sparse_file() {
        use std::os::unix::fs::MetadataExt;

        let directory = TempDir::new().unwrap();
        let (first, second) = (directory.path().join("first"), directory.path().join("second"));
        assert_eq!(
            write(&first, b"program", Architecture::Amd64).unwrap(),
            write(&second, b"program", Architecture::Amd64).unwrap()
        );
        let allocated = fs::metadata(&first).unwrap().blocks() * 512;
        assert!(allocated < 1 << 20, "{allocated} bytes are allocated");
        let other = write(&second, b"another", Architecture::Amd64).unwrap();
        assert_ne!(
            write(&first, b"program", Architecture::Amd64).unwrap().digest(),
            other.digest()
        );
    }
}
