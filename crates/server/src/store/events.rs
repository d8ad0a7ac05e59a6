//! The verbs about roots, files as last seen, and the journal.

use filebell_core::arrival::{Arrival, Fingerprint};
use filebell_core::event::{Event, EventKind, StoredFile};
use filebell_core::id::{AccountId, Cursor, EventId, FileId, FreshIds, Seq, SubscriptionId};
use filebell_core::path::FilePath;
use filebell_core::root::{KnownRoot, RootIdentity};
use filebell_core::time::{TimestampMs, TimestampSecs};

use super::{Store, StoreError, dispatch};

/// What became of one arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It is an event.
    Event {
        /// Its number.
        seq: Seq,
        /// Its id.
        id: EventId,
        /// The file's id.
        file: FileId,
        /// What happened.
        kind: EventKind,
    },
    /// The file's row was written or found right; nobody is told.
    Silent,
    /// The row at its path is another by now than the one it was made against: nothing was changed.
    Stale,
}

/// An arrival that was made against the row at its path as it was known a while ago. If another one lies there when it
/// is recorded, the arrival says nothing any more: somebody else has recorded what lies there since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Considered {
    /// What was found.
    pub arrival: Arrival,
    /// The row; `None` if there was none.
    pub row: Option<(FileId, Fingerprint)>,
}

/// A path that is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The path.
    pub path: FilePath,
    /// The inode number of the file that lies there now, if one does.
    pub inode: Option<u64>,
}

/// A file as a scan saw it, without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Where it lies.
    pub path: FilePath,
    /// As it stood.
    pub fingerprint: Fingerprint,
}

/// What is known of a path that was asked about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The file stored at the path.
    pub row: Option<StoredFile>,
    /// The files stored with that inode number, at whatever path.
    pub kin: Vec<StoredFile>,
}

/// A watched root as it was first seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootState {
    /// When it was first watched: what is older is not news.
    pub first_seen_at: TimestampMs,
    /// Whether its first scan has come to its end.
    pub baseline_done: bool,
}

/// Which events [`Store::changes`] answers with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangesOf {
    /// Only this account's.
    pub account: Option<AccountId>,
    /// Only these top-level directories'; `None` means all.
    pub folders: Option<Vec<String>>,
}

/// A page of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// In order of their numbers.
    pub events: Vec<Event>,
    /// Where to go on from.
    pub next: Cursor,
    /// Whether there is more already.
    pub more: bool,
}

impl Store {
    /// Judges arrivals in order, and writes the events, the files' rows and what every matching subscription is
    /// owed, in one commit. The answers stand in the order of the arrivals. What is asked for first is recorded first,
    /// whenever it is awaited.
    pub fn record(
        &self,
        arrivals: Vec<Arrival>,
        now: TimestampMs,
        ids: FreshIds,
    ) -> impl Future<Output = Result<Vec<Recorded>, StoreError>> + use<> {
        match self {
            Self::Sqlite(engine) => engine.record(arrivals, now, ids),
        }
    }

    /// As [`Store::record`], for threads of their own, which it saves two changes of thread: what it answers with writes
    /// or waits when it is called.
    pub fn record_here(
        &self,
        arrivals: Vec<Considered>,
        now: TimestampMs,
        ids: FreshIds,
    ) -> impl FnOnce() -> Result<Vec<Recorded>, StoreError> + use<> {
        match self {
            Self::Sqlite(engine) => engine.record_here(arrivals, now, ids),
        }
    }

    /// The file at a path.
    pub async fn file_at(&self, account: AccountId, path: FilePath) -> Result<Option<StoredFile>, StoreError> {
        dispatch!(self, file_at(account, path))
    }

    /// Writes rows without a version for files that were in a new root before, where there are no rows yet. Tells
    /// nobody. Durable when something after it is, such as [`Store::set_baseline_done`]: what a crash takes back is
    /// found by the next first scan.
    pub async fn remember(
        &self,
        account: AccountId,
        seen: Vec<Seen>,
        user: String,
        now: TimestampMs,
    ) -> Result<(), StoreError> {
        dispatch!(self, remember(account, seen, user, now))
    }

    /// What is known of each path, in their order.
    pub async fn known(&self, account: AccountId, asked: Vec<Asked>) -> Result<Vec<Known>, StoreError> {
        self.beside(move |store| store.known_here(account, &asked)).await
    }

    /// As [`Store::known`], on the calling thread: for threads of their own, which it saves two changes of thread.
    pub fn known_here(&self, account: AccountId, asked: &[Asked]) -> Result<Vec<Known>, StoreError> {
        match self {
            Self::Sqlite(engine) => engine.known(account, asked),
        }
    }

    /// At most `limit` files of an account in byte order of their paths, after `after`, below the directory `below`.
    pub async fn files(
        &self,
        account: AccountId,
        below: Option<FilePath>,
        after: Option<FilePath>,
        limit: u32,
    ) -> Result<Vec<StoredFile>, StoreError> {
        self.beside(move |store| store.files_here(account, below.as_ref(), after.as_ref(), limit)).await
    }

    /// As [`Store::files`], on the calling thread: for threads of their own.
    pub fn files_here(
        &self,
        account: AccountId,
        below: Option<&FilePath>,
        after: Option<&FilePath>,
        limit: u32,
    ) -> Result<Vec<StoredFile>, StoreError> {
        match self {
            Self::Sqlite(engine) => engine.files(account, below, after, limit),
        }
    }

    /// At most `limit` files below the directory `below` in byte order of their paths, leaving out the first `skip`.
    pub async fn files_page(
        &self,
        account: AccountId,
        below: FilePath,
        skip: u64,
        limit: u32,
    ) -> Result<Vec<StoredFile>, StoreError> {
        dispatch!(self, files_page(account, below, skip, limit))
    }

    /// At most `limit` of the files whose newest arrival was recorded in or after the second `since`, newest first,
    /// then by id, newest first; only those that come after the file `before` in that order.
    pub async fn recent(
        &self,
        account: AccountId,
        since: TimestampSecs,
        before: Option<(TimestampSecs, FileId)>,
        limit: u32,
    ) -> Result<Vec<StoredFile>, StoreError> {
        dispatch!(self, recent(account, since, before, limit))
    }

    /// How many files [`Self::recent`] answers with in all.
    pub async fn recent_count(&self, account: AccountId, since: TimestampSecs) -> Result<u64, StoreError> {
        dispatch!(self, recent_count(account, since))
    }

    /// Takes in that the account's Nextcloud consumer was shown everything up to the second `newest`: the `since` of
    /// its next notifications. Never goes back. What it was told and has now been shown is not rung again.
    pub async fn acknowledge_recent(&self, account: AccountId, newest: TimestampSecs) -> Result<(), StoreError> {
        dispatch!(self, acknowledge_recent(account, newest))
    }

    /// Up to when the consumer of a Nextcloud subscription was shown everything.
    pub async fn shown_until(&self, subscription: SubscriptionId) -> Result<TimestampSecs, StoreError> {
        dispatch!(self, shown_until(subscription))
    }

    /// The size of all files of an account, and how much it may be. Costs the same however many there are.
    pub async fn usage(&self, account: AccountId) -> Result<(u64, Option<u64>), StoreError> {
        dispatch!(self, usage(account))
    }

    /// Lets an account hold so many bytes; `None` as many as it likes.
    pub async fn set_quota(&self, account: AccountId, quota: Option<u64>) -> Result<(), StoreError> {
        dispatch!(self, set_quota(account, quota))
    }

    /// The size of the files below a directory of an account.
    pub async fn bytes_below(&self, account: AccountId, below: FilePath) -> Result<u64, StoreError> {
        dispatch!(self, bytes_below(account, below))
    }

    /// The number of an account's newest event; zero if it has none.
    pub async fn newest_of(&self, account: AccountId) -> Result<Seq, StoreError> {
        dispatch!(self, newest_of(account))
    }

    /// At most `limit` events after the cursor. The cursor answered skips no event, also none that commits late.
    pub async fn changes(&self, of: ChangesOf, after: Cursor, limit: u32) -> Result<Changes, StoreError> {
        dispatch!(self, changes(of, after, limit))
    }

    /// The position after the newest event.
    pub async fn newest(&self) -> Result<Cursor, StoreError> {
        dispatch!(self, newest())
    }

    /// The state of an account's root; made with `now` when it is asked for the first time.
    pub async fn root_state(&self, account: AccountId, now: TimestampMs) -> Result<RootState, StoreError> {
        dispatch!(self, root_state(account, now))
    }

    /// The first scan of an account's root has come to its end.
    pub async fn set_baseline_done(&self, account: AccountId) -> Result<(), StoreError> {
        dispatch!(self, set_baseline_done(account))
    }

    /// Says what is known of an account's root, of which this directory was `found`. If none is known yet, this is the
    /// one. If it is the known one under another device number, its files' rows follow.
    pub async fn keep_root(&self, account: AccountId, found: RootIdentity) -> Result<KnownRoot, StoreError> {
        dispatch!(self, keep_root(account, found))
    }

    /// From now on this directory is the known root of an account, and its files' rows are of its device.
    pub async fn accept_root(&self, account: AccountId, identity: RootIdentity) -> Result<(), StoreError> {
        dispatch!(self, accept_root(account, identity))
    }

    /// The known root of an account, if it was ever watched.
    pub async fn root_identity(&self, account: AccountId) -> Result<Option<RootIdentity>, StoreError> {
        dispatch!(self, root_identity(account))
    }

    /// At most `limit` events of the file that lies, or last lay, at a path, newest first; also those it had under
    /// other names. A file that is gone is looked for among the account's newest events only.
    pub async fn file_events(&self, account: AccountId, path: FilePath, limit: u32) -> Result<Vec<Event>, StoreError> {
        dispatch!(self, file_events(account, path, limit))
    }

    /// At most `limit` of the newest events of an account, or of all, newest first.
    pub async fn newest_events(&self, account: Option<AccountId>, limit: u32) -> Result<Vec<Event>, StoreError> {
        dispatch!(self, newest_events(account, limit))
    }
}
