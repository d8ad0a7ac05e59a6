//! Notifications as people look for them, and telling again.
//!
//! A list is walked from the newest on, over the index that fits best what is wanted. What no index narrows is looked
//! at one by one, and the walk stops after [`LOOKS_MAX`].

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use filebell_core::event::Event;
use filebell_core::id::{NotificationId, Seq, SubscriptionId};
use filebell_core::subscription::{Cadence, Subscription};
use filebell_core::time::{TimestampMs, TimestampSecs};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use uuid::Uuid;

use super::super::{
    Attempt, Covered, Full, Listed, Listing, Notification, NotificationState, Position, Replayed, StoreError, Wanted,
};
use super::owed::replay_at;
use super::rows::{ATTEMPT_COLUMNS, EVENT_COLUMNS, NOTIFICATION_COLUMNS, attempt, event, notification};
use super::{SqliteStore, WriterState, directory};

/// Rows that one call looks at.
const LOOKS_MAX: usize = 15_000;
/// A notification whose events are looked through costs as much as so many rows.
const LOOKS_OF_EVENTS: usize = 3;
/// Where so few notifications wait, they are gathered and sorted.
const GATHERED_MAX: u64 = 20_000;
/// The newest events of a file that is looked for by its whole path.
const FILE_EVENTS_MAX: u32 = 1000;
/// Events looked at for the first that a notification tells of.
const FIRST_LOOKS_MAX: usize = 200;
/// Attempts that are shown of one notification, half of them its first.
const ATTEMPTS_SHOWN_MAX: u32 = 100;

type Id = [u8; 16];

impl SqliteStore {
    pub(in crate::store) async fn list(
        &self,
        wanted: Wanted,
        from: Option<Position>,
        limit: usize,
    ) -> Result<Listing, StoreError> {
        self.read(move |connection, _| {
            let mut walk = Walk::begin(connection, &wanted, from)?;
            let mut rows = Vec::new();
            while rows.len() < limit
                && let Some(found) = walk.next()?
            {
                rows.push(listed(connection, found, &walk.by_id)?);
            }
            let (next, searched_to) = walk.end()?;
            Ok(Listing { rows, next, searched_to })
        })
        .await
    }

    pub(in crate::store) async fn replayable(
        &self,
        wanted: Wanted,
        from: Option<Position>,
        limit: usize,
    ) -> Result<(Vec<(NotificationId, SubscriptionId)>, Option<Position>), StoreError> {
        self.read(move |connection, _| {
            let mut walk = Walk::begin(connection, &wanted, from)?;
            let mut blocked = HashSet::new();
            for subscription in &wanted.subscriptions {
                if subscription.cadence() != Cadence::PerEvent && is_pending(connection, subscription.id)? {
                    blocked.insert(subscription.id);
                }
            }
            let mut found = Vec::new();
            while found.len() < limit
                && let Some(one) = walk.next()?
            {
                let Some(subscription) = walk.by_id.get(&one.subscription) else { continue };
                if !can_be_replayed(one.state) || blocked.contains(&one.subscription) {
                    continue;
                }
                if subscription.cadence() != Cadence::PerEvent {
                    blocked.insert(one.subscription);
                }
                found.push((one.id, one.subscription));
            }
            let (next, _) = walk.end()?;
            Ok((found, next))
        })
        .await
    }

    pub(in crate::store) async fn full(&self, id: NotificationId) -> Result<Option<Full>, StoreError> {
        self.read(move |connection, _| {
            let mut select = connection.prepare_cached(&format!(
                "SELECT {NOTIFICATION_COLUMNS}, settled_at, consumed_at, body FROM notification WHERE id = ?1"
            ))?;
            let read = |row: &Row<'_>| -> Result<Full, StoreError> {
                Ok(Full {
                    notification: notification(row)?,
                    settled_at: row.get::<_, Option<i64>>(10)?.map(TimestampMs::from_millis),
                    consumed_at: row.get::<_, Option<i64>>(11)?.map(TimestampMs::from_millis),
                    body: row.get(12)?,
                    attempts: Vec::new(),
                    left_out: 0,
                })
            };
            let full = select.query_row([id.uuid().as_bytes()], |row| Ok(read(row))).optional()?.transpose()?;
            let Some(mut full) = full else { return Ok(None) };
            (full.attempts, full.left_out) = attempts(connection, id)?;
            Ok(Some(full))
        })
        .await
    }

    pub(in crate::store) async fn covered(
        &self,
        notification: Notification,
        subscription: Arc<Subscription>,
        after: Option<Seq>,
        limit: usize,
    ) -> Result<Covered, StoreError> {
        self.read(move |connection, _| {
            let begin = after.unwrap_or(notification.after.seq).max(notification.after.seq);
            let mut covered = Covered { events: Vec::new(), next: None };
            each_event(connection, &subscription, begin, notification.last.seq, |looks, event| {
                if covered.events.len() == limit || looks == LOOKS_MAX {
                    covered.next = Some(Seq::new(event.seq.get() - 1));
                    return false;
                }
                if subscription.filter.wants(event.kind, &event.path) {
                    covered.events.push(event);
                }
                true
            })?;
            Ok(covered)
        })
        .await
    }

    pub(in crate::store) async fn replay(
        &self,
        ids: Vec<NotificationId>,
        now: TimestampMs,
    ) -> Result<Replayed, StoreError> {
        self.write(move |transaction, state| {
            // For a server on the same store, which does not know of this.
            directory::touch(transaction)?;
            let mut replayed = Replayed::default();
            for id in ids {
                if replay_one(transaction, state, id, now)? {
                    replayed.due += 1;
                } else {
                    replayed.left += 1;
                }
            }
            Ok(replayed)
        })
        .await
    }
}

fn can_be_replayed(state: NotificationState) -> bool {
    match state {
        NotificationState::Delivered | NotificationState::Dead | NotificationState::Superseded => true,
        NotificationState::Pending | NotificationState::Told | NotificationState::Revoked => false,
    }
}

fn is_pending(connection: &Connection, subscription: SubscriptionId) -> Result<bool, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM notification INDEXED BY notification_pending
             WHERE subscription = ?1 AND state = 'pending')",
    )?;
    Ok(select.query_row([subscription.get()], |row| row.get(0))?)
}

/// Makes one notification due, if that can be.
fn replay_one(
    transaction: &Transaction<'_>,
    state: &mut WriterState<'_>,
    id: NotificationId,
    now: TimestampMs,
) -> Result<bool, StoreError> {
    let mut select = transaction.prepare_cached(
        "SELECT n.state, n.subscription
         FROM notification n JOIN subscription s ON s.id = n.subscription WHERE n.id = ?1 AND s.status <> 'revoked'",
    )?;
    let found = select.query_row([id.uuid().as_bytes()], |row| {
        let word: String = row.get(0)?;
        Ok((word, SubscriptionId::new(row.get(1)?)))
    });
    let Some((word, subscription)) = found.optional()? else { return Ok(false) };
    let Some(before) = NotificationState::from_word(&word).filter(|state| can_be_replayed(*state)) else {
        return Ok(false);
    };
    let Some(cadence) = state.cadence_of(transaction, subscription)? else { return Ok(false) };
    let Some(due_at) = replay_at(transaction, subscription, cadence, now)? else { return Ok(false) };
    transaction
        .prepare_cached(
            "UPDATE notification SET state = 'pending', earlier_attempts = earlier_attempts + attempts, attempts = 0,
                 due_at = ?2, settled_at = NULL, consumed_at = NULL, sealed = 1 WHERE id = ?1",
        )?
        .execute(params![id.uuid().as_bytes(), due_at.as_millis()])?;
    state.tally.went(subscription, before, NotificationState::Pending, 1);
    state.due.push((subscription, due_at));
    Ok(true)
}

/// The attempts of a notification, with the `since` of each; of very many, the first and the last.
#[expect(clippy::type_complexity, reason = "what `Full` holds")]
fn attempts(
    connection: &Connection,
    id: NotificationId,
) -> Result<(Vec<(u32, Attempt, TimestampSecs)>, u64), StoreError> {
    let mut select =
        connection.prepare_cached("SELECT coalesce(max(number), 0), count(*) FROM attempt WHERE notification = ?1")?;
    let (last, count): (u32, u32) = select.query_row([id.uuid().as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let half = ATTEMPTS_SHOWN_MAX / 2;
    let (first_until, last_after) = if count <= ATTEMPTS_SHOWN_MAX { (last, last) } else { (half, last - half) };
    let mut select = connection.prepare_cached(&format!(
        "SELECT number, since_secs, {} FROM attempt
         WHERE notification = ?1 AND (number <= ?2 OR number > ?3) ORDER BY number",
        ATTEMPT_COLUMNS
    ))?;
    let mut rows = select.query(params![id.uuid().as_bytes(), first_until, last_after])?;
    let (mut attempts, mut since) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        // An attempt without one sent the body of an earlier one.
        since = row.get::<_, Option<i64>>(1)?.unwrap_or(since);
        attempts.push((row.get(0)?, attempt(row, 2)?, TimestampSecs::from_secs(since)));
    }
    let left_out = u64::from(count).saturating_sub(attempts.len() as u64);
    Ok((attempts, left_out))
}

/// One notification of a list, with what stands beside it.
fn listed(
    connection: &Connection,
    found: Found,
    by_id: &HashMap<SubscriptionId, Arc<Subscription>>,
) -> Result<Listed, StoreError> {
    let notification = match found.row {
        Some(row) => row,
        None => read_notification(connection, found.id)?,
    };
    let mut select = connection.prepare_cached(&format!(
        "SELECT number, {} FROM attempt WHERE notification = ?1 ORDER BY number DESC LIMIT 1",
        ATTEMPT_COLUMNS
    ))?;
    let last = select.query_row([found.id.uuid().as_bytes()], |row| Ok((row.get(0)?, attempt(row, 1)?)));
    let (attempts, last) = last.optional()?.map_or((notification.attempts, None), |(number, one)| (number, Some(one)));
    let mut first = None;
    if let Some(subscription) = by_id.get(&notification.subscription) {
        each_event(connection, subscription, notification.after.seq, notification.last.seq, |looks, event| {
            let wanted = subscription.filter.wants(event.kind, &event.path);
            first = wanted.then_some(event);
            !wanted && looks < FIRST_LOOKS_MAX
        })?;
    }
    let count = notification.last.ordinal.saturating_sub(notification.after.ordinal);
    Ok(Listed { notification, attempts, count, first, last })
}

fn read_notification(connection: &Connection, id: NotificationId) -> Result<Notification, StoreError> {
    let mut select =
        connection.prepare_cached(&format!("SELECT {NOTIFICATION_COLUMNS} FROM notification WHERE id = ?1"))?;
    let row = select.query_row([id.uuid().as_bytes()], |row| Ok(notification(row))).optional()?;
    row.unwrap_or_else(|| Err(StoreError::Missing(id.to_string())))
}

/// Hands over the events of a subscription's account after `after` and up to `last`, with how many came before, until
/// `go_on` says no.
fn each_event(
    connection: &Connection,
    subscription: &Subscription,
    after: Seq,
    last: Seq,
    mut go_on: impl FnMut(usize, Event) -> bool,
) -> Result<(), StoreError> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {EVENT_COLUMNS} FROM event WHERE account = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq"
    ))?;
    let mut rows = select.query(params![subscription.account.get(), after.get(), last.get()])?;
    let mut looks = 0;
    while let Some(row) = rows.next()? {
        if !go_on(looks, event(row)?) {
            break;
        }
        looks += 1;
    }
    Ok(())
}

/// A notification that is wanted.
struct Found {
    id: NotificationId,
    subscription: SubscriptionId,
    state: NotificationState,
    /// Where it was read already.
    row: Option<Notification>,
}

/// Ids from the newest on, read in growing pieces.
struct Stream {
    which: Which,
    read: VecDeque<Id>,
    ended: bool,
    piece: u32,
}

/// What a stream reads.
#[derive(Clone, Copy)]
enum Which {
    /// Every notification.
    All,
    /// Those of a subscription.
    Of(SubscriptionId),
    /// Its dead ones.
    Dead(SubscriptionId),
    /// Those that are in another rare state.
    Aside(SubscriptionId, NotificationState),
    /// What was gathered at the beginning.
    Gathered,
}

impl Stream {
    const FIRST_PIECE: u32 = 16;
    const PIECE_MAX: u32 = 2048;

    fn new(which: Which) -> Self {
        Self { which, read: VecDeque::new(), ended: false, piece: Self::FIRST_PIECE }
    }

    fn gathered(mut ids: Vec<Id>) -> Self {
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids.dedup();
        Self { which: Which::Gathered, read: ids.into(), ended: true, piece: 0 }
    }

    /// The newest id that is left, which is older than `before`.
    fn head(&mut self, connection: &Connection, before: Id, oldest: Id) -> Result<Option<Id>, StoreError> {
        while self.read.front().is_some_and(|id| *id >= before) {
            self.read.pop_front();
        }
        if self.read.is_empty() && !self.ended {
            self.fill(connection, before, oldest)?;
        }
        Ok(self.read.front().copied())
    }

    fn fill(&mut self, connection: &Connection, before: Id, oldest: Id) -> Result<(), StoreError> {
        let (which, subscription, state) = match self.which {
            Which::All => ("notification WHERE ?1 = 0 AND ?2 IS NULL", 0, None),
            Which::Of(id) => {
                ("notification INDEXED BY notification_of WHERE subscription = ?1 AND ?2 IS NULL", id.get(), None)
            }
            Which::Dead(id) => (
                "notification INDEXED BY notification_dead WHERE subscription = ?1 AND ?2 IS NULL AND state = 'dead'",
                id.get(),
                None,
            ),
            Which::Aside(id, state) => (
                "notification INDEXED BY notification_aside WHERE subscription = ?1 AND state = ?2
                 AND state IN ('superseded', 'revoked')",
                id.get(),
                Some(state.as_str()),
            ),
            Which::Gathered => return Ok(()),
        };
        let mut select = connection
            .prepare_cached(&format!("SELECT id FROM {which} AND id < ?3 AND id >= ?4 ORDER BY id DESC LIMIT ?5"))?;
        let ids = select.query_map(params![subscription, state, before, oldest, self.piece], |row| row.get(0))?;
        self.read = ids.collect::<Result<_, _>>()?;
        self.ended = self.read.len() < usize::try_from(self.piece).unwrap_or(usize::MAX);
        self.piece = (self.piece * 4).min(Self::PIECE_MAX);
        Ok(())
    }
}

/// A walk over the notifications that are wanted, newest first.
struct Walk<'a> {
    connection: &'a Connection,
    wanted: &'a Wanted,
    by_id: HashMap<SubscriptionId, Arc<Subscription>>,
    streams: Vec<Stream>,
    /// The text of a path that is looked for; empty where none is, or where an index has found it.
    part: Vec<u8>,
    before: Id,
    oldest: Id,
    /// How far the events of the first one have been looked through.
    seen: Option<(Id, Seq)>,
    looks: usize,
    /// Where it stopped because it had looked at enough.
    stopped: Option<Position>,
    stopped_at: Option<TimestampMs>,
}

impl<'a> Walk<'a> {
    fn begin(connection: &'a Connection, wanted: &'a Wanted, from: Option<Position>) -> Result<Self, StoreError> {
        let mut before = wanted.until.map_or([u8::MAX; 16], first_id);
        let mut seen = None;
        if let Some(Position { before: id, seen: in_it }) = from {
            let id = *id.uuid().as_bytes();
            // Of this one, the rest is to be looked through.
            let end = if in_it.is_some() { after(id) } else { id };
            before = before.min(end);
            seen = in_it.map(|seq| (id, seq));
        }
        let by_id = wanted.subscriptions.iter().map(|one| (one.id, one.clone())).collect();
        let mut walk = Self {
            connection,
            wanted,
            by_id,
            streams: Vec::new(),
            part: wanted.file.to_ascii_lowercase(),
            before,
            oldest: wanted.from.map_or([0; 16], first_id),
            seen,
            looks: 0,
            stopped: None,
            stopped_at: None,
        };
        walk.streams = walk.streams()?;
        Ok(walk)
    }

    fn streams(&mut self) -> Result<Vec<Stream>, StoreError> {
        if self.wanted.file.first() == Some(&b'/')
            && let Some(ids) = self.telling_of_file()?
        {
            self.part.clear();
            return Ok(vec![Stream::gathered(ids)]);
        }
        let subscriptions = self.by_id.keys().copied();
        Ok(match self.wanted.state {
            Some(NotificationState::Dead) => {
                self.counted("dead")?.into_keys().map(|id| Stream::new(Which::Dead(id))).collect()
            }
            Some(state @ NotificationState::Superseded) => {
                self.counted("superseded")?.into_keys().map(|id| Stream::new(Which::Aside(id, state))).collect()
            }
            Some(state @ NotificationState::Revoked) => {
                subscriptions.map(|id| Stream::new(Which::Aside(id, state))).collect()
            }
            Some(NotificationState::Told) => vec![Stream::gathered(self.gather(
                "SELECT ring FROM subscription WHERE id = ?1 AND ring IS NOT NULL AND ring < ?2 AND ring >= ?3",
            )?)],
            Some(NotificationState::Pending) if self.counted("pending")?.values().sum::<u64>() <= GATHERED_MAX => {
                vec![Stream::gathered(self.gather(
                    "SELECT id FROM notification INDEXED BY notification_pending
                     WHERE subscription = ?1 AND state = 'pending' AND id < ?2 AND id >= ?3",
                )?)]
            }
            Some(NotificationState::Pending | NotificationState::Delivered) | None if self.wanted.all => {
                vec![Stream::new(Which::All)]
            }
            Some(NotificationState::Pending | NotificationState::Delivered) | None => {
                subscriptions.map(|id| Stream::new(Which::Of(id))).collect()
            }
        })
    }

    /// Those of the subscriptions that have notifications in a state, with how many; `column` is of the tally.
    fn counted(&self, column: &str) -> Result<HashMap<SubscriptionId, u64>, StoreError> {
        let mut select =
            self.connection.prepare_cached(&format!("SELECT subscription, {column} FROM tally WHERE {column} > 0"))?;
        let rows =
            select.query_map([], |row| Ok((SubscriptionId::new(row.get(0)?), row.get::<_, i64>(1)?.unsigned_abs())))?;
        let all = rows.collect::<Result<Vec<_>, _>>()?;
        Ok(all.into_iter().filter(|(id, _)| self.by_id.contains_key(id)).collect())
    }

    /// What a query answers for each subscription.
    fn gather(&self, query: &str) -> Result<Vec<Id>, StoreError> {
        let mut select = self.connection.prepare_cached(query)?;
        let mut ids = Vec::new();
        for subscription in self.by_id.keys() {
            for id in select.query_map(params![subscription.get(), self.before, self.oldest], |row| row.get(0))? {
                ids.push(id?);
            }
        }
        Ok(ids)
    }

    /// What was told of the file at the path that is looked for; `None` if there is none by that name now.
    fn telling_of_file(&self) -> Result<Option<Vec<Id>>, StoreError> {
        let mut file = self.connection.prepare_cached("SELECT id FROM file WHERE account = ?1 AND path = ?2")?;
        let mut events = self
            .connection
            .prepare_cached(&format!("SELECT {EVENT_COLUMNS} FROM event WHERE file = ?1 ORDER BY seq DESC LIMIT ?2"))?;
        let mut covering = self.connection.prepare_cached(
            "SELECT id, after_seq FROM notification INDEXED BY notification_reach
             WHERE subscription = ?1 AND last_seq >= ?2 ORDER BY last_seq LIMIT 4",
        )?;
        let accounts: HashSet<_> = self.by_id.values().map(|one| one.account).collect();
        let mut ids = None;
        for account in accounts {
            let found = file.query_row(params![account.get(), self.wanted.file], |row| row.get::<_, i64>(0));
            let Some(found) = found.optional()? else { continue };
            let ids = ids.get_or_insert_with(Vec::new);
            let mut rows = events.query(params![found, FILE_EVENTS_MAX])?;
            while let Some(row) = rows.next()? {
                let event = event(row)?;
                let telling = self.by_id.values().filter(|one| one.account == account);
                for one in telling.filter(|one| one.filter.wants(event.kind, &event.path)) {
                    let mut rows = covering.query(params![one.id.get(), event.seq.get()])?;
                    while let Some(row) = rows.next()? {
                        if row.get::<_, i64>(1)? < event.seq.get() {
                            ids.push(row.get(0)?);
                        }
                    }
                }
            }
        }
        Ok(ids)
    }

    /// The next one that is wanted; `None` at the end, or where the walk stopped.
    fn next(&mut self) -> Result<Option<Found>, StoreError> {
        while self.stopped.is_none() {
            let mut newest = None;
            for stream in &mut self.streams {
                newest = newest.max(stream.head(self.connection, self.before, self.oldest)?);
            }
            let Some(id) = newest.filter(|id| *id >= self.oldest) else { return Ok(None) };
            self.before = id;
            self.looks += 1;
            if let Some(found) = self.look(id)? {
                return Ok(Some(found));
            }
            if self.looks >= LOOKS_MAX && self.stopped.is_none() {
                self.stop(NotificationId::new(Uuid::from_bytes(id)), None);
            }
        }
        Ok(None)
    }

    fn stop(&mut self, before: NotificationId, seen: Option<Seq>) {
        self.stopped = Some(Position { before, seen });
        self.stopped_at = before.uuid().get_timestamp().map(|made| {
            let (secs, nanos) = made.to_unix();
            TimestampMs::from_millis(i64::try_from(secs * 1000 + u64::from(nanos / 1_000_000)).unwrap_or(i64::MAX))
        });
    }

    /// The notification with this id, if it is wanted.
    fn look(&mut self, id: Id) -> Result<Option<Found>, StoreError> {
        let of_path = !self.part.is_empty();
        // Enough to decide, where no path is looked for; the body lies behind it.
        let mut select =
            self.connection.prepare_cached("SELECT subscription, state FROM notification WHERE id = ?1")?;
        let found = select.query_row([id], |row| Ok((SubscriptionId::new(row.get(0)?), row.get::<_, String>(1)?)));
        let Some((subscription, state)) = found.optional()? else { return Ok(None) };
        let state = NotificationState::from_word(&state);
        let Some(state) = state.filter(|state| self.wanted.state.is_none_or(|wanted| wanted == *state)) else {
            return Ok(None);
        };
        let Some(of) = self.by_id.get(&subscription).cloned() else { return Ok(None) };
        let id = NotificationId::new(Uuid::from_bytes(id));
        if !of_path {
            return Ok(Some(Found { id, subscription, state, row: None }));
        }
        self.looks += LOOKS_OF_EVENTS;
        let row = read_notification(self.connection, id)?;
        let resumed = self.seen.filter(|(seen, _)| seen == id.uuid().as_bytes()).map(|(_, seq)| seq);
        let (mut tells, mut seen, spent) = (false, None, self.looks);
        let mut looked = 0;
        each_event(self.connection, &of, resumed.unwrap_or(row.after.seq), row.last.seq, |looks, event| {
            looked = looks + 1;
            let holds = |path: &filebell_core::path::FilePath| holds(path.as_bytes(), &self.part);
            tells = of.filter.wants(event.kind, &event.path)
                && (holds(&event.path) || event.previous_path.as_ref().is_some_and(holds));
            if !tells && spent + looked >= LOOKS_MAX && event.seq < row.last.seq {
                seen = Some(event.seq);
            }
            !tells && seen.is_none()
        })?;
        self.looks += looked;
        if let Some(seen) = seen {
            self.stop(id, Some(seen));
        }
        Ok(tells.then_some(Found { id, subscription, state, row: Some(row) }))
    }

    /// Where a next walk goes on if there is anything left to look at, and to which time this one searched if it had
    /// looked at enough.
    fn end(mut self) -> Result<(Option<Position>, Option<TimestampMs>), StoreError> {
        if let Some(stopped) = self.stopped {
            return Ok((Some(stopped), self.stopped_at));
        }
        let mut left = None;
        for stream in &mut self.streams {
            left = left.max(stream.head(self.connection, self.before, self.oldest)?);
        }
        let before = NotificationId::new(Uuid::from_bytes(self.before));
        Ok((left.map(|_| Position { before, seen: None }), None))
    }
}

/// The least id that is made at `at`: ids begin with the milliseconds of their making.
fn first_id(at: TimestampMs) -> Id {
    let millis = u64::try_from(at.as_millis()).unwrap_or(0).min((1 << 48) - 1);
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(millis.to_be_bytes().into_iter().skip(2)) {
        *to = from;
    }
    id
}

/// The id after this one.
fn after(id: Id) -> Id {
    u128::from_be_bytes(id).saturating_add(1).to_be_bytes()
}

/// Whether a path holds a text that is in lower case.
pub(super) fn holds(path: &[u8], part: &[u8]) -> bool {
    part.is_empty() || path.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}
