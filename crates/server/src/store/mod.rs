//! What is kept: the journal, the files as last seen, who wants to know, and what they are owed.
//!
//! A verb is one transaction. Verbs work on batches, take the time and fresh ids as arguments, and mean the same on
//! every engine; `suite.rs` is the contract that each engine passes.

mod crypt;
mod deliveries;
pub mod fetches;
mod files;
mod history;
mod pairing;
mod sessions;
mod sqlite;
#[cfg(test)]
mod suite;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use filebell_core::arrival::{Arrival, Fingerprint};
use filebell_core::event::{Event, EventKind, StoredFile};
use filebell_core::id::{
    AccountId, ApplicationId, Cursor, EventId, FileId, GrantId, NotificationId, Seq, SubscriptionId,
};
use filebell_core::path::FilePath;
use filebell_core::plan::Mark;
use filebell_core::retry::Step;
use filebell_core::root::{KnownRoot, RootIdentity};
use filebell_core::secret::Secret;
use filebell_core::subscription::{Subscription, SubscriptionStatus};
use filebell_core::time::{TimestampMs, TimestampSecs};
use tokio::sync::watch;

pub use crypt::{KeyError, StoreKey};
pub use deliveries::{Covered, Full, Listed, Listing, Position, Replayed, Wanted};
pub use files::{FilePage, FilePosition, FilesWanted, KnownFile, NotAFilePosition};
pub use history::{Counts, Pace, Span};
pub use pairing::{
    Exchange, Exchanged, Ingestion, IngestionStatus, NewFamily, Pairing, PairingStatus, RefreshToken, SigningKey,
};
pub use sessions::{Session, SessionBounds};

use filebell_core::id::FreshIds;

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

/// An account: the owner of a tree of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its name, unique: the user name of the Nextcloud protocol.
    pub name: String,
    /// Argon2 hash of its password, in PHC form; `None` if it cannot log in.
    pub password_hash: Option<String>,
    /// The directory its files lie in; `None` if it has no watched tree.
    pub root: Option<std::path::PathBuf>,
    /// Sage X3 customer URL.
    pub customer_url: String,
    /// Sage X3 customer id.
    pub customer_id: String,
    /// Sage X3 customer code.
    pub customer_code: String,
    /// How many bytes it may hold; `None` as many as it likes.
    pub quota_bytes: Option<u64>,
    /// Declared in the configuration file.
    pub managed: bool,
}

/// An account to be written; matched by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAccount {
    /// See [`Account::name`].
    pub name: String,
    /// See [`Account::password_hash`]; `None` keeps the one stored.
    pub password_hash: Option<String>,
    /// See [`Account::root`].
    pub root: Option<std::path::PathBuf>,
    /// See [`Account::customer_url`].
    pub customer_url: String,
    /// See [`Account::customer_id`].
    pub customer_id: String,
    /// See [`Account::customer_code`].
    pub customer_code: String,
    /// See [`Account::quota_bytes`]; `None` keeps the one stored, unless it is declared in the configuration file.
    pub quota_bytes: Option<u64>,
    /// See [`Account::managed`].
    pub managed: bool,
}

/// An application: a third-party program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// Its id.
    pub id: ApplicationId,
    /// Its name, unique.
    pub name: String,
    /// Its id in Sage X3 details and tokens: a UUID, another than the client id.
    pub application_id: String,
    /// Its public id, unique; also the key of its notification signatures.
    pub client_id: String,
    /// Argon2 hash of its client secret, in PHC form.
    pub client_secret_hash: String,
    /// Where a pairing may return to.
    pub redirect_urls: Vec<String>,
    /// Where it is told; `None` tells it nothing.
    pub notification_url: Option<String>,
    /// `hex` or `base64`.
    pub signature_encoding: String,
    /// Declared in the configuration file.
    pub managed: bool,
    /// Refused everywhere, and told nothing, until it is enabled again.
    pub disabled: bool,
    /// Hash of the secret before this one, and until when it still counts.
    pub previous_secret: Option<(String, TimestampMs)>,
}

/// An application to be written; matched by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewApplication {
    /// See [`Application::name`].
    pub name: String,
    /// See [`Application::application_id`]; used only when the application is new.
    pub application_id: String,
    /// See [`Application::client_id`].
    pub client_id: String,
    /// See [`Application::client_secret_hash`]; `None` keeps the one stored.
    pub client_secret_hash: Option<String>,
    /// See [`Application::redirect_urls`].
    pub redirect_urls: Vec<String>,
    /// See [`Application::notification_url`].
    pub notification_url: Option<String>,
    /// See [`Application::signature_encoding`].
    pub signature_encoding: String,
    /// See [`Application::managed`].
    pub managed: bool,
}

/// An account's consent that an application may see certain folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// Who may see.
    pub application: ApplicationId,
    /// Whose files.
    pub account: AccountId,
    /// Which top-level directories.
    pub folders: Vec<String>,
    /// What it may do, such as `api.dataDelivery`.
    pub scopes: Vec<String>,
    /// Since when it holds.
    pub granted_at: TimestampMs,
}

/// A subscription to be written; matched by name.
#[derive(Debug, Clone)]
pub struct NewSubscription {
    /// Unique name.
    pub name: String,
    /// Whose events.
    pub account: AccountId,
    /// `nextcloud` with its connection id, or `standard`. Sage X3 subscriptions are made by grants.
    pub protocol: NewProtocol,
    /// Where it is told.
    pub url: String,
    /// What it is signed with.
    pub key: Secret,
    /// The least time between two sends.
    pub min_interval: Duration,
    /// Which events.
    pub filter: filebell_core::filter::FilterText,
    /// Declared in the configuration file.
    pub managed: bool,
}

/// The protocols a subscription can be made for by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewProtocol {
    /// Nextcloud's File Upload Notification, with the connection id.
    Nextcloud(String),
    /// Standard Webhooks.
    Standard,
}

/// A password made for one client of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppPassword {
    /// Unique in its account.
    pub name: String,
    /// When it was made.
    pub created_at: TimestampMs,
    /// When it was last used, to the minute; `None` if never.
    pub last_used_at: Option<TimestampMs>,
}

/// A dead property of WebDAV.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// `{namespace}local`.
    pub name: String,
    /// XML that can stand in any element.
    pub value: String,
}

/// The name of the subscription that an account's own connection is.
pub fn connection_name(account: &str) -> String {
    format!("nextcloud/{account}")
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
}

/// A notification that this process may attempt until its lease ends. Comes only from [`Store::claim`].
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Which notification.
    pub notification: NotificationId,
    /// Who is told.
    pub subscription: SubscriptionId,
    /// The last event it does not cover.
    pub after: Mark,
    /// The last event it covers.
    pub last: Mark,
    /// How many attempts were made before.
    pub attempts: u32,
    /// And how many before it was last replayed.
    pub earlier_attempts: u32,
    /// When it was made.
    pub created_at: TimestampMs,
    /// When the first event it covers was recorded.
    pub oldest_at: TimestampMs,
    /// The body of the first attempt; `None` before it.
    pub body: Option<Vec<u8>>,
    /// What `since` of the Nextcloud protocol is to say: never later than the oldest event it covers.
    pub since: TimestampSecs,
    /// It was delivered, and is told again because nobody fetched: how often it was so before. `None` before it is
    /// delivered.
    pub rung: Option<u32>,
    /// Fences the settling.
    pub token: LeaseToken,
}

/// Says who holds a notification; a settling with an old one changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseToken(pub u64);

impl Claimed {
    /// The number of the attempt that is made under this claim, from 1 on, those before it was replayed included.
    pub fn attempt_number(&self) -> u32 {
        self.earlier_attempts.saturating_add(self.attempts).saturating_add(1)
    }
}

/// One ended attempt to be written.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// What was attempted.
    pub claimed: Claimed,
    /// What comes next.
    pub step: Step,
    /// The body that was sent, if the notification was not accepted: it is kept for the next attempt.
    pub body: Vec<u8>,
    /// When it is told again if it is not fetched, once it is delivered; `None` for not any more.
    pub ring_at: Option<TimestampMs>,
    /// How the attempt went.
    pub attempt: Attempt,
}

/// One POST of a notification and its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When it began.
    pub started_at: TimestampMs,
    /// How long it took.
    pub took: Duration,
    /// The status answered; `None` if there was no answer.
    pub status: Option<u16>,
    /// What went wrong, or the beginning of a refusing answer, for a person to read.
    pub detail: Option<String>,
    /// What it spent its time on.
    pub timing: Timing,
    /// What is kept of the answer: header lines, an empty line, the beginning of the body; empty if there is nothing.
    pub answer: Vec<u8>,
    /// Tells whether a request that is built again comes out as it was sent; `None` if none was sent.
    pub print: Option<u32>,
}

/// What an attempt spent its time on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing {
    /// Finding the address; `None` if the connection was kept from an earlier attempt, or there was no answer. So with
    /// the next two.
    pub resolve: Option<Duration>,
    /// Connecting to it.
    pub connect: Option<Duration>,
    /// The TLS handshake.
    pub tls: Option<Duration>,
    /// From the beginning of the attempt to that of the answer; `None` if there was none.
    pub first_byte: Option<Duration>,
}

/// Where a notification stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotificationState {
    /// It waits for its time, or for its next attempt.
    Pending,
    /// It was answered with 500, as by a receiver that takes it in and fails to say so; it is rung until somebody
    /// fetches. Then it is delivered, or else dead.
    Told,
    /// It was accepted.
    Delivered,
    /// Its schedule is at its end; it can be replayed.
    Dead,
    /// It died, and a later one that was delivered covers its events too.
    Superseded,
    /// The grant it was made under was taken back before it was accepted.
    Revoked,
}

/// A notification as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Its id.
    pub id: NotificationId,
    /// Who is told.
    pub subscription: SubscriptionId,
    /// The last event it does not cover.
    pub after: Mark,
    /// The last event it covers.
    pub last: Mark,
    /// Where it stands.
    pub state: NotificationState,
    /// How many attempts were made.
    pub attempts: u32,
    /// When the next attempt is due, while it is pending.
    pub due_at: TimestampMs,
    /// When it was made.
    pub created_at: TimestampMs,
}

/// How a subscription stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Which subscription.
    pub subscription: SubscriptionId,
    /// Notifications that wait.
    pub pending: u64,
    /// Notifications that were accepted.
    pub delivered: u64,
    /// Notifications that were given up.
    pub dead: u64,
    /// Dead notifications that a later one made up for.
    pub superseded: u64,
    /// When the oldest event was recorded that a pending notification covers.
    pub oldest_untold_at: Option<TimestampMs>,
    /// When an attempt last ended well.
    pub last_success_at: Option<TimestampMs>,
    /// When an attempt last ended badly.
    pub last_failure_at: Option<TimestampMs>,
    /// What was wrong then.
    pub last_failure: Option<String>,
    /// When it was told for the last time what it never fetched.
    pub unfetched_at: Option<TimestampMs>,
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

    // --- who is who

    /// Writes an account, matched by name.
    pub async fn upsert_account(&self, account: NewAccount, now: TimestampMs) -> Result<Account, StoreError> {
        dispatch!(self, upsert_account(account, now))
    }

    /// All accounts, by name.
    pub async fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        dispatch!(self, accounts())
    }

    /// Removes an account with its subscriptions, grants, files and events. The directory tree is not touched.
    pub async fn remove_account(&self, account: AccountId) -> Result<(), StoreError> {
        dispatch!(self, remove_account(account))
    }

    /// Writes an application, matched by name; its grants' subscriptions follow its notification URL.
    pub async fn upsert_application(
        &self,
        application: NewApplication,
        now: TimestampMs,
    ) -> Result<Application, StoreError> {
        dispatch!(self, upsert_application(application, now))
    }

    /// All applications, by name.
    pub async fn applications(&self) -> Result<Vec<Application>, StoreError> {
        dispatch!(self, applications())
    }

    /// Removes an application with its grants, their subscriptions and tokens.
    pub async fn remove_application(&self, application: ApplicationId) -> Result<(), StoreError> {
        dispatch!(self, remove_application(application))
    }

    /// Writes a grant, matched by application and account; one that was taken back holds again. With a notification URL it is also a subscription, named
    /// `APPLICATION/ACCOUNT`.
    pub async fn upsert_grant(
        &self,
        application: ApplicationId,
        account: AccountId,
        folders: Vec<String>,
        scopes: Vec<String>,
        now: TimestampMs,
    ) -> Result<Grant, StoreError> {
        dispatch!(self, upsert_grant(application, account, folders, scopes, now))
    }

    /// All grants that were not taken back.
    pub async fn grants(&self) -> Result<Vec<Grant>, StoreError> {
        dispatch!(self, grants())
    }

    /// Writes a subscription, matched by name. What it is owed stays owed.
    pub async fn upsert_subscription(
        &self,
        subscription: NewSubscription,
        now: TimestampMs,
    ) -> Result<Subscription, StoreError> {
        dispatch!(self, upsert_subscription(subscription, now))
    }

    /// All subscriptions, by name.
    pub async fn subscriptions(&self) -> Result<Vec<Subscription>, StoreError> {
        dispatch!(self, subscriptions())
    }

    /// Pauses, resumes or disables a subscription.
    pub async fn set_subscription_status(
        &self,
        subscription: SubscriptionId,
        status: SubscriptionStatus,
        reason: Option<String>,
    ) -> Result<(), StoreError> {
        dispatch!(self, set_subscription_status(subscription, status, reason))
    }

    /// Removes a subscription with all it is owed.
    pub async fn remove_subscription(&self, subscription: SubscriptionId) -> Result<(), StoreError> {
        dispatch!(self, remove_subscription(subscription))
    }

    // --- files and the journal

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
        arrivals: Vec<Arrival>,
        now: TimestampMs,
        ids: FreshIds,
    ) -> impl FnOnce() -> Result<Vec<Recorded>, StoreError> + use<> {
        match self {
            Self::Sqlite(engine) => engine.record_here(arrivals, now, ids),
        }
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

    // --- what only the Nextcloud protocol needs

    /// What an account posted to connect its receiver.
    pub async fn connection(&self, account: AccountId) -> Result<Option<Secret>, StoreError> {
        dispatch!(self, connection(account))
    }

    /// Keeps what an account posted, and writes the subscription that comes of it; without one, the subscription
    /// named [`connection_name`] is paused.
    pub async fn put_connection(
        &self,
        account: AccountId,
        settings: Secret,
        subscription: Option<NewSubscription>,
        now: TimestampMs,
    ) -> Result<(), StoreError> {
        dispatch!(self, put_connection(account, settings, subscription, now))
    }

    /// Forgets what an account posted, and pauses its subscription.
    pub async fn remove_connection(&self, account: AccountId) -> Result<(), StoreError> {
        dispatch!(self, remove_connection(account))
    }

    /// Keeps an app password; its name is unique in its account.
    pub async fn add_app_password(
        &self,
        account: AccountId,
        name: String,
        hash: [u8; 32],
        now: TimestampMs,
    ) -> Result<(), StoreError> {
        dispatch!(self, add_app_password(account, name, hash, now))
    }

    /// An account's app passwords, by name.
    pub async fn app_passwords(&self, account: AccountId) -> Result<Vec<AppPassword>, StoreError> {
        dispatch!(self, app_passwords(account))
    }

    /// Forgets an app password.
    pub async fn remove_app_password(&self, account: AccountId, name: String) -> Result<(), StoreError> {
        dispatch!(self, remove_app_password(account, name))
    }

    /// The account whose app password this is; its use is noted to the minute.
    pub async fn use_app_password(&self, hash: [u8; 32], now: TimestampMs) -> Result<Option<AccountId>, StoreError> {
        dispatch!(self, use_app_password(hash, now))
    }

    /// The properties of what lies at these paths, by path and name. The root's path is empty.
    pub async fn properties(
        &self,
        account: AccountId,
        paths: Vec<Vec<u8>>,
    ) -> Result<HashMap<Vec<u8>, Vec<Property>>, StoreError> {
        dispatch!(self, properties(account, paths))
    }

    /// Sets properties, or removes those without a value, all or none.
    pub async fn set_properties(
        &self,
        account: AccountId,
        path: Vec<u8>,
        changes: Vec<(String, Option<String>)>,
    ) -> Result<(), StoreError> {
        dispatch!(self, set_properties(account, path, changes))
    }

    /// Gives the properties of what lies at and below `from` to what lies at and below `to`.
    pub async fn copy_properties(&self, account: AccountId, from: FilePath, to: FilePath) -> Result<(), StoreError> {
        dispatch!(self, copy_properties(account, from, to))
    }

    /// As [`Self::copy_properties`], and takes them from where they were. Files do this when their move is recorded;
    /// directories are not recorded.
    pub async fn move_properties(&self, account: AccountId, from: FilePath, to: FilePath) -> Result<(), StoreError> {
        dispatch!(self, move_properties(account, from, to))
    }

    /// Forgets the properties of what lay at and below `path`.
    pub async fn remove_properties(&self, account: AccountId, path: FilePath) -> Result<(), StoreError> {
        dispatch!(self, remove_properties(account, path))
    }

    // --- what is owed

    /// Takes the subscriptions for which something was made due, or found to be due later, since the last call, each
    /// with the time. Only a shortcut: all that is due is found by [`Store::due`], and of these nothing may be due any
    /// more.
    pub fn just_due(&self) -> Vec<(SubscriptionId, TimestampMs)> {
        match self {
            Self::Sqlite(engine) => engine.just_due(),
        }
    }

    /// Active subscriptions that are owed something, each with the time the first of it is due.
    pub async fn due(&self) -> Result<Vec<(SubscriptionId, TimestampMs)>, StoreError> {
        dispatch!(self, due())
    }

    /// Claims at most `limit` notifications of a subscription that are due and not held by anybody, oldest due
    /// first, until `now` and `lease`. If none is pending, one that was delivered and is to be rung again.
    pub async fn claim(
        &self,
        subscription: SubscriptionId,
        now: TimestampMs,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        dispatch!(self, claim(subscription, now, lease, limit))
    }

    /// Writes ended attempts and what follows from them, in one commit. Answers which of them still held their
    /// lease; the others changed nothing.
    pub async fn settle(
        &self,
        settlements: Arc<[Settlement]>,
        now: TimestampMs,
        ids: FreshIds,
    ) -> Result<Vec<bool>, StoreError> {
        dispatch!(self, settle(settlements, now, ids))
    }

    /// Gives back what was claimed and not attempted; it can be claimed again at once.
    pub async fn release(&self, claimed: Vec<Claimed>) -> Result<(), StoreError> {
        dispatch!(self, release(claimed))
    }

    /// A notification.
    pub async fn notification(&self, id: NotificationId) -> Result<Option<Notification>, StoreError> {
        dispatch!(self, notification(id))
    }

    /// The attempts of a notification, first to last.
    pub async fn attempts(&self, id: NotificationId) -> Result<Vec<Attempt>, StoreError> {
        dispatch!(self, attempts(id))
    }

    /// At most `limit` notifications of a subscription, newest first.
    pub async fn notifications(
        &self,
        subscription: SubscriptionId,
        limit: u32,
    ) -> Result<Vec<Notification>, StoreError> {
        dispatch!(self, notifications(subscription, limit))
    }

    /// How every subscription stands, by name. Costs the same however many notifications there are.
    pub async fn standings(&self) -> Result<Vec<Standing>, StoreError> {
        dispatch!(self, standings())
    }

    /// At most `limit` events of the file that lies, or last lay, at a path, newest first; also those it had under
    /// other names. A file that is gone is looked for among the account's newest events only.
    pub async fn file_events(&self, account: AccountId, path: FilePath, limit: u32) -> Result<Vec<Event>, StoreError> {
        dispatch!(self, file_events(account, path, limit))
    }

    /// The notification by which a subscription is told of an event, if it is.
    pub async fn covering(&self, subscription: SubscriptionId, seq: Seq) -> Result<Option<Notification>, StoreError> {
        dispatch!(self, covering(subscription, seq))
    }

    /// At most `limit` of the newest events of an account, or of all, newest first.
    pub async fn newest_events(&self, account: Option<AccountId>, limit: u32) -> Result<Vec<Event>, StoreError> {
        dispatch!(self, newest_events(account, limit))
    }

    /// At most `limit` of the newest notifications of these subscriptions, or of all, newest first, each with its last
    /// attempt.
    pub async fn newest_notifications(
        &self,
        of: Option<Vec<SubscriptionId>>,
        limit: u32,
    ) -> Result<Vec<(Notification, Option<Attempt>)>, StoreError> {
        dispatch!(self, newest_notifications(of, limit))
    }

    /// Makes dead notifications pending again, due `now`; answers how many.
    pub async fn replay_dead(&self, subscription: SubscriptionId, now: TimestampMs) -> Result<u64, StoreError> {
        dispatch!(self, replay_dead(subscription, now))
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
