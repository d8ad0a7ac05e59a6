//! What subscriptions are owed: made with the events, settled.

use std::collections::HashSet;
use std::iter;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use filebell_core::id::{AccountId, NotificationId, Seq, SubscriptionId};
use filebell_core::plan::{Change, Ledger, Mark, Owed, Settled};
use filebell_core::retry::Step;
use filebell_core::subscription::{Cadence, Subscription, SubscriptionStatus};
use filebell_core::time::{TimestampMs, TimestampSecs};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use uuid::Uuid;

use super::super::{
    Attempt, Claimed, LeaseToken, Notification, NotificationState, Rows, Settlement, StoreError, Timing,
};
use super::block::{BLOCK_ROWS, Insert, bind, blob, number, placeholders, text};
use super::leases::Leases;
use super::rows::{NOTIFICATION_COLUMNS, mark, notification, signed, unsigned};
use super::writer::WriterState;
use super::{SqliteStore, directory, lock};
use filebell_core::id::FreshIds;

/// Whether `recent` has shown a subscription all it was told: no file that it could show lies between.
const FETCHED: &str = "NOT EXISTS (SELECT 1 FROM file WHERE file.account = subscription.account
     AND file.arrived_secs > subscription.since_secs
     AND file.arrived_secs <= (SELECT recorded_at / 1000 FROM event WHERE seq = subscription.told_seq))";

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

    pub(in crate::store) async fn replay_dead(
        &self,
        subscription: SubscriptionId,
        now: TimestampMs,
    ) -> Result<u64, StoreError> {
        self.write(move |transaction, state| {
            // For a server on the same store, whose frontiers do not know of this.
            directory::touch(transaction)?;
            let cadence = state.cadence_of(transaction, subscription)?;
            // A coalescing subscription has one outstanding; the newest dead one covers what the older ones did.
            let limit = match cadence {
                None => 0,
                Some(Cadence::PerEvent) => -1,
                Some(Cadence::Coalesced { .. }) if outstanding(transaction, subscription)?.is_some() => 0,
                Some(Cadence::Coalesced { .. }) => 1,
            };
            let replayed = transaction.execute(
                "UPDATE notification SET state = 'pending', earlier_attempts = earlier_attempts + attempts,
                     attempts = 0, due_at = ?2, settled_at = NULL
                 WHERE id IN (SELECT id FROM notification WHERE subscription = ?1 AND state = 'dead'
                     ORDER BY id DESC LIMIT ?3)",
                params![subscription.get(), now.as_millis(), limit],
            )?;
            state.tally.went(subscription, NotificationState::Dead, NotificationState::Pending, replayed);
            Ok(replayed as u64)
        })
        .await
    }
}

impl NotificationState {
    const WORDS: [(Self, &'static str); 6] = [
        (Self::Pending, "pending"),
        (Self::Told, "told"),
        (Self::Delivered, "delivered"),
        (Self::Dead, "dead"),
        (Self::Superseded, "superseded"),
        (Self::Revoked, "revoked"),
    ];

    /// The state by its word in JSON, SQL and logs.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(_, text)| *text == word).map(|(state, _)| *state)
    }

    /// The word for it in JSON, SQL and logs.
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(state, _)| *state == self).map_or("", |(_, text)| text)
    }
}

/// On opening: what may have been sent before a crash covers no more than it did, so that a repeat under the same id
/// tells the same.
pub(super) fn seal_outstanding(transaction: &Transaction<'_>, _: &mut WriterState<'_>) -> Result<(), StoreError> {
    transaction.execute(
        "UPDATE notification SET sealed = 1 WHERE state = 'pending' AND sealed = 0
         AND subscription IN (SELECT id FROM subscription WHERE protocol <> 'sagex3')",
        [],
    )?;
    Ok(())
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
                ledger.outstanding = outstanding_now(transaction, state.leases, subscription.id, &ledger)?;
                let id = NotificationId::new(ids());
                let change = ledger.note(*newest, matched.len() as u64, min_interval, now, id);
                apply(transaction, state, subscription.id, &change, now)?;
            }
        }
    }
    write_ledger(transaction, subscription.id, &ledger)
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
        Some(_) => transaction
            .prepare_cached(
                "UPDATE notification SET attempts = ?2, state = iif(?3, 'delivered', state)
                 WHERE id = ?1 AND state IN ('delivered', 'told')",
            )?
            .execute(params![
                claimed.notification.uuid().as_bytes(),
                claimed.attempts.saturating_add(1),
                settlement.step == Step::Delivered
            ])?,
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
    let change = ledger.settle(claimed.last, settled, min_interval, now, NotificationId::new(ids()));
    apply(transaction, state, claimed.subscription, &change, now)?;
    write_ledger(transaction, claimed.subscription, &ledger)?;
    if settled == Settled::Delivered {
        // Named, for the planner may take the index over all that ever was.
        let superseded = transaction
            .prepare_cached(
                "UPDATE notification INDEXED BY notification_dead SET state = 'superseded', body = NULL
                 WHERE subscription = ?1 AND state = 'dead' AND last_seq <= ?2",
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

/// Lets a notification that was delivered be told again at `ring_at`; without a time, it stands as never fetched.
/// One that has been fetched needs neither.
fn ring_again(
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
fn set_state(
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
            && lock(state.leases).token(subscription, ring).is_none()
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

fn end_ring(transaction: &Transaction<'_>, subscription: SubscriptionId) -> Result<(), StoreError> {
    transaction
        .prepare_cached("UPDATE subscription SET ring = NULL, ring_at = NULL, rung = 0 WHERE id = ?1")?
        .execute([subscription.get()])?;
    Ok(())
}

fn apply(
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
        Insert::new(&format!("INSERT OR ROLLBACK INTO notification ({columns})"), "")
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
    leases: &Mutex<Leases>,
    subscription: SubscriptionId,
    ledger: &Ledger,
) -> Result<Option<Owed>, StoreError> {
    if let Some(owed) = outstanding(transaction, subscription)? {
        let held = lock(leases).token(subscription, owed.id).is_some();
        return Ok(Some(Owed { sealed: owed.sealed || held, ..owed }));
    }
    // While a ring is under way, nothing else is sent: what comes meanwhile is told after it.
    let ring = ring_of(transaction, subscription)?;
    let ring = ring.filter(|ring| lock(leases).token(subscription, ring.id).is_some());
    let told = ledger.told;
    Ok(ring.map(|ring| Owed { id: ring.id, after: told, last: told, due_at: ring.due_at, sealed: true }))
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

fn read_ledger(transaction: &Transaction<'_>, subscription: SubscriptionId) -> Result<Ledger, StoreError> {
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

fn write_ledger(
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

/// The one pending notification of a coalescing subscription.
fn outstanding(transaction: &Transaction<'_>, subscription: SubscriptionId) -> Result<Option<Owed>, StoreError> {
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
