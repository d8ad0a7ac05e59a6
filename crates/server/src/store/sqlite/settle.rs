//! What becomes of a notification that was attempted.

use std::collections::HashSet;
use std::iter;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use filebell_core::id::{FreshIds, NotificationId};
use filebell_core::plan::{Change, Owed, Settled};
use filebell_core::retry::Step;
use filebell_core::subscription::{Cadence, SubscriptionStatus};
use filebell_core::time::TimestampMs;
use rusqlite::types::ValueRef;
use rusqlite::{Transaction, params};

use super::super::{Claimed, NotificationState, Rows, Settlement, StoreError};
use super::block::{BLOCK_ROWS, Insert, bind, blob, number, placeholders, text};
use super::owed::{apply, outstanding, read_ledger, write_ledger};
use super::rings::{ring_again, set_state};
use super::writer::WriterState;
use super::{SqliteStore, directory, lock};

impl SqliteStore {
    pub(in crate::store) async fn settle(
        &self,
        settlements: Arc<[Settlement]>,
        now: TimestampMs,
        mut ids: FreshIds,
    ) -> Result<Vec<bool>, StoreError> {
        let answer = self.0.desk.share((Rows::Attempts, settlements.len()), true, move |transaction, state| {
            settle(transaction, state, &settlements, now, &mut ids)
        });
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

/// Writes ended attempts; answers which of them still held their lease.
fn settle(
    transaction: &Transaction<'_>,
    state: &mut WriterState<'_>,
    settlements: &[Settlement],
    now: TimestampMs,
    ids: &mut FreshIds,
) -> Result<Vec<bool>, StoreError> {
    let mut written = vec![false; settlements.len()];
    let mut accepted = Vec::new();
    for (at, one) in settlements.iter().enumerate() {
        let claimed = &one.claimed;
        state.settled.push((claimed.subscription, claimed.notification, claimed.token));
        if lock(state.leases).token(claimed.subscription, claimed.notification) != Some(claimed.token) {
            continue;
        }
        // The subscription may have been removed meanwhile, and with it what it was owed.
        let Some(cadence) = state.cadence_of(transaction, claimed.subscription)? else { continue };
        if cadence == Cadence::PerEvent && one.step == Step::Delivered {
            accepted.push((at, claimed));
        } else {
            let changed = settle_one(transaction, state, one, cadence, now, ids)?;
            written.get_mut(at).into_iter().for_each(|written| *written = changed);
        }
    }
    let (blocks, rest) = accepted.as_chunks::<BLOCK_ROWS>();
    for block in blocks.iter().map(|block| block.as_slice()).chain(rest.chunks(1)) {
        for (at, claimed) in write_accepted(transaction, block, now)? {
            state.tally.went(claimed.subscription, NotificationState::Pending, NotificationState::Delivered, 1);
            written.get_mut(at).into_iter().for_each(|written| *written = true);
        }
    }
    let attempts: Vec<_> =
        settlements.iter().zip(&written).filter(|(_, written)| **written).map(|(one, _)| one).collect();
    for one in &attempts {
        state.tally.attempted(one.claimed.subscription, one.step == Step::Delivered, &one.attempt);
    }
    write_attempts(transaction, &attempts)?;
    Ok(written)
}

/// Writes that notifications of one event were accepted, one of them or a block; answers which of them were pending.
fn write_accepted<'a>(
    transaction: &Transaction<'_>,
    block: &[(usize, &'a Claimed)],
    now: TimestampMs,
) -> Result<Vec<(usize, &'a Claimed)>, StoreError> {
    // A failure takes the transaction with it: nothing is kept to undo the statement alone.
    static UPDATES: LazyLock<[String; 2]> = LazyLock::new(|| {
        of_block(
            "UPDATE OR ROLLBACK notification SET state = 'delivered', settled_at = ?, body = NULL,
                 attempts = attempts + 1, sealed = 1 WHERE state = 'pending' AND id IN",
        )
    });
    static CHANGED: LazyLock<[String; 2]> = LazyLock::new(|| {
        of_block("SELECT id FROM notification WHERE state = 'delivered' AND settled_at = ? AND id IN")
    });
    let ids: Vec<[u8; 16]> = block.iter().map(|(_, claimed)| *claimed.notification.uuid().as_bytes()).collect();
    let now = ValueRef::Integer(now.as_millis());
    let values: Vec<_> = iter::once(now).chain(ids.iter().map(|id| ValueRef::Blob(id))).collect();
    let which = usize::from(block.len() == BLOCK_ROWS);
    let mut update = transaction.prepare_cached(UPDATES.get(which).map_or("", String::as_str))?;
    bind(&mut update, &values)?;
    if update.raw_execute()? == block.len() {
        return Ok(block.to_vec());
    }
    let mut changed = transaction.prepare_cached(CHANGED.get(which).map_or("", String::as_str))?;
    bind(&mut changed, &values)?;
    let changed: HashSet<[u8; 16]> = changed.raw_query().mapped(|row| row.get(0)).collect::<Result<_, _>>()?;
    Ok(block.iter().filter(|(_, one)| changed.contains(one.notification.uuid().as_bytes())).copied().collect())
}

/// A statement that ends with a list of ids, for one and for a block.
fn of_block(head: &str) -> [String; 2] {
    [1, BLOCK_ROWS].map(|rows| {
        let mut text = format!("{head} (");
        placeholders(&mut text, rows);
        text + ")"
    })
}

/// Writes what becomes of one notification; answers whether it still waited for that.
fn settle_one(
    transaction: &Transaction<'_>,
    state: &mut WriterState<'_>,
    settlement: &Settlement,
    cadence: Cadence,
    now: TimestampMs,
    ids: &mut FreshIds,
) -> Result<bool, StoreError> {
    let claimed = &settlement.claimed;
    let changed = match claimed.rung {
        None => write_outcome(transaction, state, settlement, now)?,
        Some(_) => {
            if settlement.step == Step::Delivered {
                let (told, heard) = (NotificationState::Told, NotificationState::Delivered);
                set_state(transaction, state, claimed.subscription, claimed.notification, told, heard)?;
            }
            transaction
                .prepare_cached(
                    "UPDATE notification SET attempts = ?2 WHERE id = ?1 AND state IN ('delivered', 'told')",
                )?
                .execute(params![claimed.notification.uuid().as_bytes(), claimed.attempts.saturating_add(1)])?
        }
    };
    if changed == 0 {
        return Ok(false);
    }
    if settlement.step == Step::Disable {
        let reason = "the endpoint answered 410 Gone";
        directory::set_status(transaction, claimed.subscription, SubscriptionStatus::Disabled, Some(reason))?;
    }
    if let Cadence::Coalesced { min_interval } = cadence {
        plan_next(transaction, state, settlement, min_interval, now, ids)?;
    }
    Ok(true)
}

/// Writes what becomes of a pending notification; answers whether it still was one.
fn write_outcome(
    transaction: &Transaction<'_>,
    state: &mut WriterState<'_>,
    settlement: &Settlement,
    now: TimestampMs,
) -> Result<usize, StoreError> {
    let claimed = &settlement.claimed;
    let (new_state, due_at, settled_at, body) = match settlement.step {
        Step::Delivered => (NotificationState::Delivered, None, Some(now), None),
        Step::Told => (NotificationState::Told, None, Some(now), None),
        Step::Again(at) => (NotificationState::Pending, Some(at), None, Some(&settlement.body)),
        Step::Disable => (NotificationState::Pending, Some(now), None, Some(&settlement.body)),
        Step::Dead => (NotificationState::Dead, None, Some(now), Some(&settlement.body)),
    };
    let changed = transaction
        .prepare_cached(
            "UPDATE notification SET state = ?2, due_at = coalesce(?3, due_at), settled_at = ?4, body = ?5,
                 attempts = ?6, sealed = 1 WHERE id = ?1 AND state = 'pending'",
        )?
        .execute(params![
            claimed.notification.uuid().as_bytes(),
            new_state.as_str(),
            due_at.map(TimestampMs::as_millis),
            settled_at.map(TimestampMs::as_millis),
            body,
            claimed.attempts.saturating_add(1)
        ])?;
    state.tally.went(claimed.subscription, NotificationState::Pending, new_state, changed);
    if let Some(due_at) = due_at {
        state.due.push((claimed.subscription, due_at));
    }
    Ok(changed)
}

/// Writes attempts. One that is written again is overwritten.
fn write_attempts(transaction: &Transaction<'_>, attempts: &[&Settlement]) -> Result<(), StoreError> {
    static ATTEMPTS: LazyLock<Insert<13>> = LazyLock::new(|| {
        let columns = "notification, number, started_at, took_ms, status, detail, resolve_us, connect_us, tls_us,
             first_byte_us, answer, print, since_secs";
        Insert::new(&format!("INSERT OR REPLACE INTO attempt ({columns})"), "")
    });
    let ids: Vec<[u8; 16]> = attempts.iter().map(|one| *one.claimed.notification.uuid().as_bytes()).collect();
    let rows = attempts.iter().zip(&ids).map(|(one, id)| {
        let Settlement { claimed, attempt, .. } = one;
        // Later attempts send the body of the first.
        let since = Some(claimed.since.as_secs()).filter(|since| claimed.body.is_none() && *since != 0);
        [
            ValueRef::Blob(id),
            ValueRef::Integer(i64::from(claimed.attempt_number())),
            ValueRef::Integer(attempt.started_at.as_millis()),
            ValueRef::Integer(i64::try_from(attempt.took.as_millis()).unwrap_or(i64::MAX)),
            number(attempt.status.map(i64::from)),
            attempt.detail.as_deref().map_or(ValueRef::Null, text),
            number(micros(attempt.timing.resolve)),
            number(micros(attempt.timing.connect)),
            number(micros(attempt.timing.tls)),
            number(micros(attempt.timing.first_byte)),
            blob(Some(&*attempt.answer).filter(|answer| !answer.is_empty())),
            number(attempt.print.map(i64::from)),
            number(since),
        ]
    });
    ATTEMPTS.write(transaction, &rows.collect::<Vec<_>>())
}

fn micros(time: Option<Duration>) -> Option<i64> {
    time.map(|time| i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
}

/// Lets the ledger of a coalescing subscription draw its conclusions from an attempt.
fn plan_next(
    transaction: &Transaction<'_>,
    state: &mut WriterState<'_>,
    settlement: &Settlement,
    min_interval: Duration,
    now: TimestampMs,
    ids: &mut FreshIds,
) -> Result<(), StoreError> {
    let claimed = &settlement.claimed;
    let settled = match settlement.step {
        // What is rung again was delivered, however the ring ended.
        _ if claimed.rung.is_some() => Settled::Delivered,
        Step::Delivered | Step::Told => Settled::Delivered,
        Step::Again(at) => Settled::Again(at),
        Step::Disable => Settled::Again(now),
        Step::Dead => Settled::Dead,
    };
    let mut ledger = read_ledger(transaction, claimed.subscription)?;
    ledger.outstanding =
        Some(Owed { id: claimed.notification, after: claimed.after, last: claimed.last, due_at: now, sealed: true });
    let change = match ledger.settle(claimed.last, settled, min_interval, now, NotificationId::new(ids())) {
        // Others wait from the time when each event had one of its own: the last of them is followed by the next.
        Change::Create(_) if outstanding(transaction, claimed.subscription)?.is_some() => Change::None,
        change => change,
    };
    apply(transaction, state, claimed.subscription, &change, now)?;
    write_ledger(transaction, claimed.subscription, &ledger)?;
    if settled == Settled::Delivered {
        // Named, for the planner may take the index over all that ever was.
        let superseded = transaction
            .prepare_cached(
                "UPDATE notification INDEXED BY notification_dead SET state = 'superseded', body = NULL
                 WHERE subscription = ?1 AND state = 'dead' AND last_seq <= ?2
                     AND after_seq >= (SELECT gathered_seq FROM subscription WHERE id = ?1)",
            )?
            .execute(params![claimed.subscription.get(), claimed.last.seq.get()])?;
        let (dead, made_up_for) = (NotificationState::Dead, NotificationState::Superseded);
        state.tally.went(claimed.subscription, dead, made_up_for, superseded);
        if change == Change::None && (settlement.ring_at.is_some() || claimed.rung.is_some()) {
            let ring_at = settlement.ring_at.map(|at| at.max(now.after(min_interval)));
            ring_again(transaction, state, claimed, ring_at, now)?;
            if let Some(ring_at) = ring_at {
                state.due.push((claimed.subscription, ring_at));
            }
        }
        if change != Change::None && settlement.step == Step::Told {
            let (told, made_up_for) = (NotificationState::Told, NotificationState::Superseded);
            set_state(transaction, state, claimed.subscription, claimed.notification, told, made_up_for)?;
        }
    }
    Ok(())
}
