//! Files and the journal.

use std::collections::BTreeMap;
use std::iter;
use std::sync::{Arc, LazyLock};

use filebell_core::arrival::{Arrival, Claim, Fingerprint, Present};
use filebell_core::event::{Event, EventKind, StoredFile, Verdict, judge};
use filebell_core::id::{AccountId, Cursor, EventId, FileId, Seq};
use filebell_core::path::FilePath;
use filebell_core::subscription::{Subscription, SubscriptionStatus};
use filebell_core::time::TimestampMs;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Params, Transaction, params};

use super::super::{Asked, Changes, ChangesOf, Considered, Known, Recorded, RootState, Rows, Seen, StoreError};
use super::block::{BLOCK_ROWS, Insert, blob, number, text};
use super::rows::{EVENT_COLUMNS, FILE_COLUMNS, event, signed, stored_file, unsigned};
use super::writer::WriterState;
use super::{SqliteStore, nextcloud, owed};
use filebell_core::id::FreshIds;
use uuid::Uuid;

/// So few paths are asked about on the connection that writes, if nobody does: it has at hand what others read anew.
const KNOWN_BY_WRITER_MAX: usize = 16;
/// How many events are read at once while looking for those that were asked for.
const SCAN_EVENTS: u32 = 1000;

impl SqliteStore {
    /// It is in its place in the queue when this returns.
    pub(in crate::store) fn record(
        &self,
        arrivals: Vec<Arrival>,
        now: TimestampMs,
        ids: FreshIds,
    ) -> impl Future<Output = Result<Vec<Recorded>, StoreError>> + use<> {
        let claims: Vec<_> = arrivals.into_iter().map(|arrival| (arrival, None)).collect();
        let answer = self.0.desk.share((Rows::Arrivals, claims.len()), false, recording(claims, now, ids));
        async { answer.await.map_err(|_| StoreError::Closed)? }
    }

    pub(in crate::store) fn record_here(
        &self,
        arrivals: Vec<Considered>,
        now: TimestampMs,
        ids: FreshIds,
    ) -> impl FnOnce() -> Result<Vec<Recorded>, StoreError> + use<> {
        let claims: Vec<_> = arrivals.into_iter().map(|Considered { arrival, row }| (arrival, Some(row))).collect();
        self.0.desk.share_here((Rows::Arrivals, claims.len()), recording(claims, now, ids))
    }

    pub(in crate::store) async fn file_at(
        &self,
        account: AccountId,
        path: FilePath,
    ) -> Result<Option<StoredFile>, StoreError> {
        self.read(move |connection, _| file_at(connection, account, &path)).await
    }

    pub(in crate::store) fn known(&self, account: AccountId, asked: &[Asked]) -> Result<Vec<Known>, StoreError> {
        let read = |connection: &Connection| asked.iter().map(|asked| known(connection, account, asked)).collect();
        let few = asked.len() <= KNOWN_BY_WRITER_MAX;
        match few.then(|| self.0.desk.try_now(|writer| read(&writer.connection))).flatten() {
            Some(known) => known,
            None => self.0.read(read),
        }
    }

    pub(in crate::store) async fn remember(
        &self,
        account: AccountId,
        seen: Vec<Seen>,
        user: String,
        now: TimestampMs,
    ) -> Result<(), StoreError> {
        let remembering = self.0.desk.write_unsynced(move |transaction, state| {
            static FILES: LazyLock<Insert<11>> = LazyLock::new(|| {
                let columns = "id, account, path, dev, inode, birth_ns, size, mtime_ns, ctime_ns, arrived_at, user";
                let head = format!("INSERT INTO file ({columns})");
                Insert::new(&head, " ON CONFLICT (account, path) DO NOTHING RETURNING size")
            });
            let rows = seen
                .iter()
                .map(|Seen { path, fingerprint }| {
                    Ok([
                        ValueRef::Integer(state.numbers.next_file(transaction)?.get()),
                        ValueRef::Integer(account.get()),
                        ValueRef::Blob(path.as_bytes()),
                        ValueRef::Integer(signed(fingerprint.dev)),
                        ValueRef::Integer(signed(fingerprint.inode)),
                        number(fingerprint.birth_ns),
                        ValueRef::Integer(signed(fingerprint.size)),
                        ValueRef::Integer(fingerprint.mtime_ns),
                        ValueRef::Integer(fingerprint.ctime_ns),
                        ValueRef::Integer(now.as_millis()),
                        text(&user),
                    ])
                })
                .collect::<Result<Vec<_>, StoreError>>()?;
            let mut bytes = 0_u64;
            FILES.write_returning(transaction, &rows, |row| {
                bytes = bytes.saturating_add(unsigned(row.get(0)?));
                Ok(())
            })?;
            state.tally.holds(account, 0, bytes);
            Ok(())
        });
        remembering.await.map_err(|_| StoreError::Closed)?
    }

    pub(in crate::store) fn files(
        &self,
        account: AccountId,
        below: Option<&FilePath>,
        after: Option<&FilePath>,
        limit: u32,
    ) -> Result<Vec<StoredFile>, StoreError> {
        let (first, end) = range(below);
        let after = after.map_or(first.clone(), |after| first.max(after.as_bytes().to_vec()));
        self.0.read(|connection| {
            select_files(
                connection,
                "account = ?1 AND path > ?2 AND path < ?3 ORDER BY path LIMIT ?4",
                params![account.get(), after, end, limit],
            )
        })
    }

    pub(in crate::store) async fn files_page(
        &self,
        account: AccountId,
        below: FilePath,
        skip: u64,
        limit: u32,
    ) -> Result<Vec<StoredFile>, StoreError> {
        let (first, end) = range(Some(&below));
        self.read(move |connection, _| {
            select_files(
                connection,
                "account = ?1 AND path > ?2 AND path < ?3 ORDER BY path LIMIT ?4 OFFSET ?5",
                params![account.get(), first, end, limit, signed(skip)],
            )
        })
        .await
    }

    pub(in crate::store) async fn changes(
        &self,
        of: ChangesOf,
        after: Cursor,
        limit: u32,
    ) -> Result<Changes, StoreError> {
        self.read(move |connection, _| changes(connection, &of, after, limit)).await
    }

    pub(in crate::store) async fn newest(&self) -> Result<Cursor, StoreError> {
        self.read(|connection, _| Ok(Cursor::after(Seq::new(newest_number(connection, "event")?)))).await
    }

    pub(in crate::store) async fn root_state(
        &self,
        account: AccountId,
        now: TimestampMs,
    ) -> Result<RootState, StoreError> {
        self.write(move |transaction, _| {
            transaction.execute(
                "UPDATE account SET root_first_seen_at = ?2 WHERE id = ?1 AND root_first_seen_at IS NULL",
                params![account.get(), now.as_millis()],
            )?;
            transaction
                .query_row(
                    "SELECT root_first_seen_at, baseline_done FROM account WHERE id = ?1",
                    [account.get()],
                    |row| {
                        Ok(RootState {
                            first_seen_at: TimestampMs::from_millis(row.get(0)?),
                            baseline_done: row.get(1)?,
                        })
                    },
                )
                .optional()?
                .ok_or_else(|| StoreError::Missing(account.to_string()))
        })
        .await
    }

    pub(in crate::store) async fn set_baseline_done(&self, account: AccountId) -> Result<(), StoreError> {
        self.write(move |transaction, _| {
            transaction.execute("UPDATE account SET baseline_done = 1 WHERE id = ?1", [account.get()])?;
            Ok(())
        })
        .await
    }
}

/// An arrival, and the row at its path that it was made against, if that counts.
type Offered = (Arrival, Option<Option<(FileId, Fingerprint)>>);

/// Judges and writes arrivals, and what is owed for them.
fn recording(
    arrivals: Vec<Offered>,
    now: TimestampMs,
    mut ids: FreshIds,
) -> impl FnMut(&Transaction<'_>, &mut WriterState<'_>) -> Result<Vec<Recorded>, StoreError> {
    move |transaction, state| {
        let (mut news, mut recorded) = (News::default(), Vec::with_capacity(arrivals.len()));
        let mut rest = &*arrivals;
        while let Some((block, after)) =
            rest.split_at_checked(length_of_block(rest)).filter(|(block, _)| !block.is_empty())
        {
            record_block(transaction, state, block, now, &mut ids, &mut news, &mut recorded)?;
            rest = after;
        }
        state.news |= !news.is_empty();
        owe(transaction, state, &news, now, &mut ids)?;
        Ok(recorded)
    }
}

/// What is to be told of one batch, by account, in order.
type News<'a> = BTreeMap<AccountId, Vec<(Seq, EventKind, &'a FilePath)>>;

/// So many of the first arrivals can be judged before any of them is written: none names a path that one before it
/// names.
fn length_of_block(arrivals: &[Offered]) -> usize {
    let first = arrivals.get(..BLOCK_ROWS).unwrap_or(arrivals);
    let meets = |at: usize, arrival: &Arrival| {
        let before = first.get(..at).unwrap_or_default();
        paths(arrival).any(|path| before.iter().any(|(other, _)| paths(other).any(|other| other == path)))
    };
    first.iter().enumerate().position(|(at, (arrival, _))| meets(at, arrival)).unwrap_or(first.len())
}

fn paths(arrival: &Arrival) -> impl Iterator<Item = &FilePath> {
    iter::once(&arrival.path).chain(moved_from(&arrival.claim))
}

fn moved_from(claim: &Claim) -> Option<&FilePath> {
    match claim {
        Claim::Present(present) => present.moved_from.as_ref(),
        Claim::Gone => None,
    }
}

/// An event to be written.
struct NewEvent<'a> {
    seq: Seq,
    id: Uuid,
    kind: EventKind,
    file: FileId,
    arrival: &'a Arrival,
    previous: Option<FilePath>,
}

/// Judges arrivals that do not touch each other, and writes them.
fn record_block<'a>(
    transaction: &Transaction<'_>,
    state: &mut WriterState<'_>,
    block: &'a [Offered],
    now: TimestampMs,
    ids: &mut FreshIds,
    news: &mut News<'a>,
    recorded: &mut Vec<Recorded>,
) -> Result<(), StoreError> {
    let (mut files, mut events) = (Vec::new(), Vec::new());
    for (arrival, made_against) in block {
        let at_path = file_at(transaction, arrival.account, &arrival.path)?;
        if made_against.is_some_and(|row| is_stale(&arrival.claim, row, at_path.as_ref())) {
            recorded.push(Recorded::Stale);
            continue;
        }
        let moved_from = match (&at_path, moved_from(&arrival.claim)) {
            (None, Some(from)) => file_at(transaction, arrival.account, from)?,
            _ => None,
        };
        let moved_from = moved_from.filter(|row| made_against.is_none() || is_of(&arrival.claim, row));
        let verdict = judge(arrival, at_path.as_ref(), moved_from.as_ref());
        let stored = at_path.or(moved_from);
        let Some((kind, file)) = record_file(transaction, state, arrival, verdict, stored.as_ref(), now, &mut files)?
        else {
            recorded.push(Recorded::Silent);
            continue;
        };
        let previous = stored.map(|file| file.path).filter(|path| *path != arrival.path);
        nextcloud::follow(transaction, arrival.account, kind, previous.as_ref(), &arrival.path)?;
        let (seq, id) = (state.numbers.next_event(transaction)?, ids());
        recorded.push(Recorded::Event { seq, id: EventId::new(id), file, kind });
        news.entry(arrival.account).or_default().push((seq, kind, &arrival.path));
        events.push(NewEvent { seq, id, kind, file, arrival, previous });
    }
    write_files(transaction, &files)?;
    write_events(transaction, &events, now)
}

/// Whether another row lies at a path than the one that a claim was made against. That a file is gone whose row is gone
/// too says nothing new.
fn is_stale(claim: &Claim, made_against: Option<(FileId, Fingerprint)>, at_path: Option<&StoredFile>) -> bool {
    let differs = made_against != at_path.map(|row| (row.id, row.fingerprint));
    differs && (*claim != Claim::Gone || at_path.is_some())
}

/// Whether a row is of the very file that is claimed to be there.
fn is_of(claim: &Claim, row: &StoredFile) -> bool {
    match claim {
        Claim::Present(present) => row.fingerprint.same_inode(&present.fingerprint),
        Claim::Gone => false,
    }
}

/// Writes, or gathers if it is new, the row of one file; answers what is to be told of it.
fn record_file<'a>(
    transaction: &Transaction<'_>,
    state: &mut WriterState<'_>,
    arrival: &'a Arrival,
    verdict: Verdict,
    stored: Option<&StoredFile>,
    now: TimestampMs,
    files: &mut Vec<NewFile<'a>>,
) -> Result<Option<(EventKind, FileId)>, StoreError> {
    let held = stored.map_or(0, |file| file.fingerprint.size);
    let (present, kind) = match (&arrival.claim, verdict) {
        (_, Verdict::Nothing) | (Claim::Gone, Verdict::Refresh | Verdict::Baseline) => return Ok(None),
        (Claim::Gone, Verdict::News(kind)) => {
            let Some(file) = stored.map(|file| file.id) else { return Ok(None) };
            transaction.prepare_cached("DELETE FROM file WHERE id = ?1")?.execute([file.get()])?;
            state.tally.holds(arrival.account, held, 0);
            return Ok(Some((kind, file)));
        }
        (Claim::Present(present), Verdict::Refresh | Verdict::Baseline) => (present, None),
        (Claim::Present(present), Verdict::News(kind)) => (present, Some(kind)),
    };
    state.tally.holds(arrival.account, held, present.version.size);
    // A file that only moved, or whose content is the same, has not arrived anew.
    let same = stored.filter(|_| kind.is_none_or(|kind| kind == EventKind::Moved));
    let arrived_at = same.map_or(now, |file| file.arrived_at);
    let id = match stored {
        None => {
            let id = state.numbers.next_file(transaction)?;
            files.push(NewFile { id, arrival, present, arrived_at });
            id
        }
        Some(known) => {
            let user = same.map_or(arrival.user.as_str(), |file| file.user.as_str());
            update_file(transaction, known.id, arrival, present, arrived_at, user)?;
            known.id
        }
    };
    Ok(kind.map(|kind| (kind, id)))
}

/// A file to be written that is not known yet.
struct NewFile<'a> {
    id: FileId,
    arrival: &'a Arrival,
    present: &'a Present,
    arrived_at: TimestampMs,
}

fn write_files(transaction: &Transaction<'_>, files: &[NewFile<'_>]) -> Result<(), StoreError> {
    static FILES: LazyLock<Insert<13>> = LazyLock::new(|| {
        let columns =
            "id, account, path, dev, inode, birth_ns, size, mtime_ns, ctime_ns, sha256, md5, arrived_at, user";
        Insert::new(&format!("INSERT INTO file ({columns})"), "")
    });
    let rows = files.iter().map(|NewFile { id, arrival, present, arrived_at }| {
        let print = &present.fingerprint;
        [
            ValueRef::Integer(id.get()),
            ValueRef::Integer(arrival.account.get()),
            ValueRef::Blob(arrival.path.as_bytes()),
            ValueRef::Integer(signed(print.dev)),
            ValueRef::Integer(signed(print.inode)),
            number(print.birth_ns),
            ValueRef::Integer(signed(present.version.size)),
            ValueRef::Integer(print.mtime_ns),
            ValueRef::Integer(print.ctime_ns),
            ValueRef::Blob(&present.version.sha256),
            ValueRef::Blob(&present.version.md5),
            ValueRef::Integer(arrived_at.as_millis()),
            text(&arrival.user),
        ]
    });
    FILES.write(transaction, &rows.collect::<Vec<_>>())
}

fn update_file(
    transaction: &Transaction<'_>,
    id: FileId,
    arrival: &Arrival,
    present: &Present,
    arrived_at: TimestampMs,
    user: &str,
) -> Result<(), StoreError> {
    let print = &present.fingerprint;
    transaction
        .prepare_cached(
            "UPDATE file SET path = ?3, dev = ?4, inode = ?5, birth_ns = ?6, size = ?7, mtime_ns = ?8, ctime_ns = ?9,
                 sha256 = ?10, md5 = ?11, arrived_at = ?12, user = ?13 WHERE id = ?1 AND account = ?2",
        )?
        .execute(params![
            id.get(),
            arrival.account.get(),
            arrival.path.as_bytes(),
            signed(print.dev),
            signed(print.inode),
            print.birth_ns,
            signed(present.version.size),
            print.mtime_ns,
            print.ctime_ns,
            present.version.sha256,
            present.version.md5,
            arrived_at.as_millis(),
            user
        ])?;
    Ok(())
}

fn write_events(transaction: &Transaction<'_>, events: &[NewEvent<'_>], now: TimestampMs) -> Result<(), StoreError> {
    static EVENTS: LazyLock<Insert<15>> =
        LazyLock::new(|| Insert::new(&format!("INSERT INTO event ({EVENT_COLUMNS})"), ""));
    let rows = events.iter().map(|NewEvent { seq, id, kind, file, arrival, previous }| {
        let present = match &arrival.claim {
            Claim::Present(present) => Some(present),
            Claim::Gone => None,
        };
        [
            ValueRef::Integer(seq.get()),
            ValueRef::Blob(id.as_bytes()),
            text(kind.as_str()),
            ValueRef::Integer(arrival.account.get()),
            ValueRef::Integer(file.get()),
            ValueRef::Blob(arrival.path.as_bytes()),
            blob(previous.as_ref().map(FilePath::as_bytes)),
            number(present.map(|present| signed(present.version.size))),
            blob(present.map(|present| present.version.sha256.as_slice())),
            blob(present.map(|present| present.version.md5.as_slice())),
            number(present.map(|present| present.fingerprint.mtime_ms())),
            text(&arrival.user),
            text(arrival.source.as_str()),
            present.map_or(ValueRef::Null, |present| text(present.completeness.as_str())),
            ValueRef::Integer(now.as_millis()),
        ]
    });
    EVENTS.write(transaction, &rows.collect::<Vec<_>>())
}

/// The newest numbers that were given out, read from the table where they are not known.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Numbers {
    file: Option<i64>,
    event: Option<i64>,
}

impl Numbers {
    fn next_file(&mut self, connection: &Connection) -> Result<FileId, StoreError> {
        Ok(FileId::new(next(&mut self.file, connection, "file")?))
    }

    fn next_event(&mut self, connection: &Connection) -> Result<Seq, StoreError> {
        Ok(Seq::new(next(&mut self.event, connection, "event")?))
    }
}

fn next(last: &mut Option<i64>, connection: &Connection, table: &str) -> Result<i64, StoreError> {
    let newest = match *last {
        Some(newest) => newest,
        None => newest_number(connection, table)?,
    };
    *last = Some(newest + 1);
    Ok(newest + 1)
}

/// The newest number of a table. Those of removed rows count too: they are never given out again.
fn newest_number(connection: &Connection, table: &str) -> Result<i64, StoreError> {
    let mut select = connection.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = ?1")?;
    Ok(select.query_row([table], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Writes what every matching subscription is owed for the news.
fn owe(
    transaction: &Transaction<'_>,
    state: &mut WriterState<'_>,
    news: &News<'_>,
    now: TimestampMs,
    ids: &mut FreshIds,
) -> Result<(), StoreError> {
    for (account, events) in news {
        for subscription in state.subscriptions_of(transaction, *account)? {
            let matched = match subscription.status {
                SubscriptionStatus::Revoked => Vec::new(),
                _ => matching(&subscription, events),
            };
            if !matched.is_empty() {
                owed::note(transaction, state, &subscription, &matched, now, ids)?;
            }
        }
    }
    Ok(())
}

fn matching(subscription: &Arc<Subscription>, events: &[(Seq, EventKind, &FilePath)]) -> Vec<Seq> {
    events.iter().filter(|(_, kind, path)| subscription.filter.wants(*kind, path)).map(|(seq, ..)| *seq).collect()
}

pub(super) fn file_at(
    connection: &Connection,
    account: AccountId,
    path: &FilePath,
) -> Result<Option<StoredFile>, StoreError> {
    Ok(select_files(connection, "account = ?1 AND path = ?2", params![account.get(), path.as_bytes()])?.pop())
}

fn known(connection: &Connection, account: AccountId, asked: &Asked) -> Result<Known, StoreError> {
    let row = file_at(connection, account, &asked.path)?;
    let kin = match asked.inode {
        Some(inode) => {
            select_files(connection, "account = ?1 AND inode = ?2 ORDER BY id", params![account.get(), signed(inode)])?
        }
        None => Vec::new(),
    };
    Ok(Known { row, kin })
}

pub(super) fn select_files(
    connection: &Connection,
    which: &str,
    parameters: impl Params,
) -> Result<Vec<StoredFile>, StoreError> {
    let mut select = connection.prepare_cached(&format!("SELECT {FILE_COLUMNS} FROM file WHERE {which}"))?;
    select.query_map(parameters, |row| Ok(stored_file(row)))?.map(|row| row?).collect()
}

/// The open interval of paths below a directory; all paths where there is none.
pub(super) fn range(below: Option<&FilePath>) -> (Vec<u8>, Vec<u8>) {
    // `0` is the byte after `/`.
    below.map_or_else(
        || (b"/".to_vec(), b"0".to_vec()),
        |directory| ([directory.as_bytes(), b"/"].concat(), [directory.as_bytes(), b"0"].concat()),
    )
}

fn changes(connection: &Connection, of: &ChangesOf, after: Cursor, limit: u32) -> Result<Changes, StoreError> {
    let wanted = |event: &Event| {
        of.folders.as_ref().is_none_or(|folders| {
            [Some(&event.path), event.previous_path.as_ref()]
                .into_iter()
                .flatten()
                .filter_map(FilePath::folder)
                .any(|folder| folders.iter().any(|name| name.as_bytes() == folder))
        })
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut page = Changes { events: Vec::new(), next: after, more: false };
    loop {
        let scanned = scan_events(connection, of.account, page.next)?;
        let ended = scanned.len() < usize::try_from(SCAN_EVENTS).unwrap_or(usize::MAX);
        for event in scanned {
            if wanted(&event) {
                if page.events.len() == limit {
                    page.more = true;
                    return Ok(page);
                }
                page.next = Cursor::after(event.seq);
                page.events.push(event);
            } else {
                page.next = Cursor::after(event.seq);
            }
        }
        if ended {
            return Ok(page);
        }
    }
}

fn scan_events(connection: &Connection, account: Option<AccountId>, after: Cursor) -> Result<Vec<Event>, StoreError> {
    let which = if account.is_some() { "account = ?1 AND" } else { "?1 IS NULL AND" };
    let mut select = connection
        .prepare_cached(&format!("SELECT {EVENT_COLUMNS} FROM event WHERE {which} seq > ?2 ORDER BY seq LIMIT ?3"))?;
    let parameters = params![account.map(AccountId::get), after.seq().get(), SCAN_EVENTS];
    select.query_map(parameters, |row| Ok(event(row)))?.map(|row| row?).collect()
}
