//! One instance's directory: its name, its record, and what can be seen of its life.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use peerpods_provider::{
    Instance, InstanceId, LaunchToken, OwnedInstance, Owner,
    local::{self, InstanceName, Names},
};
use serde::{Deserialize, Serialize};

use crate::{CONSOLE, NamespacesSettings, cgroup::Cgroup, error::NamespacesError};

/// How instances are named.
const NAMES: Names = Names { prefix: "ns" };

/// What the names of guests' network devices begin with.
const DEVICE_PREFIX: &str = "pn";

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
    name: InstanceName,
    path: PathBuf,
    pub(crate) cgroup: Cgroup,
}

impl InstanceDirectory {
    fn named(settings: &NamespacesSettings, name: InstanceName) -> Self {
        Self {
            path: name.path(&settings.state_dir),
            cgroup: Cgroup::new(settings.cgroup.join(name.to_string())),
            name,
        }
    }

    /// The directory for a token.
    pub(crate) fn of_token(settings: &NamespacesSettings, token: &LaunchToken) -> Self {
        Self::named(settings, NAMES.of_token(token))
    }

    /// The directory of an id, if it can be one of ours.
    pub(crate) fn of_id(settings: &NamespacesSettings, id: &InstanceId) -> Option<Self> {
        NAMES.of_id(id).map(|name| Self::named(settings, name))
    }

    /// All that are there, sorted.
    pub(crate) fn all(settings: &NamespacesSettings) -> Result<Vec<Self>, NamespacesError> {
        let names = NAMES.all(&settings.state_dir)?;
        Ok(names
            .into_iter()
            .map(|name| Self::named(settings, name))
            .collect())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the guest's device on the bridge.
    pub(crate) fn device(&self) -> String {
        self.name.device(DEVICE_PREFIX)
    }

    /// What can be seen of the instance. Only for holders of the state lock.
    pub(crate) fn presence(&self) -> Result<Presence, NamespacesError> {
        let started = self.path.join(CONSOLE).exists();
        match (local::read_record(&self.path)?, self.cgroup.is_populated()?) {
            (Some(record), true) => Ok(Presence::Alive(record)),
            (None, true) => Err(NamespacesError::NoRecord(self.cgroup.path().to_owned())),
            (Some(record), false) if started => Ok(Presence::Ended(record)),
            (_, false) if self.path.exists() => Ok(Presence::Unfinished),
            (_, false) => Ok(Presence::Absent),
        }
    }

    /// Removes all of an instance that has no processes.
    pub(crate) fn remove(&self) -> Result<(), NamespacesError> {
        self.cgroup.remove()?;
        Ok(local::remove_directory(&self.path)?)
    }

    /// The end of a log in the directory; empty when it is not there.
    pub(crate) fn tail(&self, log: &str) -> String {
        local::tail(&self.path.join(log)).trim_end().to_owned()
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
