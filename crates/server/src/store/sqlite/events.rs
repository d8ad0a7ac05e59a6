//! Files and the journal.

use std::collections::BTreeMap;
use std::sync::Arc;

use filebell_core::arrival::{Arrival, Claim, Present};
use filebell_core::event::{Event, EventKind, StoredFile, Verdict, judge};
use filebell_core::id::{AccountId, Cursor, EventId, FileId, Seq};
use filebell_core::path::FilePath;
use filebell_core::subscription::{Subscription, SubscriptionStatus};
use filebell_core::time::TimestampMs;
use rusqlite::{Connection, OptionalExtension, Params, Transaction, params};

use super::super::{Asked, Changes, ChangesOf, Known, Recorded, RootState, Rows, Seen, StoreError};
use super::rows::{EVENT_COLUMNS, FILE_COLUMNS, event, signed, stored_file};
use super::tally::Tally;
use super::writer::WriterState;
use super::{SqliteStore, nextcloud, owed};
use filebell_core::id::FreshIds;

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
        let answer = self.0.desk.share((Rows::Arrivals, arrivals.len()), false, recording(arrivals, now, ids));
        async { answer.await.map_err(|_| StoreError::Closed)? }
    }

    pub(in crate::store) fn record_here(
        &self,
        arrivals: Vec<Arrival>,
        now: TimestampMs,
        ids: FreshIds,
    ) -> impl FnOnce() -> Result<Vec<Recorded>, StoreError> + use<> {
        self.0.desk.share_here((Rows::Arrivals, arrivals.len()), recording(arrivals, now, ids))
    }

    pub(in crate::store) async fn file_at(
        &self,
        account: AccountId,
        path: FilePath,
    ) -> Result<Option<StoredFile>, StoreError> {
        self.read(move |connection, _| file_at(connection, account, &path)).await
    }

    pub(in crate::store) fn known(&self, account: AccountId, asked: &[Asked]) -> Result<Vec<Known>, StoreError> {
        self.0.read(|connection| asked.iter().map(|asked| known(connection, account, asked)).collect())
    }

    pub(in crate::store) async fn remember(
        &self,
        account: AccountId,
        seen: Vec<Seen>,
        user: String,
        now: TimestampMs,
    ) -> Result<(), StoreError> {
        let remembering = self.0.desk.write_unsynced(move |transaction, state| {
            let mut bytes = 0_u64;
            let mut insert = transaction.prepare_cached(
                "INSERT INTO file (account, path, dev, inode, birth_ns, size, mtime_ns, ctime_ns, arrived_at, user)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (account, path) DO NOTHING",
            )?;
            for Seen { path, fingerprint } in &seen {
                let inserted = insert.execute(params![
                    account.get(),
                    path.as_bytes(),
                    signed(fingerprint.dev),
                    signed(fingerprint.inode),
                    fingerprint.birth_ns,
                    signed(fingerprint.size),
                    fingerprint.mtime_ns,
                    fingerprint.ctime_ns,
                    now.as_millis(),
                    user
                ])?;
                if inserted > 0 {
                    bytes = bytes.saturating_add(fingerprint.size);
                }
            }
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
        self.read(|connection, _| {
            // Numbers of removed events count too: they are never given out again.
            let mut select = connection.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'event'")?;
            let seq = select.query_row([], |row| row.get(0)).optional()?.unwrap_or(0);
            Ok(Cursor::after(Seq::new(seq)))
        })
        .await
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

/// Judges and writes arrivals, and what is owed for them.
fn recording(
    arrivals: Vec<Arrival>,
    now: TimestampMs,
    mut ids: FreshIds,
) -> impl FnMut(&Transaction<'_>, &mut WriterState<'_>) -> Result<Vec<Recorded>, StoreError> {
    move |transaction, state| {
        let mut news = News::default();
        let recorded = arrivals
            .iter()
            .map(|arrival| record_one(transaction, &mut state.tally, arrival, now, &mut ids, &mut news))
            .collect::<Result<_, _>>()?;
        state.news |= !news.is_empty();
        owe(transaction, state, &news, now, &mut ids)?;
        Ok(recorded)
    }
}

/// What is to be told of one batch, by account, in order.
type News = BTreeMap<AccountId, Vec<(Seq, EventKind, FilePath)>>;

fn record_one(
    transaction: &Transaction<'_>,
    tally: &mut Tally,
    arrival: &Arrival,
    now: TimestampMs,
    ids: &mut FreshIds,
    news: &mut News,
) -> Result<Recorded, StoreError> {
    let at_path = file_at(transaction, arrival.account, &arrival.path)?;
    let moved_from = match (&at_path, &arrival.claim) {
        (None, Claim::Present(Present { moved_from: Some(from), .. })) => file_at(transaction, arrival.account, from)?,
        _ => None,
    };
    let verdict = judge(arrival, at_path.as_ref(), moved_from.as_ref());
    let stored = at_path.or(moved_from);
    let known = stored.as_ref().map(|file| file.id);
    let held = stored.as_ref().map_or(0, |file| file.fingerprint.size);
    let (kind, file) = match (&arrival.claim, verdict) {
        (_, Verdict::Nothing) => return Ok(Recorded::Silent),
        (Claim::Present(present), Verdict::Refresh | Verdict::Baseline) => {
            let arrived_at = stored.as_ref().map_or(now, |file| file.arrived_at);
            let user = stored.as_ref().map_or(arrival.user.as_str(), |file| file.user.as_str());
            write_file(transaction, known, arrival, present, arrived_at, user)?;
            tally.holds(arrival.account, held, present.version.size);
            return Ok(Recorded::Silent);
        }
        (Claim::Present(present), Verdict::News(kind)) => {
            // A file that only moved has not arrived anew.
            let moved = stored.as_ref().filter(|_| kind == EventKind::Moved);
            let arrived_at = moved.map_or(now, |file| file.arrived_at);
            let user = moved.map_or(arrival.user.as_str(), |file| file.user.as_str());
            let file = write_file(transaction, known, arrival, present, arrived_at, user)?;
            tally.holds(arrival.account, held, present.version.size);
            (kind, file)
        }
        (Claim::Gone, Verdict::News(kind)) => {
            let Some(file) = known else { return Ok(Recorded::Silent) };
            transaction.prepare_cached("DELETE FROM file WHERE id = ?1")?.execute([file.get()])?;
            tally.holds(arrival.account, held, 0);
            (kind, file)
        }
        (Claim::Gone, Verdict::Refresh | Verdict::Baseline) => return Ok(Recorded::Silent),
    };
    let previous = stored.as_ref().map(|file| &file.path).filter(|path| **path != arrival.path);
    nextcloud::follow(transaction, arrival.account, kind, previous, &arrival.path)?;
    let id = EventId::new(ids());
    let seq = write_event(transaction, arrival, kind, file, previous, id, now)?;
    news.entry(arrival.account).or_default().push((seq, kind, arrival.path.clone()));
    Ok(Recorded::Event { seq, id, file, kind })
}

fn write_file(
    transaction: &Transaction<'_>,
    known: Option<FileId>,
    arrival: &Arrival,
    present: &Present,
    arrived_at: TimestampMs,
    user: &str,
) -> Result<FileId, StoreError> {
    // Two statements: one that does either cannot be undone half-way without a copy of every page it writes.
    let mut write = transaction.prepare_cached(match known {
        None => {
            "INSERT INTO file (account, path, dev, inode, birth_ns, size, mtime_ns, ctime_ns, sha256, md5, arrived_at,
                 user)
             VALUES (?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
        }
        Some(_) => {
            "UPDATE file SET path = ?3, dev = ?4, inode = ?5, birth_ns = ?6, size = ?7, mtime_ns = ?8, ctime_ns = ?9,
                 sha256 = ?10, md5 = ?11, arrived_at = ?12, user = ?13 WHERE id = ?1 AND account = ?2"
        }
    })?;
    let print = &present.fingerprint;
    let values = params![
        known.map(FileId::get),
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
    ];
    match known {
        None => Ok(FileId::new(write.insert(values)?)),
        Some(id) => {
            write.execute(values)?;
            Ok(id)
        }
    }
}

fn write_event(
    transaction: &Transaction<'_>,
    arrival: &Arrival,
    kind: EventKind,
    file: FileId,
    previous: Option<&FilePath>,
    id: EventId,
    now: TimestampMs,
) -> Result<Seq, StoreError> {
    let present = match &arrival.claim {
        Claim::Present(present) => Some(present),
        Claim::Gone => None,
    };
    let mut insert = transaction.prepare_cached(
        "INSERT INTO event (id, kind, account, file, path, previous_path, size, sha256, md5, mtime_ms, user, source,
             completeness, recorded_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?;
    let seq = insert.insert(params![
        id.uuid().as_bytes(),
        kind.as_str(),
        arrival.account.get(),
        file.get(),
        arrival.path.as_bytes(),
        previous.map(FilePath::as_bytes),
        present.map(|present| signed(present.version.size)),
        present.map(|present| present.version.sha256),
        present.map(|present| present.version.md5),
        present.map(|present| present.fingerprint.mtime_ms()),
        arrival.user,
        arrival.source.as_str(),
        present.map(|present| present.completeness.as_str()),
        now.as_millis()
    ])?;
    Ok(Seq::new(seq))
}

/// Writes what every matching subscription is owed for the news.
fn owe(
    transaction: &Transaction<'_>,
    state: &mut WriterState<'_>,
    news: &News,
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

fn matching(subscription: &Arc<Subscription>, events: &[(Seq, EventKind, FilePath)]) -> Vec<Seq> {
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
