//! What the adaptor must not forget: one record per sandbox, durable before anything is done about it.

use std::{fs, os::unix::fs::DirBuilderExt, path::Path, path::PathBuf, sync::Arc};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::sandbox::{Record, SandboxId};

/// Sandbox id to [`Record`] in JSON.
const SANDBOXES: TableDefinition<&str, &[u8]> = TableDefinition::new("sandboxes");
/// The database's file in the journal's folder.
const FILE: &str = "sandboxes.redb";
/// Records hold keys: nobody but root reads them.
const FOLDER_MODE: u32 = 0o700;

/// The journal of this node. A clone is the same journal.
#[derive(Clone)]
pub(crate) struct Journal {
    database: Arc<Database>,
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
    #[error("the journal's record of sandbox {sandbox} cannot be read")]
    Record {
        sandbox: String,
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
        journal.change("prepare", |_| Ok(()))?;
        Ok(journal)
    }

    /// All records; one that cannot be read is an error, because it may stand for a VM.
    pub(crate) fn read(&self) -> Result<Vec<Record>, JournalError> {
        let failed = "read";
        let transaction = self.database.begin_read().map_err(JournalError::of(failed))?;
        let table = transaction
            .open_table(SANDBOXES)
            .map_err(JournalError::of(failed))?;
        let mut records = Vec::new();
        for entry in table.iter().map_err(JournalError::of(failed))? {
            let (sandbox, record) = entry.map_err(JournalError::of(failed))?;
            let record = serde_json::from_slice(record.value()).map_err(|source| JournalError::Record {
                sandbox: sandbox.value().to_owned(),
                source,
            })?;
            records.push(record);
        }
        Ok(records)
    }

    /// Writes the record of a sandbox; durable on return.
    pub(crate) async fn put(&self, record: &Record) -> Result<(), JournalError> {
        let sandbox = record.plan.sandbox.clone();
        let json = zeroize::Zeroizing::new(serde_json::to_vec(record).expect("a record is plain data"));
        self.blocking(move |journal| {
            journal.change("write", |table| {
                table.insert(sandbox.as_str(), json.as_slice()).map(drop)
            })
        })
        .await
    }

    /// Forgets a sandbox; durable on return.
    pub(crate) async fn remove(&self, sandbox: &SandboxId) -> Result<(), JournalError> {
        let sandbox = sandbox.clone();
        self.blocking(move |journal| {
            journal.change("write", |table| table.remove(sandbox.as_str()).map(drop))
        })
        .await
    }

    async fn blocking(
        &self,
        work: impl FnOnce(Self) -> Result<(), JournalError> + Send + 'static,
    ) -> Result<(), JournalError> {
        let journal = self.clone();
        tokio::task::spawn_blocking(move || work(journal))
            .await
            .expect("writing the journal does not panic")
    }

    fn change(
        &self,
        action: &'static str,
        work: impl FnOnce(&mut redb::Table<'_, &str, &[u8]>) -> Result<(), redb::StorageError>,
    ) -> Result<(), JournalError> {
        let transaction = self.database.begin_write().map_err(JournalError::of(action))?;
        {
            let mut table = transaction
                .open_table(SANDBOXES)
                .map_err(JournalError::of(action))?;
            work(&mut table).map_err(JournalError::of(action))?;
        }
        transaction.commit().map_err(JournalError::of(action))
    }
}
