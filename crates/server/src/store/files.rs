//! The verbs about files as people look for them.

use std::fmt;
use std::str::FromStr;

use filebell_core::event::{Event, StoredFile};
use filebell_core::id::{AccountId, FileId, Seq};
use filebell_core::path::FilePath;
use filebell_core::time::{TimestampMs, TimestampSecs};

use super::{Store, StoreError, dispatch};

/// Which of an account's files are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesWanted {
    /// Whose.
    pub account: AccountId,
    /// Whose path begins with this text; or, without a slash at its beginning, holds it, in whatever case. Empty is any.
    pub part: Vec<u8>,
}

/// A place in the list of files, newest arrival first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilePosition {
    /// The second in which the last one arrived.
    pub secs: TimestampSecs,
    /// The last one.
    pub id: FileId,
}

impl fmt::Display for FilePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.secs, self.id.get())
    }
}

/// The text is no place in the list of files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no place in the list of files")]
pub struct NotAFilePosition;

impl FromStr for FilePosition {
    type Err = NotAFilePosition;

    fn from_str(text: &str) -> Result<Self, NotAFilePosition> {
        let (secs, id) = text.split_once('.').ok_or(NotAFilePosition)?;
        let number = |text: &str| text.parse().map_err(|_| NotAFilePosition);
        Ok(Self { secs: TimestampSecs::from_secs(number(secs)?), id: FileId::new(number(id)?) })
    }
}

/// A page of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePage {
    /// Newest arrival first.
    pub files: Vec<StoredFile>,
    /// Where to go on; `None` at the end.
    pub next: Option<FilePosition>,
    /// The search stopped there because it had looked at enough; there may be more behind `next`.
    pub searched_to: Option<TimestampMs>,
}

/// A file that is, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFile {
    /// Whose.
    pub account: AccountId,
    /// Where it lies, or last lay.
    pub path: FilePath,
    /// As it is now; `None` if it is gone.
    pub stored: Option<StoredFile>,
}

impl Store {
    /// At most `limit` of the files that an account has, newest arrival first, from a position on. Looks at a bounded
    /// number of rows and says where it stopped.
    pub async fn find_files(
        &self,
        wanted: FilesWanted,
        from: Option<FilePosition>,
        limit: usize,
    ) -> Result<FilePage, StoreError> {
        dispatch!(self, find_files(wanted, from, limit))
    }

    /// A file by its id; also one that is gone, if it was ever told.
    pub async fn known_file(&self, id: FileId) -> Result<Option<KnownFile>, StoreError> {
        dispatch!(self, known_file(id))
    }

    /// At most `limit` events of a file before `before`, newest first.
    pub async fn events_of(&self, file: FileId, before: Option<Seq>, limit: u32) -> Result<Vec<Event>, StoreError> {
        dispatch!(self, events_of(file, before, limit))
    }
}
