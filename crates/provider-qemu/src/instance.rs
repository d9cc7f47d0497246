//! One instance's directory: its name, its record, and what can be seen of its life.

use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use peerpods_provider::{Instance, InstanceId, LaunchToken, OwnedInstance, Owner};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{error::QemuError, lock};

/// What every instance's name begins with.
const NAME_PREFIX: &str = "qemu-";

/// Hex digits of the token's hash in the name: with 80 bits no two tokens ever meet.
const NAME_DIGITS: usize = 20;

/// Hex digits of the hash in the tap's name, which can have 15 characters; a clash makes the launch fail.
const TAP_DIGITS: usize = 12;

/// How long the console of a VM that ended stays for people who ask why, if nobody terminates it.
const REMAINS_KEPT: Duration = Duration::from_secs(3600);

/// What an instance is; on disk before its VM starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Record {
    pub(crate) token: LaunchToken,
    pub(crate) owner: Owner,
    pub(crate) address: Ipv4Addr,
    pub(crate) phase: Phase,
}

/// How far the launch got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    /// Everything is ready for the VM's start; whether it started, the file `alive` knows.
    Prepared,
    /// The VM has run.
    Started,
}

/// What can be seen of an instance.
#[derive(Debug)]
pub(crate) enum Presence {
    /// Nothing.
    Absent,
    /// What a crash or a failed launch left; no VM ever ran.
    Unfinished,
    /// A VM whose launch was cut off before it was known to run.
    Starting(Record),
    /// A running VM.
    Alive(Record),
    /// A VM that ran and ended.
    Ended(Record),
}

/// The directory of one instance.
#[derive(Clone, Debug)]
pub(crate) struct InstanceDirectory {
    name: String,
    path: PathBuf,
}

impl InstanceDirectory {
    /// The directory for a token.
    pub(crate) fn of_token(state_dir: &Path, token: &LaunchToken) -> Self {
        let digest = hex::encode(Sha256::digest(token.as_str()));
        let name = format!("{NAME_PREFIX}{}", &digest[..NAME_DIGITS]);
        Self {
            path: state_dir.join(&name),
            name,
        }
    }

    /// The directory of an id, if it can be one of ours.
    pub(crate) fn of_id(state_dir: &Path, id: &InstanceId) -> Option<Self> {
        let digits = id.as_str().strip_prefix(NAME_PREFIX)?;
        let is_ours = digits.len() == NAME_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_ours.then(|| Self {
            path: state_dir.join(id.as_str()),
            name: id.as_str().to_owned(),
        })
    }

    /// All that are there, sorted.
    pub(crate) fn all(state_dir: &Path) -> Result<Vec<Self>, QemuError> {
        let failed = || QemuError::file("read", state_dir);
        let mut found = Vec::new();
        for entry in fs::read_dir(state_dir).map_err(failed())? {
            let name = entry
                .map_err(failed())?
                .file_name()
                .to_string_lossy()
                .into_owned();
            found.extend(Self::of_id(state_dir, &InstanceId::new(name)));
        }
        found.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(found)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn alive(&self) -> PathBuf {
        self.path.join("alive")
    }

    pub(crate) fn console(&self) -> PathBuf {
        self.path.join("console.log")
    }

    pub(crate) fn qemu_log(&self) -> PathBuf {
        self.path.join("qemu.log")
    }

    pub(crate) fn user_data(&self) -> PathBuf {
        self.path.join("user-data")
    }

    /// The name of the VM's tap device.
    pub(crate) fn tap(&self) -> String {
        format!("pp{}", &self.name[NAME_PREFIX.len()..][..TAP_DIGITS])
    }

    /// What can be seen of the instance. Only for holders of the state lock.
    pub(crate) fn presence(&self) -> Result<Presence, QemuError> {
        let held = lock::is_held(&self.alive())?;
        let record = match (self.read_record(), held) {
            (Ok(Some(record)), _) => record,
            (Ok(None), _) if !self.path.exists() => return Ok(Presence::Absent),
            // Without a VM a damaged record is litter; with one it is a mystery that must not be cleaned away.
            (Ok(None) | Err(QemuError::Damaged { .. }), false) => return Ok(Presence::Unfinished),
            (Ok(None), true) => {
                return Err(QemuError::file("find the record in", &self.path)(
                    io::ErrorKind::NotFound.into(),
                ));
            }
            (Err(error), _) => return Err(error),
        };
        Ok(match (record.phase, held) {
            (Phase::Started, true) => Presence::Alive(record),
            (Phase::Started, false) => Presence::Ended(record),
            (Phase::Prepared, true) => Presence::Starting(record),
            (Phase::Prepared, false) => Presence::Unfinished,
        })
    }

    fn read_record(&self) -> Result<Option<Record>, QemuError> {
        let path = self.path.join("record.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| QemuError::Damaged { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(QemuError::file("read", path)(error)),
        }
    }

    /// Writes the record; a crash leaves the old one or the new one.
    pub(crate) fn write_record(&self, record: &Record) -> Result<(), QemuError> {
        let path = self.path.join("record.json");
        let partial = self.path.join("record.partial");
        let bytes = serde_json::to_vec(record).expect("a record is plain data");
        fs::write(&partial, bytes).map_err(QemuError::file("write", &partial))?;
        fs::rename(&partial, &path).map_err(QemuError::file("write", &path))
    }

    /// Removes the boot payload: it holds a secret, and is of no use once QEMU has read it.
    pub(crate) fn remove_user_data(&self) -> Result<(), QemuError> {
        let path = self.user_data();
        unless_absent(fs::remove_file(&path)).map_err(QemuError::file("remove", path))
    }

    /// Removes the directory and all in it.
    pub(crate) fn remove(&self) -> Result<(), QemuError> {
        unless_absent(fs::remove_dir_all(&self.path)).map_err(QemuError::file("remove", &self.path))
    }

    /// Whether the remains of an ended VM have been kept long enough.
    pub(crate) fn is_stale(&self) -> bool {
        let written = fs::metadata(self.console()).and_then(|metadata| metadata.modified());
        let age = written.map(|written| SystemTime::now().duration_since(written).unwrap_or_default());
        age.is_ok_and(|age| age > REMAINS_KEPT)
    }

    pub(crate) fn instance(&self, record: &Record) -> Instance {
        Instance {
            id: InstanceId::new(self.name.as_str()),
            addresses: vec![record.address.into()],
        }
    }

    pub(crate) fn owned(&self, record: Record) -> OwnedInstance {
        OwnedInstance {
            instance: self.instance(&record),
            token: record.token,
            owner: record.owner,
        }
    }
}

/// Removing what is not there has succeeded.
fn unless_absent(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            Ok(())
        } else {
            Err(error)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use peerpods_provider::{InstanceId, LaunchToken, conformance::request};
    use tempfile::TempDir;

    use super::{InstanceDirectory, Phase, Presence, Record};
    use crate::lock;

    fn prepared(state: &TempDir) -> (InstanceDirectory, Record) {
        let request = request("one", "node-a");
        let directory = InstanceDirectory::of_token(state.path(), &request.token);
        fs::create_dir(directory.path()).unwrap();
        let record = Record {
            token: request.token,
            owner: request.owner,
            address: [10, 0, 0, 1].into(),
            phase: Phase::Prepared,
        };
        directory.write_record(&record).unwrap();
        (directory, record)
    }

    #[test]
    fn a_token_always_gives_the_same_directory_and_an_id_finds_it() {
        let state = TempDir::new().unwrap();
        let (directory, record) = prepared(&state);
        let id = directory.instance(&record).id;
        assert_eq!(
            InstanceDirectory::of_id(state.path(), &id).unwrap().path(),
            directory.path()
        );
        assert_eq!(InstanceDirectory::all(state.path()).unwrap().len(), 1);
        let other = LaunchToken::try_from("other".to_owned()).unwrap();
        assert_ne!(
            InstanceDirectory::of_token(state.path(), &other).path(),
            directory.path()
        );
        assert!(directory.tap().len() <= 15);
    }

    #[test]
    fn an_id_that_is_not_ours_names_no_path() {
        for id in [
            "i-0abc",
            "qemu-",
            "qemu-../../../../etc/pass",
            "qemu-0123456789012345678g",
        ] {
            assert!(
                InstanceDirectory::of_id("/run".as_ref(), &InstanceId::new(id)).is_none(),
                "{id}"
            );
        }
    }

    #[test]
    fn the_lock_and_the_record_tell_the_presence() {
        let state = TempDir::new().unwrap();
        let (directory, mut record) = prepared(&state);
        assert!(matches!(directory.presence().unwrap(), Presence::Unfinished));

        let held = lock::claim(&directory.alive()).unwrap().unwrap();
        assert!(matches!(directory.presence().unwrap(), Presence::Starting(found) if found == record));
        record.phase = Phase::Started;
        directory.write_record(&record).unwrap();
        assert!(matches!(directory.presence().unwrap(), Presence::Alive(found) if found == record));

        drop(held);
        assert!(matches!(directory.presence().unwrap(), Presence::Ended(found) if found == record));
        directory.remove().unwrap();
        directory.remove().unwrap();
        assert!(matches!(directory.presence().unwrap(), Presence::Absent));
    }

    #[test]
    fn half_a_directory_is_unfinished_unless_a_vm_holds_it() {
        let state = TempDir::new().unwrap();
        let (directory, _) = prepared(&state);
        fs::write(directory.path().join("record.json"), "{\"token\":").unwrap();
        assert!(matches!(directory.presence().unwrap(), Presence::Unfinished));
        fs::remove_file(directory.path().join("record.json")).unwrap();
        assert!(matches!(directory.presence().unwrap(), Presence::Unfinished));
        let _held = lock::claim(&directory.alive()).unwrap().unwrap();
        assert!(directory.presence().is_err());
    }
}
