//! One instance's directory: its name, its record, and what can be seen of its life.

use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use peerpods_provider::{
    Instance, InstanceId, LaunchToken, OwnedInstance, Owner,
    local::{self, InstanceName, LocalError, Names},
};
use serde::{Deserialize, Serialize};

use crate::{
    error::QemuError,
    lock,
    machine::ENTROPY_FILE,
    spawn::{ALIVE, CONSOLE, QEMU_LOG},
};

/// How instances are named.
const NAMES: Names = Names { prefix: "qemu" };

/// What the names of tap devices begin with.
const TAP_PREFIX: &str = "pp";

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
    name: InstanceName,
    path: PathBuf,
}

impl InstanceDirectory {
    fn named(state_dir: &Path, name: InstanceName) -> Self {
        Self {
            path: name.path(state_dir),
            name,
        }
    }

    /// The directory for a token.
    pub(crate) fn of_token(state_dir: &Path, token: &LaunchToken) -> Self {
        Self::named(state_dir, NAMES.of_token(token))
    }

    /// The directory of an id, if it can be one of ours.
    pub(crate) fn of_id(state_dir: &Path, id: &InstanceId) -> Option<Self> {
        NAMES.of_id(id).map(|name| Self::named(state_dir, name))
    }

    /// All that are there, sorted.
    pub(crate) fn all(state_dir: &Path) -> Result<Vec<Self>, QemuError> {
        let names = NAMES.all(state_dir)?;
        Ok(names
            .into_iter()
            .map(|name| Self::named(state_dir, name))
            .collect())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn alive(&self) -> PathBuf {
        self.path.join(ALIVE)
    }

    pub(crate) fn console(&self) -> PathBuf {
        self.path.join(CONSOLE)
    }

    pub(crate) fn qemu_log(&self) -> PathBuf {
        self.path.join(QEMU_LOG)
    }

    pub(crate) fn user_data(&self) -> PathBuf {
        self.path.join(local::USER_DATA)
    }

    /// The name of the VM's tap device.
    pub(crate) fn tap(&self) -> String {
        self.name.device(TAP_PREFIX)
    }

    /// What can be seen of the instance. Only for holders of the state lock.
    pub(crate) fn presence(&self) -> Result<Presence, QemuError> {
        let held = lock::is_held(&self.alive())?;
        let record = match (local::read_record::<Record>(&self.path), held) {
            (Ok(Some(record)), _) => record,
            (Ok(None), _) if !self.path.exists() => return Ok(Presence::Absent),
            // Without a VM a damaged record is litter; with one it is a mystery that must not be cleaned away.
            (Ok(None) | Err(LocalError::Damaged { .. }), false) => return Ok(Presence::Unfinished),
            (Ok(None), true) => {
                return Err(QemuError::file("find the record in", &self.path)(
                    io::ErrorKind::NotFound.into(),
                ));
            }
            (Err(error), _) => return Err(error.into()),
        };
        Ok(match (record.phase, held) {
            (Phase::Started, true) => Presence::Alive(record),
            (Phase::Started, false) => Presence::Ended(record),
            (Phase::Prepared, true) => Presence::Starting(record),
            (Phase::Prepared, false) => Presence::Unfinished,
        })
    }

    /// Writes the record; a crash leaves the old one or the new one.
    pub(crate) fn write_record(&self, record: &Record) -> Result<(), QemuError> {
        Ok(local::write_record(&self.path, record)?)
    }

    /// Removes the boot payload and the random bytes: they are secrets, and of no use once QEMU has read them.
    pub(crate) fn remove_user_data(&self) -> Result<(), QemuError> {
        local::remove_file(&self.user_data())?;
        Ok(local::remove_file(&self.path.join(ENTROPY_FILE))?)
    }

    /// Removes the directory and all in it.
    pub(crate) fn remove(&self) -> Result<(), QemuError> {
        Ok(local::remove_directory(&self.path)?)
    }

    /// Whether the remains of an ended VM have been kept long enough.
    pub(crate) fn is_stale(&self) -> bool {
        let written = fs::metadata(self.console()).and_then(|metadata| metadata.modified());
        let age = written.map(|written| SystemTime::now().duration_since(written).unwrap_or_default());
        age.is_ok_and(|age| age > REMAINS_KEPT)
    }

    pub(crate) fn instance(&self, record: &Record) -> Instance {
        self.name.instance(record.address)
    }

    pub(crate) fn owned(&self, record: Record) -> OwnedInstance {
        OwnedInstance {
            instance: self.instance(&record),
            token: record.token,
            owner: record.owner,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use peerpods_provider::conformance::request;
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
