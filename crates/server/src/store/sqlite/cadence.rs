//! What becomes of what a subscription is owed when it is to be told at another pace.
//!
//! What is pending stays as it is: another process may be sending it just now. So it covers no more than it did, and
//! what it does not cover gets a notification of its own.

use filebell_core::id::{FreshIds, NotificationId, SubscriptionId};
use filebell_core::plan::{Ledger, Mark};
use filebell_core::subscription::Cadence;
use filebell_core::time::TimestampMs;
use rusqlite::{OptionalExtension, Transaction, params};

use super::super::{NotificationState, StoreError};
use super::owed::{apply, outstanding, read_ledger, write_ledger};
use super::rings::end_ring;
use super::rows::mark;
use super::writer::WriterState;

/// Takes in that the pace of a subscription was `before` and is `after`.
pub(super) fn change(
    transaction: &Transaction<'_>,
    state: &mut WriterState<'_>,
    subscription: SubscriptionId,
    (before, after): (Cadence, Cadence),
    now: TimestampMs,
    ids: &mut FreshIds,
) -> Result<(), StoreError> {
    let mut ledger = read_ledger(transaction, subscription)?;
    match (before, after) {
        (Cadence::PerEvent, Cadence::PerEvent) => return Ok(()),
        (Cadence::PerEvent, Cadence::Coalesced { .. }) => {
            ledger.gather();
            transaction.execute(
                "UPDATE subscription SET gathered_seq = ?2 WHERE id = ?1",
                params![subscription.get(), ledger.newest.seq.get()],
            )?;
        }
        (Cadence::Coalesced { .. }, Cadence::PerEvent) => {
            scatter(transaction, state, subscription, &mut ledger, now, NotificationId::new(ids()))?;
        }
        (Cadence::Coalesced { .. }, Cadence::Coalesced { min_interval }) => {
            ledger.outstanding = outstanding(transaction, subscription)?;
            let change = ledger.hasten(min_interval, now);
            apply(transaction, state, subscription, &change, now)?;
        }
    }
    write_ledger(transaction, subscription, &ledger)
}

/// From now on each event has a notification of its own.
fn scatter(
    transaction: &Transaction<'_>,
    state: &mut WriterState<'_>,
    subscription: SubscriptionId,
    ledger: &mut Ledger,
    now: TimestampMs,
    id: NotificationId,
) -> Result<(), StoreError> {
    transaction.execute(
        "UPDATE notification SET sealed = 1 WHERE subscription = ?1 AND state = 'pending' AND sealed = 0",
        [subscription.get()],
    )?;
    // Nobody rings any more for what was answered 500.
    let unheard = transaction.execute(
        "UPDATE notification SET state = 'dead'
         WHERE id = (SELECT ring FROM subscription WHERE id = ?1) AND state = 'told'",
        [subscription.get()],
    )?;
    state.tally.went(subscription, NotificationState::Told, NotificationState::Dead, unheard);
    end_ring(transaction, subscription)?;
    let covered = covered(transaction, subscription)?;
    // What died untold begins where everything has been told, and so does what came after it: the last covers all.
    let superseded = transaction.execute(
        "UPDATE notification INDEXED BY notification_dead SET state = 'superseded', body = NULL
         WHERE subscription = ?1 AND state = 'dead' AND last_seq > ?2 AND last_seq < ?3",
        params![subscription.get(), ledger.told.seq.get(), covered.seq.get()],
    )?;
    state.tally.went(subscription, NotificationState::Dead, NotificationState::Superseded, superseded);
    let change = ledger.scatter(covered, now, id);
    apply(transaction, state, subscription, &change, now)
}

/// The last event that anything pending or dead covers.
fn covered(transaction: &Transaction<'_>, subscription: SubscriptionId) -> Result<Mark, StoreError> {
    let mut covered = Mark::START;
    for (which, index) in [("pending", "notification_untold"), ("dead", "notification_dead")] {
        let mut select = transaction.prepare_cached(&format!(
            "SELECT last_seq, last_ordinal FROM notification INDEXED BY {index}
             WHERE subscription = ?1 AND state = '{which}' ORDER BY last_seq DESC LIMIT 1"
        ))?;
        let last = select.query_row([subscription.get()], |row| Ok(mark(row, 0))).optional()?.transpose()?;
        covered = last.map_or(covered, |last| covered.max(last));
    }
    Ok(covered)
}
