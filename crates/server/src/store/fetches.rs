//! Who fetched what when.

use filebell_core::event::Event;
use filebell_core::id::{AccountId, FileId};
use filebell_core::time::TimestampMs;

use super::{Store, StoreError, dispatch};

/// Something that was fetched, to be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetch {
    /// A part of the journal was shown.
    Shown(Shown),
    /// One file.
    File(FetchedFile),
}

/// A part of the journal that was shown to somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// To whom: `operator`, `account NAME` or `application NAME`.
    pub reader: String,
    /// Which part.
    pub what: Part,
    /// Whose events; `None` for every account's.
    pub account: Option<AccountId>,
    /// Only of these top-level directories; `None` for all.
    pub folders: Option<Vec<String>>,
    /// When.
    pub at: TimestampMs,
}

/// A part of the journal: what comes after the first, up to and with the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Events by their numbers.
    Changes(i64, i64),
    /// Arrivals by when they were recorded, milliseconds since the epoch.
    Recent(i64, i64),
}

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedFile {
    /// Whose.
    pub account: AccountId,
    /// Which.
    pub file: FileId,
    /// When the content that was fetched was recorded.
    pub arrived_at: TimestampMs,
    /// By whom; as in [`Shown::reader`].
    pub reader: String,
    /// `detail` or `download`.
    pub how: &'static str,
    /// When.
    pub at: TimestampMs,
}

/// That an event was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// By whom; as in [`Shown::reader`].
    pub reader: String,
    /// `changes`, `recent`, `detail` or `download`.
    pub how: String,
    /// When for the first time.
    pub at: TimestampMs,
}

impl Store {
    /// Writes down what was fetched, in one commit. Only the first time is kept.
    pub async fn note_fetches(&self, fetches: Vec<Fetch>) -> Result<(), StoreError> {
        dispatch!(self, note_fetches(fetches))
    }

    /// Who fetched what an event tells, each reader's every way once, first to last.
    pub async fn fetches_of(&self, event: Event) -> Result<Vec<Fetched>, StoreError> {
        dispatch!(self, fetches_of(event))
    }
}
