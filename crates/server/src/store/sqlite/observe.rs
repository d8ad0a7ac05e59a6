//! How things stand, for whoever asks: nothing here counts rows.

use filebell_core::event::Event;
use filebell_core::id::{AccountId, FileId, NotificationId, Seq, SubscriptionId};
use filebell_core::path::FilePath;
use filebell_core::time::TimestampMs;
use rusqlite::{Connection, OptionalExtension, params};

use super::super::{Attempt, Notification, Standing, StoreError};
use super::SqliteStore;
use super::rows::{ATTEMPT_COLUMNS, EVENT_COLUMNS, NOTIFICATION_COLUMNS, attempt, event, notification, unsigned};

/// A file that is gone has no row; its name is looked for in so many of the account's newest events.
const SEARCHED_EVENTS_MAX: u32 = 100_000;

impl SqliteStore {
    pub(in crate::store) async fn standings(&self) -> Result<Vec<Standing>, StoreError> {
        self.read(|connection, _| {
            let mut select = connection.prepare_cached(
                "SELECT s.id, t.pending, t.delivered, t.dead, t.superseded, t.last_success_at, t.last_failure_at,
                     t.last_failure,
                     (SELECT e.recorded_at FROM event e WHERE e.account = s.account AND e.seq >
                         (SELECT n.after_seq FROM notification n WHERE n.subscription = s.id AND n.state = 'pending'
                          ORDER BY n.last_seq LIMIT 1)
                      ORDER BY e.seq LIMIT 1),
                     s.unfetched_at
                 FROM subscription s JOIN tally t ON t.subscription = s.id ORDER BY s.name",
            )?;
            // A count that is wrong is better shown as none than as very many.
            let count = |number: i64| unsigned(number.max(0));
            let time = |at: Option<i64>| at.map(TimestampMs::from_millis);
            let rows = select.query_map([], |row| {
                Ok(Standing {
                    subscription: SubscriptionId::new(row.get(0)?),
                    pending: count(row.get(1)?),
                    delivered: count(row.get(2)?),
                    dead: count(row.get(3)?),
                    superseded: count(row.get(4)?),
                    last_success_at: time(row.get(5)?),
                    last_failure_at: time(row.get(6)?),
                    last_failure: row.get(7)?,
                    oldest_untold_at: time(row.get(8)?),
                    unfetched_at: time(row.get(9)?),
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    pub(in crate::store) async fn file_events(
        &self,
        account: AccountId,
        path: FilePath,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        self.read(move |connection, _| {
            let row = connection
                .prepare_cached("SELECT id FROM file WHERE account = ?1 AND path = ?2")?
                .query_row(params![account.get(), path.as_bytes()], |row| row.get(0))
                .optional()?;
            let search = || {
                connection
                    .prepare_cached(
                        "SELECT file FROM (SELECT seq, file, path, previous_path FROM event WHERE account = ?1
                             ORDER BY seq DESC LIMIT ?3)
                         WHERE path = ?2 OR previous_path = ?2 ORDER BY seq DESC LIMIT 1",
                    )?
                    .query_row(params![account.get(), path.as_bytes(), SEARCHED_EVENTS_MAX], |row| row.get(0))
                    .optional()
            };
            let file: Option<i64> = match row {
                Some(file) => Some(file),
                None => search()?,
            };
            let Some(file) = file.map(FileId::new) else { return Ok(Vec::new()) };
            let mut select = connection.prepare_cached(&format!(
                "SELECT {EVENT_COLUMNS} FROM event WHERE file = ?1 ORDER BY seq DESC LIMIT ?2"
            ))?;
            select.query_map(params![file.get(), limit], |row| Ok(event(row)))?.map(|row| row?).collect()
        })
        .await
    }

    pub(in crate::store) async fn newest_events(
        &self,
        account: Option<AccountId>,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        self.read(move |connection, _| {
            let which = if account.is_some() { "account = ?1" } else { "?1 IS NULL" };
            let mut select = connection.prepare_cached(&format!(
                "SELECT {EVENT_COLUMNS} FROM event WHERE {which} ORDER BY seq DESC LIMIT ?2"
            ))?;
            let of = params![account.map(AccountId::get), limit];
            select.query_map(of, |row| Ok(event(row)))?.map(|row| row?).collect()
        })
        .await
    }

    pub(in crate::store) async fn newest_notifications(
        &self,
        of: Option<Vec<SubscriptionId>>,
        limit: u32,
    ) -> Result<Vec<(Notification, Option<Attempt>)>, StoreError> {
        self.read(move |connection, _| {
            let mut newest = match of {
                None => {
                    // By their ids, which are made in the order of time.
                    let mut select = connection.prepare_cached(&format!(
                        "SELECT {NOTIFICATION_COLUMNS} FROM notification ORDER BY id DESC LIMIT ?1"
                    ))?;
                    select.query_map([limit], |row| Ok(notification(row)))?.map(|row| row?).collect::<Result<_, _>>()?
                }
                Some(of) => newest_of(connection, &of, limit)?,
            };
            newest.sort_unstable_by_key(|one| std::cmp::Reverse(one.id));
            newest.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            newest
                .into_iter()
                .map(|one| {
                    let attempt = last_attempt(connection, one.id)?;
                    Ok((one, attempt))
                })
                .collect()
        })
        .await
    }

    pub(in crate::store) async fn covering(
        &self,
        subscription: SubscriptionId,
        seq: Seq,
    ) -> Result<Option<Notification>, StoreError> {
        self.read(move |connection, _| {
            // Those that cover it follow each other in the order of their ends; the first may already do without it.
            let mut select = connection.prepare_cached(&format!(
                "SELECT {NOTIFICATION_COLUMNS} FROM notification
                 WHERE subscription = ?1 AND last_seq >= ?2 ORDER BY last_seq, state = 'delivered' DESC LIMIT 1"
            ))?;
            let found = select
                .query_row(params![subscription.get(), seq.get()], |row| Ok(notification(row)))
                .optional()?
                .transpose()?;
            Ok(found.filter(|one| one.after.seq < seq))
        })
        .await
    }
}

fn newest_of(connection: &Connection, of: &[SubscriptionId], limit: u32) -> Result<Vec<Notification>, StoreError> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {NOTIFICATION_COLUMNS} FROM notification WHERE subscription = ?1 ORDER BY last_seq DESC LIMIT ?2"
    ))?;
    let mut newest = Vec::new();
    for subscription in of {
        for row in select.query_map(params![subscription.get(), limit], |row| Ok(notification(row)))? {
            newest.push(row??);
        }
    }
    Ok(newest)
}

fn last_attempt(connection: &Connection, id: NotificationId) -> Result<Option<Attempt>, StoreError> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {ATTEMPT_COLUMNS} FROM attempt WHERE notification = ?1 ORDER BY number DESC LIMIT 1"
    ))?;
    let attempt = select.query_row([id.uuid().as_bytes()], |row| attempt(row, 0));
    Ok(attempt.optional()?)
}
