//! What was delivered, of protocol nextcloud, and is told again until it is fetched.

use filebell_core::id::{AccountId, NotificationId, SubscriptionId};
use filebell_core::time::TimestampMs;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use uuid::Uuid;

use super::super::{Claimed, NotificationState, StoreError};
use super::writer::WriterState;

/// Whether `recent` has shown a subscription all it was told: no file that it could show lies between.
const FETCHED: &str = "NOT EXISTS (SELECT 1 FROM file WHERE file.account = subscription.account
     AND file.arrived_secs > subscription.since_secs
     AND file.arrived_secs <= (SELECT recorded_at / 1000 FROM event WHERE seq = subscription.told_seq))";

/// Lets a notification that was delivered be told again at `ring_at`; without a time, it stands as never fetched.
/// One that has been fetched needs neither.
pub(super) fn ring_again(
    transaction: &Transaction<'_>,
    state: &mut WriterState<'_>,
    claimed: &Claimed,
    ring_at: Option<TimestampMs>,
    now: TimestampMs,
) -> Result<(), StoreError> {
    let rung = claimed.rung.map_or(0, |before| before.saturating_add(1));
    transaction
        .prepare_cached(&format!(
            "UPDATE subscription SET ring = ?2, ring_at = ?3, rung = ?4,
                 unfetched_at = iif(?3 IS NULL, coalesce(unfetched_at, ?5), unfetched_at)
             WHERE id = ?1 AND NOT {FETCHED}"
        ))?
        .execute(params![
            claimed.subscription.get(),
            claimed.notification.uuid().as_bytes(),
            ring_at.map(TimestampMs::as_millis),
            rung,
            now.as_millis()
        ])?;
    transaction
        .prepare_cached(&format!(
            "UPDATE subscription SET ring = NULL, ring_at = NULL, rung = 0, unfetched_at = NULL
             WHERE id = ?1 AND {FETCHED}"
        ))?
        .execute([claimed.subscription.get()])?;
    let rings = transaction
        .prepare_cached("SELECT ring IS NOT NULL FROM subscription WHERE id = ?1")?
        .query_row([claimed.subscription.get()], |row| row.get(0))?;
    let after = match (rings, ring_at) {
        (false, _) => NotificationState::Delivered,
        (true, Some(_)) => return Ok(()),
        (true, None) => NotificationState::Dead,
    };
    set_state(transaction, state, claimed.subscription, claimed.notification, NotificationState::Told, after)
}

/// Takes one notification from one state to another, if it is in that.
pub(super) fn set_state(
    transaction: &Transaction<'_>,
    state: &mut WriterState<'_>,
    subscription: SubscriptionId,
    notification: NotificationId,
    from: NotificationState,
    to: NotificationState,
) -> Result<(), StoreError> {
    let changed = transaction
        .prepare_cached("UPDATE notification SET state = ?3 WHERE id = ?1 AND state = ?2")?
        .execute(params![notification.uuid().as_bytes(), from.as_str(), to.as_str()])?;
    state.tally.went(subscription, from, to, changed);
    Ok(())
}

/// Ends the ringing for what an account's consumer has fetched. A ring under way ends when it is settled: what came
/// meanwhile waits for that.
pub(super) fn end_rings(
    transaction: &Transaction<'_>,
    state: &mut WriterState<'_>,
    account: AccountId,
) -> Result<(), StoreError> {
    let mut select = transaction.prepare_cached(&format!(
        "SELECT id, ring, newest_seq = told_seq FROM subscription WHERE account = ?1 AND protocol = 'nextcloud'
         AND (ring IS NOT NULL OR unfetched_at IS NOT NULL) AND {FETCHED}"
    ))?;
    let fetched = select.query_map([account.get()], |row| {
        let ring = row.get::<_, Option<[u8; 16]>>(1)?.map(|id| NotificationId::new(Uuid::from_bytes(id)));
        Ok((SubscriptionId::new(row.get(0)?), ring, row.get::<_, bool>(2)?))
    })?;
    for row in fetched {
        let (subscription, ring, all_told) = row?;
        transaction
            .prepare_cached("UPDATE subscription SET unfetched_at = NULL WHERE id = ?1")?
            .execute([subscription.get()])?;
        if let Some(ring) = ring
            && all_told
            && !state.is_held(subscription, ring)
        {
            // Fetched, though it was answered 500, or though it was given up.
            for from in [NotificationState::Told, NotificationState::Dead] {
                set_state(transaction, state, subscription, ring, from, NotificationState::Delivered)?;
            }
            end_ring(transaction, subscription)?;
        }
    }
    Ok(())
}

pub(super) fn end_ring(transaction: &Transaction<'_>, subscription: SubscriptionId) -> Result<(), StoreError> {
    transaction
        .prepare_cached("UPDATE subscription SET ring = NULL, ring_at = NULL, rung = 0 WHERE id = ?1")?
        .execute([subscription.get()])?;
    Ok(())
}

/// A notification that is to be rung again.
pub(super) struct Ring {
    pub(super) id: NotificationId,
    pub(super) due_at: TimestampMs,
    pub(super) rung: u32,
}

/// What is to be rung again while nothing is pending.
pub(super) fn ring_of(connection: &Connection, subscription: SubscriptionId) -> Result<Option<Ring>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT ring, ring_at, rung FROM subscription
         WHERE id = ?1 AND protocol = 'nextcloud' AND ring IS NOT NULL AND ring_at IS NOT NULL
         AND NOT EXISTS (SELECT 1 FROM notification WHERE notification.subscription = ?1 AND state = 'pending')",
    )?;
    let ring = select.query_row([subscription.get()], |row| {
        Ok(Ring {
            id: NotificationId::new(Uuid::from_bytes(row.get(0)?)),
            due_at: TimestampMs::from_millis(row.get(1)?),
            rung: row.get(2)?,
        })
    });
    Ok(ring.optional()?)
}
