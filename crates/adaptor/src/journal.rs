//! What the adaptor must not forget: one record per sandbox and per warm VM, durable before anything is done about it.

use std::{fs, os::unix::fs::DirBuilderExt, path::Path, path::PathBuf, sync::Arc};

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::de::DeserializeOwned;

use crate::{
    peer_pods::ObjectKey,
    sandbox::{Record, SandboxId, State},
    warm::Member,
};

type Table = TableDefinition<'static, &'static str, &'static [u8]>;

/// Sandbox id to [`Record`] in JSON.
const SANDBOXES: Table = TableDefinition::new("sandboxes");
/// [`Member::key`] to [`Member`] in JSON.
const WARM: Table = TableDefinition::new("warm-vms");
/// Namespace and name of an object that is to be let go to [`ObjectKey`] in JSON.
const RELEASES: Table = TableDefinition::new("peer-pod-releases");
/// The database's file in the journal's folder.
const FILE: &str = "sandboxes.redb";
/// Records hold keys: nobody but root reads them.
const FOLDER_MODE: u32 = 0o700;

/// The journal of this node. A clone is the same journal.
#[derive(Clone)]
pub(crate) struct Journal {
    database: Arc<Database>,
}

/// Everything in the journal, as of one moment.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) sandboxes: Vec<Record>,
    pub(crate) warm: Vec<Member>,
}

/// The journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error("cannot make the journal's folder {path}")]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("cannot {action} the journal")]
    Database {
        action: &'static str,
        source: Box<redb::Error>,
    },
    #[error("the journal's record of {subject} cannot be read")]
    Record {
        subject: String,
        source: serde_json::Error,
    },
}

impl JournalError {
    fn of<E: Into<redb::Error>>(action: &'static str) -> impl Fn(E) -> Self {
        move |error| Self::Database {
            action,
            source: Box::new(error.into()),
        }
    }
}

impl Journal {
    /// Opens the journal in `folder`, making both where they are missing. One process at a time.
    pub(crate) fn open(folder: &Path) -> Result<Self, JournalError> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(folder);
        made.map_err(|source| JournalError::Folder {
            path: folder.to_owned(),
            source,
        })?;
        let database = Database::create(folder.join(FILE)).map_err(JournalError::of("open"))?;
        let journal = Self {
            database: Arc::new(database),
        };
        journal.change("prepare", |transaction| {
            for table in [SANDBOXES, WARM, RELEASES] {
                transaction.open_table(table)?;
            }
            Ok(())
        })?;
        Ok(journal)
    }

    /// All records; one that cannot be read is an error, because it may stand for a VM.
    pub(crate) fn read(&self) -> Result<Contents, JournalError> {
        let transaction = self.database.begin_read().map_err(JournalError::of("read"))?;
        Ok(Contents {
            sandboxes: read_table(&transaction, SANDBOXES)?,
            warm: read_table(&transaction, WARM)?,
        })
    }

    /// Writes the record of a sandbox; durable on return. A warm VM that it claims is the pool's no more, at once.
    pub(crate) async fn put(&self, record: &Record) -> Result<(), JournalError> {
        let sandbox = record.plan.sandbox.clone();
        let claimed = match &record.state {
            State::Claiming { warm, .. } => Some(warm.instance.id.clone()),
            _ => None,
        };
        let json = zeroize::Zeroizing::new(serde_json::to_vec(record).expect("a record is plain data"));
        self.blocking(move |transaction| {
            let mut sandboxes = transaction.open_table(SANDBOXES)?;
            sandboxes.insert(sandbox.as_str(), json.as_slice())?;
            if let Some(id) = &claimed {
                transaction.open_table(WARM)?.remove(id.as_str())?;
            }
            Ok(())
        })
        .await
    }

    /// Forgets a sandbox; durable on return.
    pub(crate) async fn remove(&self, sandbox: &SandboxId) -> Result<(), JournalError> {
        let sandbox = sandbox.clone();
        self.blocking(move |transaction| {
            transaction.open_table(SANDBOXES)?.remove(sandbox.as_str())?;
            Ok(())
        })
        .await
    }

    /// Writes the record of a launch of warm VMs; durable on return.
    pub(crate) async fn put_warm(&self, member: &Member) -> Result<(), JournalError> {
        self.replace_warm(member, std::slice::from_ref(member)).await
    }

    /// Writes what became of the record `old`, in its place; durable on return.
    pub(crate) async fn replace_warm(&self, old: &Member, new: &[Member]) -> Result<(), JournalError> {
        let old = old.key().to_owned();
        let json = |member| serde_json::to_vec(member).expect("a record is plain data");
        let new: Vec<(String, zeroize::Zeroizing<Vec<u8>>)> = new
            .iter()
            .map(|member| (member.key().to_owned(), json(member).into()))
            .collect();
        self.blocking(move |transaction| {
            let mut warm = transaction.open_table(WARM)?;
            warm.remove(old.as_str())?;
            for (key, json) in &new {
                warm.insert(key.as_str(), json.as_slice())?;
            }
            Ok(())
        })
        .await
    }

    /// Forgets a warm VM, or the launch of some; durable on return.
    pub(crate) async fn remove_warm(&self, member: &Member) -> Result<(), JournalError> {
        self.replace_warm(member, &[]).await
    }

    /// The objects of the cluster that are to be let go.
    pub(crate) fn releases(&self) -> Result<Vec<ObjectKey>, JournalError> {
        let transaction = self.database.begin_read().map_err(JournalError::of("read"))?;
        read_table(&transaction, RELEASES)
    }

    /// Notes that an object is to be let go; durable on return.
    pub(crate) async fn put_release(&self, object: &ObjectKey) -> Result<(), JournalError> {
        let key = object.to_string();
        let json = serde_json::to_vec(object).expect("a key is plain data");
        self.blocking(move |transaction| {
            let mut releases = transaction.open_table(RELEASES)?;
            releases.insert(key.as_str(), json.as_slice())?;
            Ok(())
        })
        .await
    }

    /// Forgets an object that was let go; durable on return.
    pub(crate) async fn remove_release(&self, object: &ObjectKey) -> Result<(), JournalError> {
        let key = object.to_string();
        self.blocking(move |transaction| {
            transaction.open_table(RELEASES)?.remove(key.as_str())?;
            Ok(())
        })
        .await
    }

    async fn blocking(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error> + Send + 'static,
    ) -> Result<(), JournalError> {
        let journal = self.clone();
        tokio::task::spawn_blocking(move || journal.change("write", work))
            .await
            .expect("writing the journal does not panic")
    }

    fn change(
        &self,
        action: &'static str,
        work: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), JournalError> {
        let transaction = self.database.begin_write().map_err(JournalError::of(action))?;
        work(&transaction).map_err(JournalError::of(action))?;
        transaction.commit().map_err(JournalError::of(action))
    }
}

fn read_table<T: DeserializeOwned>(
    transaction: &ReadTransaction,
    table: Table,
) -> Result<Vec<T>, JournalError> {
    let failed = "read";
    let table = transaction.open_table(table).map_err(JournalError::of(failed))?;
    let mut records = Vec::new();
    for entry in table.iter().map_err(JournalError::of(failed))? {
        let (key, record) = entry.map_err(JournalError::of(failed))?;
        let record = serde_json::from_slice(record.value()).map_err(|source| JournalError::Record {
            subject: key.value().to_owned(),
            source,
        })?;
        records.push(record);
    }
    Ok(records)
}
