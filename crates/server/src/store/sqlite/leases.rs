//! Who holds which notification, and what was made due a moment ago. In memory: there is one process, and when it dies
//! all leases die with it.
//!
//! What a commit made and nobody was told of yet is kept here as it stands in the table, so that in the common case
//! claiming it asks nothing of the table and waits for nobody who writes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use filebell_core::id::{NotificationId, SubscriptionId};
use filebell_core::time::TimestampMs;
use uuid::Uuid;

use super::super::{Claimed, LeaseToken};

/// So many fresh notifications are kept of one subscription; what is made on top of them is found in the table.
const FRESH_MAX: usize = 16_384;
/// And so many of all subscriptions together.
const FRESH_OF_ALL_MAX: usize = 65_536;

/// A place in the order in which notifications are due.
pub(super) type Position = (TimestampMs, NotificationId);

/// Who holds what.
#[derive(Default)]
pub(super) struct Leases {
    held: HashMap<SubscriptionId, Held>,
    last_token: u64,
    /// For whom something was made due, or found to be due later, since anybody last asked; and the earliest time.
    just_due: BTreeMap<SubscriptionId, TimestampMs>,
    /// The revision as of which all this holds: another process may have made notifications due again.
    revision: Option<i64>,
    /// How many are fresh.
    fresh: usize,
}

/// What is held of one subscription.
pub(super) struct Held {
    leases: HashMap<NotificationId, Lease>,
    /// No lease ends before this.
    lapse_at: Option<TimestampMs>,
    /// Every pending notification up to here is held or fresh, so that claiming need not pass over all that is.
    frontier: Option<Position>,
    /// The earliest time at which anything behind the frontier may be due; `None` if nothing is pending there.
    beyond: Option<TimestampMs>,
    /// What was made since the table was last asked, in order, and is not held yet.
    fresh: VecDeque<Claimed>,
}

impl Default for Held {
    /// Nothing is known of it.
    fn default() -> Self {
        Self {
            leases: HashMap::new(),
            lapse_at: None,
            frontier: None,
            beyond: Some(TimestampMs::ZERO),
            fresh: VecDeque::new(),
        }
    }
}

#[derive(Clone, Copy)]
struct Lease {
    token: LeaseToken,
    until: TimestampMs,
    /// It has served, and stays until that is written, however late.
    kept: bool,
}

impl Lease {
    /// When it ends by itself.
    fn lapse(&self) -> Option<TimestampMs> {
        (!self.kept).then_some(self.until)
    }
}

impl Held {
    /// Whether somebody holds it.
    pub(super) fn holds(&self, id: NotificationId) -> bool {
        self.leases.contains_key(&id)
    }

    /// Where to begin looking for what is neither held nor fresh.
    pub(super) fn frontier(&self) -> Option<Position> {
        self.frontier
    }

    fn is_fresh_in_order(&self) -> bool {
        // A fresh one is due when it was made.
        self.fresh.front().is_some_and(|one| Some(place(one)) <= self.frontier)
    }

    /// Nothing is fresh any more: the table is asked. Answers how many were.
    fn forget_fresh(&mut self) -> usize {
        let fresh = std::mem::take(&mut self.fresh);
        if let Some(first) = fresh.front() {
            self.pull_back(first.created_at);
        }
        fresh.len()
    }

    /// The first time at which a lease ends.
    fn lapse(&self) -> Option<TimestampMs> {
        self.leases.values().filter_map(Lease::lapse).min()
    }

    fn pull_back(&mut self, due_at: TimestampMs) {
        let just_before = (due_at.before(Duration::from_millis(1)), NotificationId::new(Uuid::max()));
        self.frontier = self.frontier.min(Some(just_before));
        self.beyond = Some(self.beyond.map_or(due_at, |at| at.min(due_at)));
    }
}

/// Where a fresh notification stands: it is due when it was made.
fn place(fresh: &Claimed) -> Position {
    (fresh.created_at, fresh.notification)
}

/// What could be claimed without asking the table.
pub(super) struct Taken {
    pub(super) claimed: Vec<Claimed>,
    /// The table may hold more that is due.
    pub(super) ask: bool,
}

impl Leases {
    /// What is held of a subscription.
    pub(super) fn of(&self, subscription: SubscriptionId) -> Option<&Held> {
        self.held.get(&subscription)
    }

    /// The token under which a notification is held.
    pub(super) fn token(&self, subscription: SubscriptionId, id: NotificationId) -> Option<LeaseToken> {
        self.held.get(&subscription).and_then(|held| held.leases.get(&id)).map(|lease| lease.token)
    }

    /// The first time at which a lease of a subscription ends.
    pub(super) fn lapse(&self, subscription: SubscriptionId) -> Option<TimestampMs> {
        self.held.get(&subscription)?.lapse()
    }

    /// Lets somebody hold what was claimed.
    pub(super) fn take(&mut self, claimed: Claimed, due_at: TimestampMs, until: TimestampMs) -> Claimed {
        let at = (due_at, claimed.notification);
        let claimed = self.lease(claimed, until);
        let held = self.held.entry(claimed.subscription).or_default();
        held.frontier = held.frontier.max(Some(at));
        claimed
    }

    fn lease(&mut self, claimed: Claimed, until: TimestampMs) -> Claimed {
        self.last_token += 1;
        let token = LeaseToken(self.last_token);
        let held = self.held.entry(claimed.subscription).or_default();
        held.leases.insert(claimed.notification, Lease { token, until, kept: false });
        held.lapse_at = Some(held.lapse_at.map_or(until, |at| at.min(until)));
        Claimed { token, ..claimed }
    }

    /// Takes what is fresh of a subscription, `limit` at most.
    pub(super) fn take_fresh(
        &mut self,
        subscription: SubscriptionId,
        now: TimestampMs,
        until: TimestampMs,
        limit: usize,
    ) -> Taken {
        let mut claimed = Vec::new();
        while claimed.len() < limit
            && let Some(held) = self.held.get_mut(&subscription).filter(|held| held.is_fresh_in_order())
            && let Some(fresh) = held.fresh.pop_front()
        {
            self.fresh -= 1;
            claimed.push(self.lease(fresh, until));
        }
        let beyond = self.held.get(&subscription).and_then(|held| held.beyond);
        let ask = self.held.get(&subscription).is_none_or(|held| {
            let due = |at: Option<TimestampMs>| at.is_some_and(|at| at <= now);
            due(held.beyond) || due(held.lapse_at)
        });
        // Whoever claims takes it that he is told when more is due.
        if let Some(due_at) = beyond.filter(|_| !ask) {
            self.note_due(subscription, due_at);
        }
        Taken { ask: ask && claimed.len() < limit, claimed }
    }

    /// Ends a lease, if it is still this one.
    pub(super) fn release(&mut self, subscription: SubscriptionId, id: NotificationId, token: LeaseToken) {
        if let Some(held) = self.held.get_mut(&subscription)
            && held.leases.get(&id).is_some_and(|lease| lease.token == token)
        {
            held.leases.remove(&id);
        }
    }

    /// Keeps a lease beyond its time, or does not any longer, if it is still this one.
    pub(super) fn keep(&mut self, subscription: SubscriptionId, id: NotificationId, token: LeaseToken, kept: bool) {
        if let Some(held) = self.held.get_mut(&subscription)
            && let Some(lease) = held.leases.get_mut(&id).filter(|lease| lease.token == token)
        {
            lease.kept = kept;
            // Never later than it is: that of one that is kept is found out when the table is asked.
            held.lapse_at = lease.lapse().into_iter().chain(held.lapse_at).min();
        }
    }

    /// Something of a subscription is due at `due_at`.
    pub(super) fn note_due(&mut self, subscription: SubscriptionId, due_at: TimestampMs) {
        self.just_due.entry(subscription).and_modify(|at| *at = due_at.min(*at)).or_insert(due_at);
    }

    /// Takes for whom something was made due, see [`super::SqliteStore::just_due`].
    pub(super) fn take_just_due(&mut self) -> Vec<(SubscriptionId, TimestampMs)> {
        std::mem::take(&mut self.just_due).into_iter().collect()
    }

    /// Whether anybody has yet to hear of something that is due.
    pub(super) fn has_news(&self) -> bool {
        !self.just_due.is_empty()
    }

    /// A notification is due at `due_at` that nobody holds, or soon nobody will.
    pub(super) fn pull_back(&mut self, subscription: SubscriptionId, due_at: TimestampMs) {
        self.note_due(subscription, due_at);
        // Of one that nothing is known of yet, it is known to be asked.
        if let Some(held) = self.held.get_mut(&subscription) {
            held.pull_back(due_at);
        }
    }

    /// A commit made notifications, due when they were made, that cover one event each and for ever the same.
    pub(super) fn add_fresh(&mut self, made: Vec<Claimed>) {
        for one in made {
            let (subscription, due_at, at) = (one.subscription, one.created_at, place(&one));
            self.note_due(subscription, due_at);
            let has_room = self.fresh < FRESH_OF_ALL_MAX;
            let held = self.held.entry(subscription).or_default();
            if has_room && held.beyond.is_none() && Some(at) > held.frontier && held.fresh.len() < FRESH_MAX {
                held.frontier = Some(at);
                held.fresh.push_back(one);
                self.fresh += 1;
            } else {
                held.pull_back(due_at);
            }
        }
    }

    /// Forgets what may no longer hold, if this is another revision.
    pub(super) fn as_of(&mut self, revision: i64) {
        if self.revision != Some(revision) {
            self.revision = Some(revision);
            self.fresh = 0;
            for held in self.held.values_mut() {
                held.frontier = None;
                held.beyond = Some(TimestampMs::ZERO);
                held.fresh.clear();
            }
        }
    }

    /// Before the table is asked for what is due of a subscription.
    pub(super) fn begin_asking(&mut self, subscription: SubscriptionId, now: TimestampMs) {
        let held = self.held.entry(subscription).or_default();
        self.fresh -= held.forget_fresh();
        let before = held.leases.len();
        held.leases.retain(|_, lease| lease.lapse().is_none_or(|lapse| now < lapse));
        if held.leases.len() < before {
            held.frontier = None;
        }
        held.lapse_at = held.lapse();
    }

    /// The table was asked, and all it has due was taken up to the frontier; behind it something is due at `beyond`.
    pub(super) fn end_asking(&mut self, subscription: SubscriptionId, beyond: Option<TimestampMs>) {
        self.held.entry(subscription).or_default().beyond = beyond;
        if let Some(due_at) = beyond {
            self.note_due(subscription, due_at);
        }
    }

    /// A look at the table behind the frontier found the first that nobody holds, or that there is none. Held while
    /// that look lasts, for what is made meanwhile has to be said after it.
    pub(super) fn found(&mut self, subscription: SubscriptionId, due_at: Option<TimestampMs>) {
        self.held.entry(subscription).or_default().beyond = due_at;
    }

    /// When the first fresh notification of a subscription is due.
    pub(super) fn fresh_due(&self, subscription: SubscriptionId) -> Option<TimestampMs> {
        self.held.get(&subscription)?.fresh.front().map(|one| one.created_at)
    }
}
