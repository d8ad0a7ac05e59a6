//! What is due, claimed and given back: from memory where that knows it, else from the table.

use std::collections::HashSet;
use std::time::Duration;

use filebell_core::id::{NotificationId, Seq, SubscriptionId};
use filebell_core::subscription::ProtocolKind;
use filebell_core::time::{TimestampMs, TimestampSecs};
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::super::{Claimed, LeaseToken, StoreError};
use super::leases::{Held, Taken};
use super::rings::{Ring, ring_of};
use super::rows::{mark, word};
use super::writer::Writer;
use super::{SqliteStore, directory, lock};

/// The subscriptions that are told now: not those of an application that is disabled.
const ACTIVE: &str = "status = 'active' AND NOT EXISTS (SELECT 1 FROM consent JOIN application
     ON application.id = consent.application WHERE consent.id = subscription.consent AND application.disabled)";

impl SqliteStore {
    pub(in crate::store) fn just_due(&self) -> Vec<(SubscriptionId, TimestampMs)> {
        lock(&self.0.leases).take_just_due()
    }

    pub(in crate::store) async fn due(&self) -> Result<Vec<(SubscriptionId, TimestampMs)>, StoreError> {
        self.read(|connection, inner| {
            let mut subscriptions = connection.prepare_cached(&format!(
                "SELECT id, ring_at IS NOT NULL FROM subscription WHERE {ACTIVE} ORDER BY id"
            ))?;
            let active = subscriptions.query_map([], |row| Ok((SubscriptionId::new(row.get(0)?), row.get(1)?)))?;
            // Read to its end: what is looked at below is to be as it stands then, not as it stood now.
            let active: Vec<(SubscriptionId, bool)> = active.collect::<Result<_, _>>()?;
            let revision = directory::revision(connection)?;
            let mut due = Vec::new();
            for (subscription, rings) in active {
                let mut leases = lock(&inner.leases);
                leases.as_of(revision);
                let free = next_free(connection, subscription, rings, leases.of(subscription))?;
                leases.found(subscription, free);
                // What is held is due again when its lease runs out.
                let (fresh, lapse) = (leases.fresh_due(subscription), leases.lapse(subscription));
                due.extend(free.into_iter().chain(fresh).chain(lapse).min().map(|at| (subscription, at)));
            }
            Ok(due)
        })
        .await
    }

    /// The table is never asked while a transaction is under way, so that a claim and a widening never cross: what is
    /// claimed covers no more. What is fresh is never widened.
    pub(in crate::store) async fn claim(
        &self,
        subscription: SubscriptionId,
        now: TimestampMs,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        let (until, limit) = (now.after(lease), usize::try_from(limit).unwrap_or(usize::MAX));
        let Taken { mut claimed, ask } = lock(&self.0.leases).take_fresh(subscription, now, until, limit);
        if !ask {
            return Ok(claimed);
        }
        let left = limit.saturating_sub(claimed.len());
        let claim = move |writer: &mut Writer| claim(writer, subscription, now, until, left);
        let rest = match self.0.desk.try_now(claim) {
            Some(rest) => rest,
            None => self.0.desk.alone(claim).await.map_err(|_| StoreError::Closed)?,
        };
        match rest {
            Ok(rest) => claimed.extend(rest),
            // What was claimed is claimed; who asks for more is told.
            Err(error) if claimed.is_empty() => return Err(error),
            Err(_) => (),
        }
        Ok(claimed)
    }

    pub(in crate::store) fn keep(&self, claimed: &Claimed, kept: bool) {
        lock(&self.0.leases).keep(claimed.subscription, claimed.notification, claimed.token, kept);
    }

    pub(in crate::store) async fn release(&self, claimed: Vec<Claimed>) -> Result<(), StoreError> {
        let mut leases = lock(&self.0.leases);
        for claimed in &claimed {
            leases.release(claimed.subscription, claimed.notification, claimed.token);
            leases.pull_back(claimed.subscription, TimestampMs::ZERO);
        }
        Ok(())
    }
}

/// The subscriptions that are told now.
pub(super) fn active(connection: &Connection) -> Result<HashSet<SubscriptionId>, StoreError> {
    let mut select = connection.prepare_cached(&format!("SELECT id FROM subscription WHERE {ACTIVE}"))?;
    let ids = select.query_map([], |row| Ok(SubscriptionId::new(row.get(0)?)))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// Claims what a subscription has due in the table, and notes when more is.
fn claim(
    writer: &Writer,
    subscription: SubscriptionId,
    now: TimestampMs,
    until: TimestampMs,
    limit: usize,
) -> Result<Vec<Claimed>, StoreError> {
    let connection = &writer.connection;
    let revision = directory::revision(connection)?;
    let mut leases = lock(&writer.leases);
    leases.as_of(revision);
    leases.begin_asking(subscription, now);
    let (free, rings) = due_rows(connection, subscription, now, limit, leases.of(subscription))?;
    let claimed = free.into_iter().map(|(due_at, row)| leases.take(row, due_at, until)).collect();
    let beyond = next_free(connection, subscription, rings, leases.of(subscription))?;
    leases.end_asking(subscription, beyond);
    Ok(claimed)
}

/// The time the first notification is due that nobody holds; with `rings`, also if it only is to be rung again.
fn next_free(
    connection: &Connection,
    subscription: SubscriptionId,
    rings: bool,
    held: Option<&Held>,
) -> Result<Option<TimestampMs>, StoreError> {
    match first_free(connection, subscription, held)? {
        None if rings => Ok(free_ring(connection, subscription, held)?.map(|ring| ring.due_at)),
        free => Ok(free),
    }
}

/// The time the first notification is due that nobody holds.
fn first_free(
    connection: &Connection,
    subscription: SubscriptionId,
    held: Option<&Held>,
) -> Result<Option<TimestampMs>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT due_at, id FROM notification
         WHERE subscription = ?1 AND state = 'pending' AND (due_at, id) > (?2, ?3) ORDER BY due_at, id",
    )?;
    let (due_at, id) = frontier(held);
    let mut rows = select.query(params![subscription.get(), due_at, id])?;
    while let Some(row) = rows.next()? {
        let id = NotificationId::new(Uuid::from_bytes(row.get(1)?));
        if held.is_none_or(|held| !held.holds(id)) {
            return Ok(Some(TimestampMs::from_millis(row.get(0)?)));
        }
    }
    Ok(None)
}

/// Where to begin looking for what is free.
fn frontier(held: Option<&Held>) -> (i64, [u8; 16]) {
    held.and_then(Held::frontier).map_or((i64::MIN, [0; 16]), |(at, id)| (at.as_millis(), *id.uuid().as_bytes()))
}

/// At most `limit` due notifications of an active subscription that nobody holds, oldest due first, as claims without
/// a token; and whether the subscription is one that is rung again.
fn due_rows(
    connection: &Connection,
    subscription: SubscriptionId,
    now: TimestampMs,
    limit: usize,
    held: Option<&Held>,
) -> Result<(Vec<(TimestampMs, Claimed)>, bool), StoreError> {
    let mut about = connection.prepare_cached(&format!(
        "SELECT protocol, account, since_secs, min_interval_ms = 0 FROM subscription WHERE id = ?1 AND {ACTIVE}"
    ))?;
    let about = about.query_row([subscription.get()], |row| {
        let (account, shown) = (row.get(1)?, TimestampSecs::from_secs(row.get(2)?));
        let at_once = row.get(3)?;
        Ok(word(row, 0, "subscription").map(|kind| Owner { subscription, kind, account, shown, at_once }))
    });
    let Some(owner) = about.optional()?.transpose()? else { return Ok((Vec::new(), false)) };
    let mut select = connection.prepare_cached(&format!(
        "SELECT {CLAIMED_COLUMNS}, due_at
         FROM notification WHERE subscription = ?1 AND state = 'pending' AND due_at <= ?2 AND (due_at, id) > (?3, ?4)
         ORDER BY due_at, id"
    ))?;
    let (due_at, id) = frontier(held);
    let mut rows = select.query(params![subscription.get(), now.as_millis(), due_at, id])?;
    let mut free = Vec::new();
    while free.len() < limit
        && let Some(row) = rows.next()?
    {
        let notification = NotificationId::new(Uuid::from_bytes(row.get(0)?));
        if held.is_some_and(|held| held.holds(notification)) {
            continue;
        }
        free.push((TimestampMs::from_millis(row.get(9)?), owner.claimed(connection, row, None)?));
    }
    let rings = owner.kind == ProtocolKind::Nextcloud;
    if rings
        && free.is_empty()
        && let Some(ring) = free_ring(connection, subscription, held)?.filter(|ring| ring.due_at <= now)
    {
        let mut select =
            connection.prepare_cached(&format!("SELECT {CLAIMED_COLUMNS} FROM notification WHERE id = ?1"))?;
        let mut rows = select.query([ring.id.uuid().as_bytes()])?;
        if let Some(row) = rows.next()? {
            free.push((ring.due_at, owner.claimed(connection, row, Some(ring.rung))?));
        }
    }
    Ok((free, rings))
}

/// The columns that [`Owner::claimed`] reads, in its order.
const CLAIMED_COLUMNS: &str = "id, after_seq, after_ordinal, last_seq, last_ordinal, attempts, created_at, body, \
     earlier_attempts";

/// The subscription that is claimed for.
struct Owner {
    subscription: SubscriptionId,
    kind: ProtocolKind,
    account: i64,
    shown: TimestampSecs,
    /// There is no interval between two sends.
    at_once: bool,
}

impl Owner {
    /// A claim without a token.
    fn claimed(&self, connection: &Connection, row: &Row<'_>, rung: Option<u32>) -> Result<Claimed, StoreError> {
        let (after, last) = (mark(row, 1)?, mark(row, 3)?);
        let created_at = TimestampMs::from_millis(row.get(6)?);
        // Where each event has a notification of its own, both are written at once.
        let one = last.ordinal.saturating_sub(after.ordinal) == 1;
        let oldest = match self.kind {
            ProtocolKind::SageX3 => None,
            ProtocolKind::Standard if self.at_once && one => None,
            ProtocolKind::Nextcloud | ProtocolKind::Standard => oldest_after(connection, self.account, after.seq)?,
        };
        let since = match self.kind {
            ProtocolKind::Nextcloud => self.shown.min(oldest.map_or(self.shown, TimestampMs::to_secs)),
            ProtocolKind::SageX3 | ProtocolKind::Standard => self.shown,
        };
        Ok(Claimed {
            notification: NotificationId::new(Uuid::from_bytes(row.get(0)?)),
            subscription: self.subscription,
            after,
            last,
            attempts: row.get(5)?,
            earlier_attempts: row.get(8)?,
            created_at,
            oldest_at: oldest.unwrap_or(created_at),
            body: row.get(7)?,
            since,
            rung,
            token: LeaseToken(0),
        })
    }
}

/// When the first event after `seq` was recorded.
fn oldest_after(connection: &Connection, account: i64, seq: Seq) -> Result<Option<TimestampMs>, StoreError> {
    let mut select = connection
        .prepare_cached("SELECT recorded_at FROM event WHERE account = ?1 AND seq > ?2 ORDER BY seq LIMIT 1")?;
    let at = select.query_row(params![account, seq.get()], |row| row.get(0)).optional()?;
    Ok(at.map(TimestampMs::from_millis))
}

/// What is to be rung again, if nobody holds it.
fn free_ring(
    connection: &Connection,
    subscription: SubscriptionId,
    held: Option<&Held>,
) -> Result<Option<Ring>, StoreError> {
    let ring = ring_of(connection, subscription)?;
    Ok(ring.filter(|ring| held.is_none_or(|held| !held.holds(ring.id))))
}
