//! A snapshot as the disk that it is of, from the blocks that EBS holds.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use serde_json::Value;

use super::account::Account;

/// The size of EBS's blocks; moto tells another one.
const BLOCK_BYTES: u64 = 512 << 10;
const GIB: u64 = 1 << 30;

/// Writes the disk to `path`, with holes where the snapshot has no blocks.
///
/// # Errors
/// The file cannot be written, or the snapshot is none.
pub(super) fn restore(account: &Account, snapshot: &str, path: &Path) -> io::Result<()> {
    let listed: Value = serde_json::from_slice(&account.ask_ebs(&format!("/snapshots/{snapshot}/blocks"))?)?;
    let unlike = || io::Error::other(format!("moto does not list the blocks of {snapshot}: {listed}"));
    let file = File::create(path)?;
    file.set_len(listed["VolumeSize"].as_u64().ok_or_else(unlike)? * GIB)?;
    for block in listed["Blocks"].as_array().ok_or_else(unlike)? {
        let index = block["BlockIndex"].as_u64().ok_or_else(unlike)?;
        let token = block["BlockToken"].as_str().ok_or_else(unlike)?;
        let content = account.ask_ebs(&format!(
            "/snapshots/{snapshot}/blocks/{index}?blockToken={token}"
        ))?;
        file.write_all_at(&content, index * BLOCK_BYTES)?;
    }
    Ok(())
}
