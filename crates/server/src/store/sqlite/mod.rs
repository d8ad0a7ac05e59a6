//! The embedded engine: one SQLite file in the data directory.
//!
//! One thread writes, in the order it is asked; readers run beside it on their own connections (WAL). Leases live in
//! memory: only one process serves a data directory, so they need not outlive it, and after a crash there is nothing
//! to wait for.

mod directory;
mod events;
mod fetches;
mod history;
mod nextcloud;
mod observe;
mod owed;
mod pairing;
mod root;
mod rows;
mod sessions;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use filebell_core::id::AccountId;
use filebell_core::subscription::Subscription;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use super::{StoreError, StoreKey};
use owed::Leases;

/// The file in the data directory.
const FILE: &str = "filebell.db";
/// Schema changes in order; the number of those applied is the schema version.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/sqlite/0001_start.sql"),
    include_str!("../migrations/sqlite/0002_nextcloud.sql"),
    include_str!("../migrations/sqlite/0003_sagex3.sql"),
    include_str!("../migrations/sqlite/0004_observe.sql"),
    include_str!("../migrations/sqlite/0005_ring.sql"),
    include_str!("../migrations/sqlite/0007_roots.sql"),
    include_str!("../migrations/sqlite/0008_quota.sql"),
    include_str!("../migrations/sqlite/0009_pages.sql"),
    include_str!("../migrations/sqlite/0010_history.sql"),
    include_str!("../migrations/sqlite/0011_attempts.sql"),
    include_str!("../migrations/sqlite/0012_fetches.sql"),
];
/// Idle reading connections that are kept.
const IDLE_READERS_MAX: usize = 4;
/// How long another process (a command) may hold the write lock before a verb fails.
const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

type Job = Box<dyn FnOnce(&mut Writer) + Send>;

/// The engine. Cheap to clone.
#[derive(Clone)]
pub struct SqliteStore(Arc<Inner>);

struct Inner {
    path: PathBuf,
    key: StoreKey,
    jobs: mpsc::Sender<Job>,
    readers: Mutex<Vec<Connection>>,
    leases: Arc<Mutex<Leases>>,
}

/// What the writing thread owns.
struct Writer {
    connection: Connection,
    key: StoreKey,
    /// Shared with the claims made on reading connections.
    leases: Arc<Mutex<Leases>>,
    /// Every account's subscriptions as of `revision`.
    subscriptions: HashMap<AccountId, Vec<Arc<Subscription>>>,
    revision: Option<i64>,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Engine(Box::new(error))
    }
}

impl SqliteStore {
    /// Opens or makes the file in `data_dir`, and brings its schema up to date.
    pub(super) async fn open(data_dir: &Path, key: StoreKey) -> Result<Self, StoreError> {
        let path = data_dir.join(FILE);
        let (jobs, asked) = mpsc::channel::<Job>();
        let leases = Arc::new(Mutex::new(Leases::default()));
        let mut writer = Writer {
            connection: connect(&path)?,
            key: key.clone(),
            leases: leases.clone(),
            subscriptions: HashMap::new(),
            revision: None,
        };
        migrate(&mut writer.connection)?;
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                for job in asked {
                    job(&mut writer);
                }
            })
            .map_err(|error| StoreError::Engine(Box::new(error)))?;
        let store = Self(Arc::new(Inner { path, key, jobs, readers: Mutex::new(Vec::new()), leases }));
        store.write(owed::seal_outstanding).await?;
        Ok(store)
    }

    /// Runs one transaction on the writing thread; it is committed, and on disk, if and only if `work` succeeds.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>, &mut WriterState<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.on_writer(move |writer| {
            let mut state = WriterState {
                key: &writer.key,
                leases: &writer.leases,
                subscriptions: &mut writer.subscriptions,
                revision: &mut writer.revision,
            };
            let transaction = writer.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&transaction, &mut state)?;
            transaction.commit()?;
            Ok(result)
        })
        .await
    }

    /// Runs `work` on the writing thread, after everything asked before and before everything asked later.
    async fn on_writer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |writer| {
            // Whoever asked may have gone; what was done stands.
            let _ = answer.send(work(writer));
        });
        self.0.jobs.send(job).map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Runs `work` on a reading connection beside the writer.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = self.0.clone();
        let reading = tokio::task::spawn_blocking(move || inner.read(|connection| work(connection, &inner)));
        reading.await.map_err(|error| StoreError::Engine(Box::new(error)))?
    }

    /// The key that secrets are sealed under.
    pub(super) fn key(&self) -> &StoreKey {
        &self.0.key
    }

    /// Whether the store answers.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        self.read(|connection, _| Ok(connection.query_row("SELECT 1", [], |_| Ok(()))?)).await
    }
}

impl Inner {
    /// Runs `work` on a reading connection, on the calling thread.
    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let idle = lock(&self.readers).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connect(&self.path)?,
        };
        let result = work(&connection);
        let mut readers = lock(&self.readers);
        if readers.len() < IDLE_READERS_MAX {
            readers.push(connection);
        }
        result
    }
}

/// What a transaction may use besides the connection.
struct WriterState<'a> {
    key: &'a StoreKey,
    leases: &'a Mutex<Leases>,
    subscriptions: &'a mut HashMap<AccountId, Vec<Arc<Subscription>>>,
    revision: &'a mut Option<i64>,
}

impl WriterState<'_> {
    /// An account's subscriptions as this transaction sees them.
    fn subscriptions_of(
        &mut self,
        transaction: &Transaction<'_>,
        account: AccountId,
    ) -> Result<Vec<Arc<Subscription>>, StoreError> {
        let revision = directory::revision(transaction)?;
        if *self.revision != Some(revision) {
            self.subscriptions.clear();
            for subscription in directory::subscriptions(transaction, self.key)? {
                self.subscriptions.entry(subscription.account).or_default().push(Arc::new(subscription));
            }
            *self.revision = Some(revision);
        }
        Ok(self.subscriptions.get(&account).cloned().unwrap_or_default())
    }
}

/// A panic while a lock is held leaves plain data behind, never a half-made state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    Ok(transaction.commit()?)
}
