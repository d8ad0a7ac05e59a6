//! From rows to the words of the trade, and back.

use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use filebell_core::arrival::{Fingerprint, Version};
use filebell_core::event::{Event, StoredFile};
use filebell_core::id::{AccountId, EventId, FileId, NotificationId, Seq, SubscriptionId};
use filebell_core::path::FilePath;
use filebell_core::plan::Mark;
use filebell_core::time::TimestampMs;
use rusqlite::Row;
use uuid::Uuid;

use super::super::{Attempt, Notification, NotificationState, StoreError, Timing};

/// The columns that [`stored_file`] reads, in its order.
pub(super) const FILE_COLUMNS: &str =
    "id, account, path, dev, inode, birth_ns, size, mtime_ns, ctime_ns, sha256, md5, arrived_at, user";
/// The columns that [`event`] reads, in its order.
pub(super) const EVENT_COLUMNS: &str = "seq, id, kind, account, file, path, previous_path, size, sha256, md5, \
     mtime_ms, user, source, completeness, recorded_at";
/// The columns that [`notification`] reads, in its order.
pub(super) const NOTIFICATION_COLUMNS: &str = "id, subscription, after_seq, after_ordinal, last_seq, last_ordinal, \
     state, attempts, due_at, created_at";

/// Says which kind of row cannot be read, and why.
pub(super) fn corrupt<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    what: &'static str,
) -> impl FnOnce(E) -> StoreError {
    move |why| StoreError::Corrupt { what, why: why.into() }
}

fn version(sha256: Option<[u8; 32]>, md5: Option<[u8; 16]>, size: u64) -> Option<Version> {
    sha256.zip(md5).map(|(sha256, md5)| Version { sha256, md5, size })
}

pub(super) fn stored_file(row: &Row<'_>) -> Result<StoredFile, StoreError> {
    let size = unsigned(row.get(6)?);
    Ok(StoredFile {
        id: FileId::new(row.get(0)?),
        account: AccountId::new(row.get(1)?),
        path: FilePath::from_bytes(row.get_ref(2)?.as_blob().map_err(corrupt("file"))?).map_err(corrupt("file"))?,
        fingerprint: Fingerprint {
            dev: unsigned(row.get(3)?),
            inode: unsigned(row.get(4)?),
            birth_ns: row.get(5)?,
            size,
            mtime_ns: row.get(7)?,
            ctime_ns: row.get(8)?,
        },
        version: version(row.get(9)?, row.get(10)?, size),
        arrived_at: TimestampMs::from_millis(row.get(11)?),
        user: row.get(12)?,
    })
}

pub(super) fn event(row: &Row<'_>) -> Result<Event, StoreError> {
    let path = |bytes: &[u8]| FilePath::from_bytes(bytes).map_err(corrupt("event"));
    let previous: Option<Vec<u8>> = row.get(6)?;
    let version = match (row.get::<_, Option<i64>>(7)?, row.get(8)?, row.get(9)?) {
        (Some(size), Some(sha256), Some(md5)) => Some(Version { sha256, md5, size: unsigned(size) }),
        _ => None,
    };
    Ok(Event {
        seq: Seq::new(row.get(0)?),
        id: EventId::new(Uuid::from_bytes(row.get(1)?)),
        kind: word(row, 2, "event")?,
        account: AccountId::new(row.get(3)?),
        file: FileId::new(row.get(4)?),
        path: path(row.get_ref(5)?.as_blob().map_err(corrupt("event"))?)?,
        previous_path: previous.as_deref().map(path).transpose()?,
        version,
        mtime_ms: row.get(10)?,
        user: row.get(11)?,
        source: word(row, 12, "event")?,
        completeness: match row.get_ref(13)?.as_str_or_null().map_err(corrupt("event"))? {
            None => None,
            Some(text) => Some(text.parse().map_err(corrupt("event"))?),
        },
        recorded_at: TimestampMs::from_millis(row.get(14)?),
    })
}

pub(super) fn notification(row: &Row<'_>) -> Result<Notification, StoreError> {
    let state = row.get_ref(6)?.as_str().map_err(corrupt("notification"))?;
    Ok(Notification {
        id: NotificationId::new(Uuid::from_bytes(row.get(0)?)),
        subscription: SubscriptionId::new(row.get(1)?),
        after: mark(row, 2)?,
        last: mark(row, 4)?,
        state: NotificationState::from_word(state).ok_or("an unknown state").map_err(corrupt("notification"))?,
        attempts: row.get(7)?,
        due_at: TimestampMs::from_millis(row.get(8)?),
        created_at: TimestampMs::from_millis(row.get(9)?),
    })
}

/// A mark from two columns: seq, ordinal.
pub(super) fn mark(row: &Row<'_>, first: usize) -> Result<Mark, StoreError> {
    Ok(Mark { seq: Seq::new(row.get(first)?), ordinal: unsigned(row.get(first + 1)?) })
}

/// One of the words of the trade.
pub(super) fn word<T: std::str::FromStr>(row: &Row<'_>, column: usize, what: &'static str) -> Result<T, StoreError>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    row.get_ref(column)?.as_str().map_err(corrupt(what))?.parse().map_err(corrupt(what))
}

/// A list kept as JSON.
pub(super) fn list(row: &Row<'_>, column: usize, what: &'static str) -> Result<Vec<String>, StoreError> {
    serde_json::from_str(row.get_ref(column)?.as_str().map_err(corrupt(what))?).map_err(corrupt(what))
}

/// The path kept as bytes.
pub(super) fn directory(bytes: Vec<u8>) -> std::path::PathBuf {
    std::ffi::OsStr::from_bytes(&bytes).into()
}

/// SQLite knows signed numbers only; device and inode numbers keep all their 64 bits.
pub(super) fn signed(number: u64) -> i64 {
    number.cast_signed()
}

/// The other way of [`signed`].
pub(super) fn unsigned(number: i64) -> u64 {
    number.cast_unsigned()
}

/// The columns that [`attempt`] reads, in its order.
pub(super) const ATTEMPT_COLUMNS: &str =
    "started_at, took_ms, status, detail, resolve_us, connect_us, tls_us, first_byte_us, answer, print";

/// An attempt in the columns from `first` on.
pub(super) fn attempt(row: &Row<'_>, first: usize) -> rusqlite::Result<Attempt> {
    let time = |column| -> rusqlite::Result<_> {
        Ok(row.get::<_, Option<i64>>(first + column)?.map(|micros| Duration::from_micros(unsigned(micros))))
    };
    Ok(Attempt {
        started_at: TimestampMs::from_millis(row.get(first)?),
        took: Duration::from_millis(unsigned(row.get(first + 1)?)),
        status: row.get(first + 2)?,
        detail: row.get(first + 3)?,
        timing: Timing { resolve: time(4)?, connect: time(5)?, tls: time(6)?, first_byte: time(7)? },
        answer: row.get::<_, Option<_>>(first + 8)?.unwrap_or_default(),
        print: row.get(first + 9)?,
    })
}
