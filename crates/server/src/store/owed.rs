//! The verbs about what is owed: due, claimed, settled, shown.

use std::sync::Arc;
use std::time::Duration;

use filebell_core::id::{FreshIds, NotificationId, Seq, SubscriptionId};
use filebell_core::plan::Mark;
use filebell_core::retry::Step;
use filebell_core::time::{TimestampMs, TimestampSecs};

use super::{Store, StoreError, dispatch};

/// A notification that this process may attempt until its lease ends. Comes only from [`Store::claim`].
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Which notification.
    pub notification: NotificationId,
    /// Who is told.
    pub subscription: SubscriptionId,
    /// The last event it does not cover.
    pub after: Mark,
    /// The last event it covers.
    pub last: Mark,
    /// How many attempts were made before.
    pub attempts: u32,
    /// And how many before it was last replayed.
    pub earlier_attempts: u32,
    /// When it was made.
    pub created_at: TimestampMs,
    /// When the first event it covers was recorded.
    pub oldest_at: TimestampMs,
    /// The body of the first attempt; `None` before it.
    pub body: Option<Vec<u8>>,
    /// What `since` of the Nextcloud protocol is to say: never later than the oldest event it covers.
    pub since: TimestampSecs,
    /// It was delivered, and is told again because nobody fetched: how often it was so before. `None` before it is
    /// delivered.
    pub rung: Option<u32>,
    /// Fences the settling.
    pub token: LeaseToken,
}

/// Says who holds a notification; a settling with an old one changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseToken(pub u64);

impl Claimed {
    /// The number of the attempt that is made under this claim, from 1 on, those before it was replayed included.
    pub fn attempt_number(&self) -> u32 {
        self.earlier_attempts.saturating_add(self.attempts).saturating_add(1)
    }
}

/// One ended attempt to be written.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// What was attempted.
    pub claimed: Claimed,
    /// What comes next.
    pub step: Step,
    /// The body that was sent, if the notification was not accepted: it is kept for the next attempt.
    pub body: Vec<u8>,
    /// When it is told again if it is not fetched, once it is delivered; `None` for not any more.
    pub ring_at: Option<TimestampMs>,
    /// How the attempt went.
    pub attempt: Attempt,
}

/// One POST of a notification and its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When it began.
    pub started_at: TimestampMs,
    /// How long it took.
    pub took: Duration,
    /// The status answered; `None` if there was no answer.
    pub status: Option<u16>,
    /// What went wrong, or the beginning of a refusing answer, for a person to read.
    pub detail: Option<String>,
    /// What it spent its time on.
    pub timing: Timing,
    /// What is kept of the answer: header lines, an empty line, the beginning of the body; empty if there is nothing.
    pub answer: Vec<u8>,
    /// Tells whether a request that is built again comes out as it was sent; `None` if none was sent.
    pub print: Option<u32>,
}

/// What an attempt spent its time on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing {
    /// Finding the address; `None` if the connection was kept from an earlier attempt, or there was no answer. So with
    /// the next two.
    pub resolve: Option<Duration>,
    /// Connecting to it.
    pub connect: Option<Duration>,
    /// The TLS handshake.
    pub tls: Option<Duration>,
    /// From the beginning of the attempt to that of the answer; `None` if there was none.
    pub first_byte: Option<Duration>,
}

/// Where a notification stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotificationState {
    /// It waits for its time, or for its next attempt.
    Pending,
    /// It was answered with 500, as by a receiver that takes it in and fails to say so; it is rung until somebody
    /// fetches. Then it is delivered, or else dead.
    Told,
    /// It was accepted.
    Delivered,
    /// Its schedule is at its end; it can be replayed.
    Dead,
    /// It died, and a later one that was delivered covers its events too.
    Superseded,
    /// The grant it was made under was taken back before it was accepted.
    Revoked,
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

/// A notification as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Its id.
    pub id: NotificationId,
    /// Who is told.
    pub subscription: SubscriptionId,
    /// The last event it does not cover.
    pub after: Mark,
    /// The last event it covers.
    pub last: Mark,
    /// Where it stands.
    pub state: NotificationState,
    /// How many attempts were made.
    pub attempts: u32,
    /// When the next attempt is due, while it is pending.
    pub due_at: TimestampMs,
    /// When it was made.
    pub created_at: TimestampMs,
}

/// How a subscription stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Which subscription.
    pub subscription: SubscriptionId,
    /// Notifications that wait.
    pub pending: u64,
    /// Notifications that were accepted.
    pub delivered: u64,
    /// Notifications that were given up.
    pub dead: u64,
    /// Dead notifications that a later one made up for.
    pub superseded: u64,
    /// When the oldest event was recorded that a pending notification covers.
    pub oldest_untold_at: Option<TimestampMs>,
    /// When an attempt last ended well.
    pub last_success_at: Option<TimestampMs>,
    /// When an attempt last ended badly.
    pub last_failure_at: Option<TimestampMs>,
    /// What was wrong then.
    pub last_failure: Option<String>,
    /// When it was told for the last time what it never fetched.
    pub unfetched_at: Option<TimestampMs>,
}

impl Store {
    /// For a server that starts: what the one before may have sent when it was killed covers no more than it did, so
    /// that a repeat under the same id tells the same. Commands leave this alone, for a server may run beside them.
    pub async fn seal_outstanding(&self) -> Result<(), StoreError> {
        dispatch!(self, seal_outstanding())
    }

    /// Takes the subscriptions for which something was made due, or found to be due later, since the last call, each
    /// with the time. Only a shortcut: all that is due is found by [`Store::due`], and of these nothing may be due any
    /// more.
    pub fn just_due(&self) -> Vec<(SubscriptionId, TimestampMs)> {
        match self {
            Self::Sqlite(engine) => engine.just_due(),
        }
    }

    /// Active subscriptions that are owed something, each with the time the first of it is due.
    pub async fn due(&self) -> Result<Vec<(SubscriptionId, TimestampMs)>, StoreError> {
        dispatch!(self, due())
    }

    /// Claims at most `limit` notifications of a subscription that are due and not held by anybody, oldest due
    /// first, until `now` and `lease`. If none is pending, one that was delivered and is to be rung again.
    pub async fn claim(
        &self,
        subscription: SubscriptionId,
        now: TimestampMs,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        dispatch!(self, claim(subscription, now, lease, limit))
    }

    /// Writes ended attempts and what follows from them, in one commit. Answers which of them still held their
    /// lease; the others changed nothing.
    pub async fn settle(
        &self,
        settlements: Arc<[Settlement]>,
        now: TimestampMs,
        ids: FreshIds,
    ) -> Result<Vec<bool>, StoreError> {
        dispatch!(self, settle(settlements, now, ids))
    }

    /// Lets a lease outlast its time, for what was attempted under it and waits to be settled: else it would be attempted
    /// again as soon as the store takes it.
    pub fn keep(&self, claimed: &Claimed) {
        match self {
            Self::Sqlite(engine) => engine.keep(claimed, true),
        }
    }

    /// Lets a lease that was kept run out after all, for it cannot be settled.
    pub fn let_lapse(&self, claimed: &Claimed) {
        match self {
            Self::Sqlite(engine) => engine.keep(claimed, false),
        }
    }

    /// Gives back what was claimed and not attempted; it can be claimed again at once.
    pub async fn release(&self, claimed: Vec<Claimed>) -> Result<(), StoreError> {
        dispatch!(self, release(claimed))
    }

    /// A notification.
    pub async fn notification(&self, id: NotificationId) -> Result<Option<Notification>, StoreError> {
        dispatch!(self, notification(id))
    }

    /// The attempts of a notification, first to last.
    pub async fn attempts(&self, id: NotificationId) -> Result<Vec<Attempt>, StoreError> {
        dispatch!(self, attempts(id))
    }

    /// At most `limit` notifications of a subscription, newest first.
    pub async fn notifications(
        &self,
        subscription: SubscriptionId,
        limit: u32,
    ) -> Result<Vec<Notification>, StoreError> {
        dispatch!(self, notifications(subscription, limit))
    }

    /// How every subscription stands, by name. Costs the same however many notifications there are.
    pub async fn standings(&self) -> Result<Vec<Standing>, StoreError> {
        dispatch!(self, standings())
    }

    /// The notification by which a subscription is told of an event, if it is.
    pub async fn covering(&self, subscription: SubscriptionId, seq: Seq) -> Result<Option<Notification>, StoreError> {
        dispatch!(self, covering(subscription, seq))
    }

    /// At most `limit` of the newest notifications of these subscriptions, or of all, newest first, each with its last
    /// attempt.
    pub async fn newest_notifications(
        &self,
        of: Option<Vec<SubscriptionId>>,
        limit: u32,
    ) -> Result<Vec<(Notification, Option<Attempt>)>, StoreError> {
        dispatch!(self, newest_notifications(of, limit))
    }

    /// Makes dead notifications pending again, due `now`; where they are gathered only the newest, not before the interval
    /// is over, and none while something is outstanding. Answers how many.
    pub async fn replay_dead(&self, subscription: SubscriptionId, now: TimestampMs) -> Result<u64, StoreError> {
        dispatch!(self, replay_dead(subscription, now))
    }
}
