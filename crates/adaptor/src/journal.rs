//! What the adaptor must not forget: one record per sandbox and per warm VM, durable before anything is done about it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
    WriteTransaction, backends::FileBackend,
};
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
/// As its folder's.
const FILE_MODE: u32 = 0o600;

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
    #[error("cannot {action} {path}, which is the journal's")]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
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
        made.map_err(failed("make", folder))?;
        let journal = Self {
            database: Arc::new(open_file(&folder.join(FILE))?),
        };
        journal.change("prepare", |transaction| {
            for table in [SANDBOXES, WARM, RELEASES] {
                transaction.open_table(table)?;
            }
            Ok(())
        })?;
        Ok(journal)
    }

    /// Ends the use of the journal in `folder`, and takes its file away where nothing is in it: a node that runs peer pods no
    /// more keeps nothing of them. The file stays, too, while somebody else has the journal.
    pub(crate) fn close(self, folder: &Path) -> Result<(), JournalError> {
        let Some(database) = Arc::into_inner(self.database) else {
            return Ok(());
        };
        if is_empty(&database).map_err(JournalError::of("read"))? {
            let path = folder.join(FILE);
            fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
        // Only now another process can have it: one that opened the file before finds that it is gone.
        drop(database);
        Ok(())
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

/// The database in the file at `path`, which is made where there is none.
fn open_file(path: &Path) -> Result<Database, JournalError> {
    let failed = || failed("open", path);
    loop {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path)
            .map_err(failed())?;
        let opened = file.metadata().map_err(failed())?;
        let database = FileBackend::new(file)
            .and_then(|file| redb::Builder::new().create_with_backend(file))
            .map_err(JournalError::of("open"))?;
        // A process that ended took the file away between its opening here and its lock: what was written to it would be lost.
        match fs::metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (opened.dev(), opened.ino()) => return Ok(database),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed()(error)),
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::File { action, path, source }
}

fn is_empty(database: &Database) -> Result<bool, redb::Error> {
    let transaction = database.begin_read()?;
    for table in [SANDBOXES, WARM, RELEASES] {
        if !transaction.open_table(table)?.is_empty()? {
            return Ok(false);
        }
    }
    Ok(true)
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

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn object() -> ObjectKey {
        ObjectKey {
            namespace: "shop".to_owned(),
            name: "web-resource-0123456789".to_owned(),
            sandbox: "sandbox-1".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_journal_with_nothing_in_it_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        journal.put_release(&object()).await.unwrap();
        journal.remove_release(&object()).await.unwrap();
        journal.close(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_journal_that_remembers_something_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        journal.put_release(&object()).await.unwrap();
        journal.close(folder.path()).unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        assert_eq!(journal.releases().unwrap(), [object()]);
    }

    #[test]
    fn a_journal_that_somebody_has_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        let other = journal.clone();
        journal.close(folder.path()).unwrap();
        // What cleans a node sees by this lock that an adaptor is there.
        let file = File::open(folder.path().join(FILE)).unwrap();
        assert!(matches!(
            file.try_lock_shared(),
            Err(fs::TryLockError::WouldBlock)
        ));
        other.close(folder.path()).unwrap();
        assert!(!folder.path().join(FILE).exists());
    }

    /// What begins while another ends has a journal that is there, or none.
    #[test]
    fn of_two_that_follow_each_other_at_once_none_loses_its_journal() {
        let folder = tempfile::tempdir().unwrap();
        let work = || {
            for _ in 0..200 {
                // It is locked while the other has it.
                if let Ok(journal) = Journal::open(folder.path()) {
                    let there = fs::metadata(folder.path().join(FILE));
                    assert!(there.is_ok(), "a journal is open that is not there");
                    journal.close(folder.path()).unwrap();
                }
            }
        };
        thread::scope(|scope| {
            scope.spawn(work);
            scope.spawn(work);
        });
    }
}
