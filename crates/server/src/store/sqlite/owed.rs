//! What subscriptions are owed, made with the events; and the ledger it goes by.

use std::sync::LazyLock;

use filebell_core::id::{FreshIds, NotificationId, Seq, SubscriptionId};
use filebell_core::plan::{Change, Ledger, Mark, Owed};
use filebell_core::subscription::{Cadence, Subscription};
use filebell_core::time::{TimestampMs, TimestampSecs};
use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use uuid::Uuid;

use super::super::{Attempt, Claimed, LeaseToken, Notification, NotificationState, StoreError};
use super::block::{Insert, text};
use super::rings::{end_ring, ring_of};
use super::rows::{ATTEMPT_COLUMNS, NOTIFICATION_COLUMNS, attempt, mark, notification, signed};
use super::writer::WriterState;
use super::{SqliteStore, directory};

impl SqliteStore {
    pub(in crate::store) async fn notification(&self, id: NotificationId) -> Result<Option<Notification>, StoreError> {
        self.read(move |connection, _| {
            let mut select =
                connection.prepare_cached(&format!("SELECT {NOTIFICATION_COLUMNS} FROM notification WHERE id = ?1"))?;
            select.query_row([id.uuid().as_bytes()], |row| Ok(notification(row))).optional()?.transpose()
        })
        .await
    }

    pub(in crate::store) async fn attempts(&self, id: NotificationId) -> Result<Vec<Attempt>, StoreError> {
        self.read(move |connection, _| {
            let mut select = connection.prepare_cached(&format!(
                "SELECT {ATTEMPT_COLUMNS} FROM attempt WHERE notification = ?1 ORDER BY number"
            ))?;
            let rows = select.query_map([id.uuid().as_bytes()], |row| attempt(row, 0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    pub(in crate::store) async fn notifications(
        &self,
        subscription: SubscriptionId,
        limit: u32,
    ) -> Result<Vec<Notification>, StoreError> {
        self.read(move |connection, _| {
            let mut select = connection.prepare_cached(&format!(
                "SELECT {NOTIFICATION_COLUMNS} FROM notification WHERE subscription = ?1
                 ORDER BY last_seq DESC, id DESC LIMIT ?2"
            ))?;
            let rows = select.query_map(params![subscription.get(), limit], |row| Ok(notification(row)))?;
            rows.map(|row| row?).collect()
        })
        .await
    }

    pub(in crate::store) async fn seal_outstanding(&self) -> Result<(), StoreError> {
        self.write(|transaction, _| {
            transaction.execute(
                "UPDATE notification SET sealed = 1 WHERE state = 'pending' AND sealed = 0
                 AND subscription IN (SELECT id FROM subscription WHERE protocol <> 'sagex3')",
                [],
            )?;
            Ok(())
        })
        .await
    }

    pub(in crate::store) async fn replay_dead(
        &self,
        subscription: SubscriptionId,
        now: TimestampMs,
    ) -> Result<u64, StoreError> {
        self.write(move |transaction, state| {
            // For a server on the same store, whose frontiers do not know of this.
            directory::touch(transaction)?;
            let Some(cadence) = state.cadence_of(transaction, subscription)? else { return Ok(0) };
            let Some(due_at) = replay_at(transaction, subscription, cadence, now)? else { return Ok(0) };
            // The newest dead one of a coalescing subscription covers what the older ones did.
            let limit = if cadence == Cadence::PerEvent { -1 } else { 1 };
            let replayed = transaction.execute(
                "UPDATE notification SET state = 'pending', earlier_attempts = earlier_attempts + attempts,
                     attempts = 0, due_at = ?2, settled_at = NULL
                 WHERE id IN (SELECT id FROM notification WHERE subscription = ?1 AND state = 'dead'
                     ORDER BY id DESC LIMIT ?3)",
                params![subscription.get(), due_at.as_millis(), limit],
            )?;
            state.tally.went(subscription, NotificationState::Dead, NotificationState::Pending, replayed);
            if replayed > 0 {
                state.due.push((subscription, due_at));
            }
            Ok(replayed as u64)
        })
        .await
    }
}

/// When what has ended is due if it is told again: of a coalescing subscription, not before its interval is over, and
/// not at all while something is outstanding.
pub(super) fn replay_at(
    transaction: &Transaction<'_>,
    subscription: SubscriptionId,
    cadence: Cadence,
    now: TimestampMs,
) -> Result<Option<TimestampMs>, StoreError> {
    Ok(match cadence {
        Cadence::PerEvent => Some(now),
        Cadence::Coalesced { .. } if outstanding(transaction, subscription)?.is_some() => None,
        Cadence::Coalesced { min_interval } => Some(read_ledger(transaction, subscription)?.due_at(min_interval, now)),
    })
}

/// Writes what a subscription is owed for the events it matched.
pub(super) fn note(
    transaction: &Transaction<'_>,
    state: &mut WriterState<'_>,
    subscription: &Subscription,
    matched: &[Seq],
    now: TimestampMs,
    ids: &mut FreshIds,
) -> Result<(), StoreError> {
    let mut ledger = read_ledger(transaction, subscription.id)?;
    match subscription.cadence() {
        Cadence::PerEvent => {
            let owed: Vec<Owed> = matched
                .iter()
                .map(|seq| {
                    let last = Mark { seq: *seq, ordinal: ledger.newest.ordinal.saturating_add(1) };
                    let after = Mark { seq: Seq::new(seq.get() - 1), ordinal: ledger.newest.ordinal };
                    ledger.newest = last;
                    Owed { id: NotificationId::new(ids()), after, last, due_at: now, sealed: true }
                })
                .collect();
            insert(transaction, state, subscription.id, &owed, now)?;
            if state.is_active(subscription.id) {
                state.fresh.extend(owed.iter().map(|owed| fresh(subscription.id, owed, now)));
            } else {
                state.due.push((subscription.id, now));
            }
        }
        Cadence::Coalesced { min_interval } => {
            if let Some(newest) = matched.last() {
                ledger.outstanding = outstanding_now(transaction, state, subscription.id, &ledger)?;
                let id = NotificationId::new(ids());
                let change = ledger.note(*newest, matched.len() as u64, min_interval, now, id);
                apply(transaction, state, subscription.id, &change, now)?;
            }
        }
    }
    write_ledger(transaction, subscription.id, &ledger)
}

pub(super) fn apply(
    transaction: &Transaction<'_>,
    state: &mut WriterState<'_>,
    subscription: SubscriptionId,
    change: &Change,
    now: TimestampMs,
) -> Result<(), StoreError> {
    match change {
        Change::None => Ok(()),
        Change::Create(owed) => {
            // What is made now covers what was told in vain so far.
            let told = transaction
                .prepare_cached(
                    "UPDATE notification SET state = 'superseded'
                     WHERE id = (SELECT ring FROM subscription WHERE id = ?1) AND state = 'told'",
                )?
                .execute([subscription.get()])?;
            state.tally.went(subscription, NotificationState::Told, NotificationState::Superseded, told);
            end_ring(transaction, subscription)?;
            insert(transaction, state, subscription, std::slice::from_ref(owed), now)?;
            state.due.push((subscription, owed.due_at));
            Ok(())
        }
        Change::Widen(owed) | Change::Postpone(owed) => {
            transaction
                .prepare_cached(
                    "UPDATE notification SET last_seq = ?2, last_ordinal = ?3, due_at = ?4, sealed = ?5 WHERE id = ?1",
                )?
                .execute(params![
                    owed.id.uuid().as_bytes(),
                    owed.last.seq.get(),
                    signed(owed.last.ordinal),
                    owed.due_at.as_millis(),
                    owed.sealed
                ])?;
            // It may be due earlier than it was.
            state.due.push((subscription, owed.due_at));
            log(subscription, owed, "covers more, or is due later");
            Ok(())
        }
    }
}

/// Writes pending notifications.
fn insert(
    transaction: &Transaction<'_>,
    state: &mut WriterState<'_>,
    subscription: SubscriptionId,
    owed: &[Owed],
    now: TimestampMs,
) -> Result<(), StoreError> {
    static NOTIFICATIONS: LazyLock<Insert<10>> = LazyLock::new(|| {
        let columns = "id, subscription, state, after_seq, after_ordinal, last_seq, last_ordinal, sealed, due_at,
             created_at";
        Insert::new(&format!("INSERT INTO notification ({columns})"), "")
    });
    let ids: Vec<[u8; 16]> = owed.iter().map(|one| *one.id.uuid().as_bytes()).collect();
    let rows = owed.iter().zip(&ids).map(|(one, id)| {
        [
            ValueRef::Blob(id),
            ValueRef::Integer(subscription.get()),
            text(NotificationState::Pending.as_str()),
            ValueRef::Integer(one.after.seq.get()),
            ValueRef::Integer(signed(one.after.ordinal)),
            ValueRef::Integer(one.last.seq.get()),
            ValueRef::Integer(signed(one.last.ordinal)),
            ValueRef::Integer(i64::from(one.sealed)),
            ValueRef::Integer(one.due_at.as_millis()),
            ValueRef::Integer(now.as_millis()),
        ]
    });
    NOTIFICATIONS.write(transaction, &rows.collect::<Vec<_>>())?;
    state.tally.made(subscription, owed.len());
    owed.iter().for_each(|owed| log(subscription, owed, "made"));
    Ok(())
}

/// A notification of one event as it is claimed for the first time, without a token.
fn fresh(subscription: SubscriptionId, owed: &Owed, now: TimestampMs) -> Claimed {
    Claimed {
        notification: owed.id,
        subscription,
        after: owed.after,
        last: owed.last,
        attempts: 0,
        earlier_attempts: 0,
        created_at: now,
        // Both are written at once.
        oldest_at: now,
        body: None,
        since: TimestampSecs::from_secs(0),
        rung: None,
        token: LeaseToken(0),
    }
}

/// Says what is owed now. Said before the commit: if that fails, it is said again.
fn log(subscription: SubscriptionId, owed: &Owed, message: &str) {
    tracing::debug!(
        notification.id = %owed.id,
        notification.first_seq = owed.after.seq.next().get(),
        notification.last_seq = owed.last.seq.get(),
        subscription.id = subscription.get(),
        message
    );
}

/// What is outstanding of a coalescing subscription; a notification that somebody holds is as good as sealed.
fn outstanding_now(
    transaction: &Transaction<'_>,
    state: &WriterState<'_>,
    subscription: SubscriptionId,
    ledger: &Ledger,
) -> Result<Option<Owed>, StoreError> {
    if let Some(owed) = outstanding(transaction, subscription)? {
        let sealed = owed.sealed || state.is_held(subscription, owed.id);
        return Ok(Some(Owed { sealed, ..owed }));
    }
    // While a ring is under way, nothing else is sent: what comes meanwhile is told after it.
    let ring = ring_of(transaction, subscription)?;
    let ring = ring.filter(|ring| state.is_held(subscription, ring.id));
    let told = ledger.told;
    Ok(ring.map(|ring| Owed { id: ring.id, after: told, last: told, due_at: ring.due_at, sealed: true }))
}

pub(super) fn read_ledger(transaction: &Transaction<'_>, subscription: SubscriptionId) -> Result<Ledger, StoreError> {
    let mut select = transaction.prepare_cached(
        "SELECT newest_seq, newest_ordinal, told_seq, told_ordinal, last_sent_at FROM subscription WHERE id = ?1",
    )?;
    let read = |row: &Row<'_>| -> Result<Ledger, StoreError> {
        Ok(Ledger {
            newest: mark(row, 0)?,
            told: mark(row, 2)?,
            last_sent_at: row.get::<_, Option<i64>>(4)?.map(TimestampMs::from_millis),
            outstanding: None,
        })
    };
    select.query_row([subscription.get()], |row| Ok(read(row)))?
}

pub(super) fn write_ledger(
    transaction: &Transaction<'_>,
    subscription: SubscriptionId,
    ledger: &Ledger,
) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "UPDATE subscription SET newest_seq = ?2, newest_ordinal = ?3, told_seq = ?4, told_ordinal = ?5,
                 last_sent_at = ?6 WHERE id = ?1",
        )?
        .execute(params![
            subscription.get(),
            ledger.newest.seq.get(),
            signed(ledger.newest.ordinal),
            ledger.told.seq.get(),
            signed(ledger.told.ordinal),
            ledger.last_sent_at.map(TimestampMs::as_millis)
        ])?;
    Ok(())
}

/// The one pending notification of a coalescing subscription, or the first of those from before it coalesced.
pub(super) fn outstanding(
    transaction: &Transaction<'_>,
    subscription: SubscriptionId,
) -> Result<Option<Owed>, StoreError> {
    let mut select = transaction.prepare_cached(
        "SELECT id, after_seq, after_ordinal, last_seq, last_ordinal, due_at, sealed FROM notification
         WHERE subscription = ?1 AND state = 'pending' ORDER BY due_at, id LIMIT 1",
    )?;
    let read = |row: &Row<'_>| -> Result<Owed, StoreError> {
        Ok(Owed {
            id: NotificationId::new(Uuid::from_bytes(row.get(0)?)),
            after: mark(row, 1)?,
            last: mark(row, 3)?,
            due_at: TimestampMs::from_millis(row.get(5)?),
            sealed: row.get(6)?,
        })
    };
    select.query_row([subscription.get()], |row| Ok(read(row))).optional()?.transpose()
}
