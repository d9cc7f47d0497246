//! The files of an instance's directory.

use std::{
    fs,
    io::{self, Write},
    net::Ipv4Addr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

use super::LocalError;

const RECORD: &str = "record.json";
const PARTIAL_RECORD: &str = "record.partial";

/// Makes a directory that only this user can enter, and those above it; one that is there stays.
pub fn make_private_directory(path: &Path) -> Result<(), LocalError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(LocalError::file("make", path))
}

/// Writes a new file that only this user can read; refused where there is one.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), LocalError> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(LocalError::file("write", path))
}

/// What a local guest is told of its network, as JSON. `mac` is for a device that may have another.
pub fn network_document(
    address: Ipv4Addr,
    prefix_length: u8,
    gateway: Ipv4Addr,
    mtu: u32,
    mac: Option<&str>,
) -> String {
    let mut document =
        serde_json::json!({"address": format!("{address}/{prefix_length}"), "gateway": gateway, "mtu": mtu});
    if let Some(mac) = mac {
        document["mac"] = mac.into();
    }
    document.to_string()
}

/// The record in an instance's directory, if there is one.
pub fn read_record<R: DeserializeOwned>(directory: &Path) -> Result<Option<R>, LocalError> {
    let path = directory.join(RECORD);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| LocalError::Damaged { path, source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LocalError::file("read", path)(error)),
    }
}

/// Writes the record, which is plain data; a crash leaves the old one or the new one.
pub fn write_record<R: Serialize>(directory: &Path, record: &R) -> Result<(), LocalError> {
    let (path, partial) = (directory.join(RECORD), directory.join(PARTIAL_RECORD));
    let bytes = serde_json::to_vec(record).expect("a record is plain data");
    fs::write(&partial, bytes)
        .and_then(|()| fs::rename(&partial, &path))
        .map_err(LocalError::file("write", path))
}

/// Removes a file, if it is there.
pub fn remove_file(path: &Path) -> Result<(), LocalError> {
    unless_absent(fs::remove_file(path)).map_err(LocalError::file("remove", path))
}

/// Removes a directory and all in it, if it is there.
pub fn remove_directory(path: &Path) -> Result<(), LocalError> {
    unless_absent(fs::remove_dir_all(path)).map_err(LocalError::file("remove", path))
}

fn unless_absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde::{Deserialize, Serialize};

    use super::{LocalError, make_private_directory, read_record, remove_directory, write_record};

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Record {
        phase: String,
    }

    #[test]
    fn a_record_is_read_as_written_and_a_damaged_one_is_told() {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join("instance");
        make_private_directory(&directory).unwrap();
        assert_eq!(read_record::<Record>(&directory).unwrap(), None);
        for phase in ["prepared", "started"] {
            let record = Record {
                phase: phase.to_owned(),
            };
            write_record(&directory, &record).unwrap();
            assert_eq!(read_record(&directory).unwrap(), Some(record));
        }
        fs::write(directory.join("record.json"), "{\"phase\":").unwrap();
        assert!(matches!(
            read_record::<Record>(&directory),
            Err(LocalError::Damaged { .. })
        ));
        remove_directory(&directory).unwrap();
        remove_directory(&directory).unwrap();
    }
}
