//! One instance's directory: its name, its record, and what can be seen of its life.

use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use peerpods_provider::{Instance, InstanceId, LaunchToken, OwnedInstance, Owner};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    CONSOLE, NamespacesSettings, USER_DATA,
    cgroup::Cgroup,
    error::{NamespacesError, unless_absent},
};

/// What every instance's name begins with.
const NAME_PREFIX: &str = "ns-";
/// Hex digits of the token's hash in the name: with 80 bits no two tokens ever meet.
const NAME_DIGITS: usize = 20;
/// Hex digits of the hash in the device's name, which can have 15 characters; a clash makes the launch fail.
const DEVICE_DIGITS: usize = 12;
const RECORD: &str = "record.json";
/// How much of a console a person is shown, in bytes.
const TAIL_LIMIT: usize = 8 << 10;

/// What an instance is; on disk before its launcher starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Record {
    pub(crate) token: LaunchToken,
    pub(crate) owner: Owner,
    pub(crate) address: Ipv4Addr,
}

/// What can be seen of an instance.
#[derive(Debug)]
pub(crate) enum Presence {
    /// Nothing.
    Absent,
    /// What a crash or a failed launch left; no guest ever ran.
    Unfinished,
    /// Its guest runs.
    Alive(Record),
    /// Its guest ran and ended.
    Ended(Record),
}

/// The directory of one instance, and its control group.
#[derive(Clone, Debug)]
pub(crate) struct InstanceDirectory {
    name: String,
    path: PathBuf,
    pub(crate) cgroup: Cgroup,
}

impl InstanceDirectory {
    fn named(settings: &NamespacesSettings, name: String) -> Self {
        Self {
            path: settings.state_dir.join(&name),
            cgroup: Cgroup::new(settings.cgroup.join(&name)),
            name,
        }
    }

    /// The directory for a token.
    pub(crate) fn of_token(settings: &NamespacesSettings, token: &LaunchToken) -> Self {
        let digest = hex::encode(Sha256::digest(token.as_str()));
        Self::named(settings, format!("{NAME_PREFIX}{}", &digest[..NAME_DIGITS]))
    }

    /// The directory of an id, if it can be one of ours.
    pub(crate) fn of_id(settings: &NamespacesSettings, id: &InstanceId) -> Option<Self> {
        let digits = id.as_str().strip_prefix(NAME_PREFIX)?;
        let is_ours = digits.len() == NAME_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_ours.then(|| Self::named(settings, id.as_str().to_owned()))
    }

    /// All that are there, sorted.
    pub(crate) fn all(settings: &NamespacesSettings) -> Result<Vec<Self>, NamespacesError> {
        let failed = || NamespacesError::file("list", &settings.state_dir);
        let mut found = Vec::new();
        for entry in fs::read_dir(&settings.state_dir).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            let id = InstanceId::new(name.to_string_lossy());
            found.extend(Self::of_id(settings, &id));
        }
        found.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(found)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the guest's device on the bridge.
    pub(crate) fn device(&self) -> String {
        format!("pn{}", &self.name[NAME_PREFIX.len()..][..DEVICE_DIGITS])
    }

    /// What can be seen of the instance. Only for holders of the state lock.
    pub(crate) fn presence(&self) -> Result<Presence, NamespacesError> {
        let started = self.path.join(CONSOLE).exists();
        match (self.read_record()?, self.cgroup.is_populated()?) {
            (Some(record), true) => Ok(Presence::Alive(record)),
            (None, true) => Err(NamespacesError::NoRecord(self.cgroup.path().to_owned())),
            (Some(record), false) if started => Ok(Presence::Ended(record)),
            (_, false) if self.path.exists() => Ok(Presence::Unfinished),
            (_, false) => Ok(Presence::Absent),
        }
    }

    fn read_record(&self) -> Result<Option<Record>, NamespacesError> {
        let path = self.path.join(RECORD);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| NamespacesError::Damaged { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(NamespacesError::file("read", path)(error)),
        }
    }

    /// Writes the record; a crash leaves none or all of it.
    pub(crate) fn write_record(&self, record: &Record) -> Result<(), NamespacesError> {
        let (path, partial) = (self.path.join(RECORD), self.path.join("record.partial"));
        let bytes = serde_json::to_vec(record).expect("a record is plain data");
        fs::write(&partial, bytes)
            .and_then(|()| fs::rename(&partial, &path))
            .map_err(NamespacesError::file("write", path))
    }

    /// Removes the boot payload: it holds a secret, and the guest has its copy.
    pub(crate) fn remove_user_data(&self) -> Result<(), NamespacesError> {
        let path = self.path.join(USER_DATA);
        unless_absent(fs::remove_file(&path)).map_err(NamespacesError::file("remove", path))
    }

    /// Removes all of an instance that has no processes.
    pub(crate) fn remove(&self) -> Result<(), NamespacesError> {
        self.cgroup.remove()?;
        unless_absent(fs::remove_dir_all(&self.path)).map_err(NamespacesError::file("remove", &self.path))
    }

    /// The end of a log in the directory; empty when it is not there.
    pub(crate) fn tail(&self, log: &str) -> String {
        let text = fs::read(self.path.join(log)).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(TAIL_LIMIT)..];
        String::from_utf8_lossy(tail).trim_end().to_owned()
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
