//! What is kept: the journal, the files as last seen, who wants to know, and what they are owed.
//!
//! A verb is one transaction. Verbs work on batches, take the time and fresh ids as arguments, and mean the same on
//! every engine; `suite.rs` is the contract that each engine passes.

mod crypt;
mod deliveries;
mod directory;
mod events;
pub mod fetches;
mod files;
mod history;
mod nextcloud;
mod owed;
mod pairing;
mod sessions;
mod sqlite;
#[cfg(test)]
mod suite;

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;

pub use crypt::{KeyError, StoreKey};
pub use deliveries::{Covered, Full, Listed, Listing, Position, Replayed, Wanted};
pub use directory::{Account, Application, Grant, NewAccount, NewApplication, NewProtocol, NewSubscription};
pub use events::{Asked, Changes, ChangesOf, Considered, Known, Recorded, RootState, Seen};
pub use files::{FilePage, FilePosition, FilesWanted, KnownFile, NotAFilePosition};
pub use history::{Counts, Pace, Span};
pub use nextcloud::{AppPassword, Property, connection_name};
pub use owed::{Attempt, Claimed, LeaseToken, Notification, NotificationState, Settlement, Standing, Timing};
pub use pairing::{
    Exchange, Exchanged, Ingestion, IngestionStatus, NewFamily, Pairing, PairingStatus, RefreshToken, SigningKey,
};
pub use sessions::{Session, SessionBounds};

/// Why a verb failed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine refused: disk full, corruption, a lost connection.
    #[error("the store failed")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A row holds what this version of filebell cannot read.
    #[error("the store holds a {what} that cannot be read")]
    Corrupt {
        /// Which kind of row.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        why: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A secret was encrypted under another key.
    #[error("a secret in the store was encrypted under another key; restore `secret-key` in the data directory")]
    WrongKey,
    /// The name (or client id) is taken.
    #[error("there is already {0}")]
    Exists(String),
    /// There is no such thing.
    #[error("there is no {0}")]
    Missing(String),
    /// The store was written by a newer filebell.
    #[error("the store has schema version {found}, this filebell knows {known}: run the newer filebell")]
    TooNew {
        /// In the store.
        found: i64,
        /// Known here.
        known: i64,
    },
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

/// What is committed in groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Arrivals, with what is owed for them.
    Arrivals,
    /// Ended attempts, with what follows from them.
    Attempts,
}

/// Rows of a kind that were committed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Which.
    pub of: Rows,
    /// How many.
    pub rows: usize,
    /// How long the commit took, with all else that was in it.
    pub took: Duration,
}

/// An engine.
#[derive(Clone)]
pub enum Store {
    /// The embedded one.
    Sqlite(sqlite::SqliteStore),
}

macro_rules! dispatch {
    ($self:ident, $verb:ident($($argument:expr),*)) => {
        match $self { $crate::store::Store::Sqlite(engine) => engine.$verb($($argument),*).await }
    };
}
use dispatch;

impl Store {
    /// Opens the embedded store in `data_dir`, and brings its schema up to date.
    pub async fn open_sqlite(data_dir: &Path, key: StoreKey) -> Result<Self, StoreError> {
        Ok(Self::Sqlite(sqlite::SqliteStore::open(data_dir, key).await?))
    }

    /// Changes whenever events were recorded, or something was made due. A hint: it carries no data, and may come for
    /// nothing.
    pub fn advanced(&self) -> watch::Receiver<u64> {
        match self {
            Self::Sqlite(engine) => engine.advanced(),
        }
    }

    /// Lets `observer` know of every group of rows that is on disk, on the thread that wrote it. The first who asks is
    /// the one.
    pub fn observe(&self, observer: impl Fn(Group) + Send + Sync + 'static) {
        match self {
            Self::Sqlite(engine) => engine.observe(observer),
        }
    }

    /// A number that changes whenever another process has written accounts, applications or subscriptions.
    pub async fn revision(&self) -> Result<i64, StoreError> {
        dispatch!(self, revision())
    }

    /// Runs what blocks on a helping thread.
    async fn beside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        let working = tokio::task::spawn_blocking(move || work(&store));
        working.await.map_err(|error| StoreError::Engine(Box::new(error)))?
    }

    /// A key for one purpose, that nobody learns from the key of another.
    pub fn derived_key(&self, purpose: &str) -> [u8; 32] {
        match self {
            Self::Sqlite(engine) => engine.key().derive(purpose),
        }
    }

    /// Whether the store answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        dispatch!(self, ping())
    }
}
