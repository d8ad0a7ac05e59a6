//! The one door into the journal: arrivals go in, and come back when the commit that holds them is on disk.
//!
//! Arrivals that wait while others are being synced are committed together, so the cost of an event falls as load
//! grows. The journal knows no source and sends nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use filebell_core::arrival::{Arrival, SourceKind};
use filebell_core::event::StoredFile;
use filebell_core::id::AccountId;
use filebell_core::path::FilePath;
use filebell_core::time::TimestampMs;
use tokio::sync::watch;

use crate::metrics::{Commit, Found, Metrics};
use crate::seams::Seams;
pub use crate::store::{Asked, Considered, Known, Recorded, RootState, Seen};
use crate::store::{Rows, Store, StoreError};

/// The door. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    store: Store,
    seams: Seams,
    metrics: Metrics,
    /// Held from looking at the clock until an arrival has its place in the queue: what comes first is not later.
    turn: Arc<Mutex<()>>,
}

/// Why an arrival was not recorded. It was not recorded at all, and can be brought again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// The store refused the batch.
    #[error("the journal could not be written")]
    Store(#[source] Arc<StoreError>),
    /// filebell is stopping.
    #[error("the journal is closed")]
    Closed,
}

impl From<StoreError> for JournalError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed => Self::Closed,
            error => Self::Store(Arc::new(error)),
        }
    }
}

impl Journal {
    /// Opens the door.
    pub fn open(store: Store, seams: Seams, metrics: Metrics) -> Self {
        let counted = metrics.clone();
        store.observe(move |group| {
            let of = match group.of {
                Rows::Arrivals => Commit::Arrivals,
                Rows::Attempts => Commit::Attempts,
            };
            counted.committed(of, group.rows, group.took);
        });
        Self { store, seams, metrics, turn: Arc::default() }
    }

    /// Records arrivals; answers, in their order, when they are durable.
    pub async fn record(&self, arrivals: Vec<Arrival>) -> Result<Vec<Recorded>, JournalError> {
        if arrivals.is_empty() {
            return Ok(Vec::new());
        }
        let brought = Brought::of(arrivals.iter());
        let recorded = {
            let _turn = self.turn();
            self.store.record(arrivals, self.seams.now(), self.seams.fresh_ids())
        };
        self.count(&brought, recorded.await)
    }

    /// As [`Journal::record`], on the calling thread: for threads of their own, which say what they have seen.
    pub fn record_here(&self, arrivals: Vec<Considered>) -> Result<Vec<Recorded>, JournalError> {
        if arrivals.is_empty() {
            return Ok(Vec::new());
        }
        let brought = Brought::of(arrivals.iter().map(|one| &one.arrival));
        let recorded = {
            let _turn = self.turn();
            self.store.record_here(arrivals, self.seams.now(), self.seams.fresh_ids())
        };
        self.count(&brought, recorded())
    }

    /// Changes whenever events were recorded. A hint: it carries no data, and may come for nothing.
    pub fn advanced(&self) -> watch::Receiver<u64> {
        self.store.advanced()
    }

    /// Remembers files that were in a new root before, unread, where nothing is known yet. Tells nobody.
    pub async fn remember(&self, account: AccountId, seen: Vec<Seen>, user: String) -> Result<(), JournalError> {
        Ok(self.store.remember(account, seen, user, self.seams.now()).await?)
    }

    /// What the journal last said of each path, in their order. Reads on the calling thread: for threads of their own.
    pub fn known(&self, account: AccountId, asked: &[Asked]) -> Result<Vec<Known>, JournalError> {
        Ok(self.store.known_here(account, asked)?)
    }

    /// At most `limit` files in byte order of their paths, after `after`, below the directory `below`. Reads on
    /// the calling thread: for threads of their own.
    pub fn files(
        &self,
        account: AccountId,
        below: Option<&FilePath>,
        after: Option<&FilePath>,
        limit: u32,
    ) -> Result<Vec<StoredFile>, JournalError> {
        Ok(self.store.files_here(account, below, after, limit)?)
    }

    /// The state of an account's root; made now when it is asked for the first time.
    pub async fn root_state(&self, account: AccountId) -> Result<RootState, JournalError> {
        Ok(self.store.root_state(account, self.seams.now()).await?)
    }

    /// The first scan of an account's root has come to its end.
    pub async fn set_baseline_done(&self, account: AccountId) -> Result<(), JournalError> {
        Ok(self.store.set_baseline_done(account).await?)
    }

    /// Where what passes the door is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What time it is for the journal.
    pub fn now(&self) -> TimestampMs {
        self.seams.now()
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts and logs what became of arrivals.
    fn count(
        &self,
        brought: &Brought,
        recorded: Result<Vec<Recorded>, StoreError>,
    ) -> Result<Vec<Recorded>, JournalError> {
        let recorded = recorded.inspect_err(|_| self.metrics.commit_failed(Commit::Arrivals))?;
        for (source, count) in brought.counts {
            self.metrics.arrived(source, Found::Request, count);
        }
        let mut paths = brought.paths.iter();
        for one in &recorded {
            let path = paths.next().map(FilePath::to_text);
            if let Recorded::Event { seq, id, kind, .. } = one {
                self.metrics.recorded(*kind);
                tracing::debug!(
                    event.seq = seq.get(),
                    event.id = %id,
                    event.kind = kind.as_str(),
                    path = path.as_deref(),
                    "recorded"
                );
            }
        }
        Ok(recorded)
    }
}

/// What is said of arrivals after they were recorded.
struct Brought {
    /// How many came by a request. How a folder's were found, its own source knows.
    counts: [(SourceKind, usize); 2],
    /// Kept only for the log.
    paths: Vec<FilePath>,
}

impl Brought {
    fn of<'a>(arrivals: impl Iterator<Item = &'a Arrival> + Clone) -> Self {
        let counts = [SourceKind::Upload, SourceKind::Emit]
            .map(|source| (source, arrivals.clone().filter(|arrival| arrival.source == source).count()));
        let paths = match tracing::enabled!(tracing::Level::DEBUG) {
            true => arrivals.map(|arrival| arrival.path.clone()).collect(),
            false => Vec::new(),
        };
        Self { counts, paths }
    }
}
