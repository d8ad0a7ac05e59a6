//! The embedded engine: one SQLite file in the data directory.
//!
//! One thread writes, in the order it is asked; readers run beside it on their own connections (WAL). Leases live in
//! memory: only one process serves a data directory, so they need not outlive it, and after a crash there is nothing
//! to wait for.

mod block;
mod cadence;
mod checkpoint;
mod claims;
mod deliveries;
mod directory;
mod events;
mod fetches;
mod files;
mod history;
mod leases;
mod nextcloud;
mod observe;
mod owed;
mod pairing;
mod rings;
mod root;
mod rows;
mod sessions;
mod settle;
mod tally;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::watch;

use super::{Group, StoreError, StoreKey};
use leases::Leases;
use writer::{Desk, WriterState};

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
    include_str!("../migrations/sqlite/0013_tally.sql"),
    include_str!("../migrations/sqlite/0014_gathered.sql"),
    include_str!("../migrations/sqlite/0015_delivered.sql"),
];
/// Idle reading connections that are kept.
const IDLE_READERS_MAX: usize = 4;
/// How long another process (a command) may hold the write lock before a verb fails.
const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// The engine. Cheap to clone.
#[derive(Clone)]
pub struct SqliteStore(Arc<Inner>);

struct Inner {
    path: PathBuf,
    key: StoreKey,
    desk: Arc<Desk>,
    readers: Mutex<Vec<Connection>>,
    leases: Arc<Mutex<Leases>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.desk.close();
    }
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
        let leases = Arc::new(Mutex::new(Leases::default()));
        let mut connection = connect(&path)?;
        migrate(&mut connection)?;
        let desk = Desk::open(connection, key.clone(), leases.clone())?;
        checkpoint::start(connect(&path)?, desk.clone())?;
        Ok(Self(Arc::new(Inner { path, key, desk, readers: Mutex::new(Vec::new()), leases })))
    }

    /// Runs one transaction on the writing thread; it is committed, and on disk, if and only if `work` succeeds.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>, &mut WriterState<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let answer = self.0.desk.write(work);
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Lets somebody know of every group of rows that is on disk; the first who asks is the one.
    pub(super) fn observe(&self, observer: impl Fn(Group) + Send + Sync + 'static) {
        self.0.desk.observe(Box::new(observer));
    }

    /// Changes whenever something was recorded.
    pub(super) fn advanced(&self) -> watch::Receiver<u64> {
        self.0.desk.advanced()
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
    // What a failing statement would undo stays in memory, and never becomes a file.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // `checkpoint.rs` does that.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    // Else a statement is planned anew whenever other values are bound.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
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
