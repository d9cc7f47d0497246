//! The empty file system that the guest carries is what `mke2fs` makes: it can be made again by anybody.
//!
//! To change it, change the arguments here, and run this test with `PEERPODS_WRITE_SEED=1`.
#![allow(clippy::unwrap_used)] // A test stops where its bed fails.

use std::{env, fs, path::Path, process::Command};

const SEED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/scratch/seed.zst");
const FILE_SYSTEM_BYTES: u64 = 16 << 20;
const BLOCK_BYTES: usize = 4096;
/// Any that is not random: file systems of different VMs never meet.
const IDENTITY: &str = "70656572-706f-4473-a000-736372617463";
/// All of them, so that no version of `mke2fs` adds others. None keeps a journal or checksums of what is lost with the VM.
/// `meta_bg` lets the file system grow without a limit, `uninit_bg` without every inode being written; by `project` folders
/// have limits.
const FEATURES: &str = "none,64bit,dir_index,dir_nlink,ext_attr,extent,extra_isize,filetype,flex_bg,huge_file,large_file,\
                        meta_bg,project,quota,sparse_super,uninit_bg";
/// The best that zstd has: it is done once, and by hand.
const COMPRESSION_LEVEL: i32 = 22;

fn make(image: &Path) {
    fs::File::create(image)
        .unwrap()
        .set_len(FILE_SYSTEM_BYTES)
        .unwrap();
    let extended =
        format!("hash_seed={IDENTITY},nodiscard,lazy_itable_init=1,root_owner=0:0,quotatype=prjquota");
    let made = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256"])
        // One inode for 16 KiB, as a group of 128 MiB has when it is full; no blocks for root alone.
        .args(["-N", "8192", "-m", "0"])
        .args(["-O", FEATURES, "-U", IDENTITY, "-E", &extended])
        .arg(image)
        .env("E2FSPROGS_FAKE_TIME", "1000000000")
        // The machine's own defaults do not count.
        .env("MKE2FS_CONFIG", "/dev/null")
        .output()
        .expect("mke2fs is there: it is of the package e2fsprogs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// The blocks that hold anything, each after its number.
fn seed_of(image: &[u8]) -> Vec<u8> {
    let blocks = (0_u32..).zip(image.chunks(BLOCK_BYTES));
    blocks
        .filter(|(_, block)| block.iter().any(|byte| *byte != 0))
        .flat_map(|(number, block)| [&number.to_le_bytes(), block].concat())
        .collect()
}

#[test]
fn the_seed_is_what_mke2fs_makes() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("file-system");
    make(&image);
    let made = seed_of(&fs::read(&image).unwrap());
    if env::var_os("PEERPODS_WRITE_SEED").is_some() {
        fs::write(SEED, zstd::bulk::compress(&made, COMPRESSION_LEVEL).unwrap()).unwrap();
    }
    let kept = zstd::bulk::decompress(&fs::read(SEED).unwrap(), made.len()).unwrap();
    assert!(made == kept, "mke2fs makes something else than {SEED} holds");
}
