//! The one door into the journal: arrivals go in, and come back when the commit that holds them is on disk.
//!
//! Group commit: while one batch is being synced the next one gathers, so the cost of an event falls as load grows.
//! The journal knows no source and sends nothing.

use std::sync::Arc;
use std::time::Instant;

use filebell_core::arrival::{Arrival, SourceKind};
use filebell_core::event::StoredFile;
use filebell_core::id::AccountId;
use filebell_core::path::FilePath;
use filebell_core::time::TimestampMs;
use tokio::sync::{mpsc, oneshot, watch};

use crate::metrics::{Commit, Found, Metrics};
use crate::seams::Seams;
pub use crate::store::{Asked, Known, Recorded, RootState, Seen};
use crate::store::{Store, StoreError};

/// At most this many arrivals are committed together.
const BATCH_ARRIVALS_MAX: usize = 1024;
/// At most this many callers wait; the next one waits to be let in.
const WAITING_CALLERS_MAX: usize = 4096;

/// The door. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    store: Store,
    seams: Seams,
    metrics: Metrics,
    door: mpsc::Sender<Waiting>,
    advanced: watch::Receiver<u64>,
}

struct Waiting {
    arrivals: Vec<Arrival>,
    answer: oneshot::Sender<Result<Vec<Recorded>, JournalError>>,
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
        Self::Store(Arc::new(error))
    }
}

impl Journal {
    /// Opens the door and starts the task behind it, which ends when the last clone of the door is dropped.
    pub fn open(store: Store, seams: Seams, metrics: Metrics) -> Self {
        let (door, waiting) = mpsc::channel(WAITING_CALLERS_MAX);
        let (advance, advanced) = watch::channel(0);
        let committer = Committer { store: store.clone(), seams: seams.clone(), metrics: metrics.clone(), advance };
        tokio::spawn(committer.run(waiting));
        Self { store, seams, metrics, door, advanced }
    }

    /// Records arrivals; answers, in their order, when they are durable.
    pub async fn record(&self, arrivals: Vec<Arrival>) -> Result<Vec<Recorded>, JournalError> {
        if arrivals.is_empty() {
            return Ok(Vec::new());
        }
        let (answer, answered) = oneshot::channel();
        self.door.send(Waiting { arrivals, answer }).await.map_err(|_| JournalError::Closed)?;
        answered.await.map_err(|_| JournalError::Closed)?
    }

    /// Changes whenever events were recorded. A hint: it carries no data, and may come for nothing.
    pub fn advanced(&self) -> watch::Receiver<u64> {
        self.advanced.clone()
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
}

/// Works behind the door.
struct Committer {
    store: Store,
    seams: Seams,
    metrics: Metrics,
    advance: watch::Sender<u64>,
}

impl Committer {
    async fn run(self, mut waiting: mpsc::Receiver<Waiting>) {
        let mut callers = Vec::new();
        while waiting.recv_many(&mut callers, BATCH_ARRIVALS_MAX).await > 0 {
            for batch in batches(std::mem::take(&mut callers)) {
                self.commit(batch).await;
            }
        }
    }

    async fn commit(&self, batch: Vec<Waiting>) {
        let shares: Vec<usize> = batch.iter().map(|caller| caller.arrivals.len()).collect();
        let (arrivals, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|caller| (caller.arrivals, caller.answer)).unzip();
        let arrivals: Vec<Arrival> = arrivals.into_iter().flatten().collect();
        // Kept only for the log: at most one batch is under way.
        let paths: Vec<FilePath> = match tracing::enabled!(tracing::Level::DEBUG) {
            true => arrivals.iter().map(|arrival| arrival.path.clone()).collect(),
            false => Vec::new(),
        };
        // How a folder's were found, its own source knows.
        let brought = [SourceKind::Upload, SourceKind::Emit]
            .map(|source| (source, arrivals.iter().filter(|arrival| arrival.source == source).count()));
        let (count, began) = (arrivals.len(), Instant::now());
        match self.store.record(arrivals, self.seams.now(), self.seams.fresh_ids()).await {
            Ok(recorded) => {
                self.metrics.committed(Commit::Arrivals, count, began.elapsed());
                for (source, count) in brought {
                    self.metrics.arrived(source, Found::Request, count);
                }
                if self.count(&recorded, &paths) {
                    self.advance.send_modify(|turn| *turn = turn.wrapping_add(1));
                }
                let mut recorded = recorded.into_iter();
                for (share, answer) in shares.into_iter().zip(answers) {
                    // A caller that has gone does not need its answer; the commit stands.
                    let _ = answer.send(Ok(recorded.by_ref().take(share).collect()));
                }
            }
            Err(error) => {
                self.metrics.commit_failed(Commit::Arrivals);
                let error = JournalError::from(error);
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }

    /// Counts and logs what became events; answers whether any did.
    fn count(&self, recorded: &[Recorded], paths: &[FilePath]) -> bool {
        let mut any = false;
        let mut paths = paths.iter();
        for one in recorded {
            let path = paths.next().map(FilePath::to_text);
            if let Recorded::Event { seq, id, kind, .. } = one {
                any = true;
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
        any
    }
}

/// Cuts what has gathered into commits of at most [`BATCH_ARRIVALS_MAX`] arrivals, never through one caller's.
fn batches(callers: Vec<Waiting>) -> Vec<Vec<Waiting>> {
    let mut batches: Vec<Vec<Waiting>> = Vec::new();
    let mut room = 0;
    for caller in callers {
        match batches.last_mut() {
            Some(batch) if caller.arrivals.len() <= room => {
                room -= caller.arrivals.len();
                batch.push(caller);
            }
            _ => {
                room = BATCH_ARRIVALS_MAX.saturating_sub(caller.arrivals.len());
                batches.push(vec![caller]);
            }
        }
    }
    batches
}
