//! The attempts that ended last, for whoever looks on: numbered, kept in memory, and so few that nobody need listen.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use filebell_core::id::{NotificationId, Seq, SubscriptionId};
use filebell_core::retry::Step;
use filebell_core::time::TimestampMs;
use tokio::sync::watch;

use crate::store::{Attempt, Notification, NotificationState, Settlement};

/// So many are kept: a listener that was away for longer has missed some, and is told so.
const KEPT_MAX: usize = 4096;
/// Numbers begin at the millisecond of the start times this, so that those of a later start are larger.
const NUMBERS_PER_MS: u64 = 1000;

/// One attempt that ended and was written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its number: each is one larger than that before it.
    pub number: u64,
    /// Which notification.
    pub notification: NotificationId,
    /// Who was told.
    pub subscription: SubscriptionId,
    /// The last event before those it covers.
    pub after: Seq,
    /// The last event it covers.
    pub last: Seq,
    /// Where the notification stands now.
    pub state: NotificationState,
    /// How many attempts were made.
    pub attempts: u32,
    /// When the next one is due.
    pub next_at: Option<TimestampMs>,
    /// When it came to its end.
    pub ended_at: TimestampMs,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// The status answered; `None` if there was no answer.
    pub status: Option<u16>,
    /// What went wrong, or the beginning of a refusing answer, for a person to read.
    pub detail: Option<String>,
}

/// What was read of the feed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// In the order of their numbers.
    pub ended: Vec<Arc<Ended>>,
    /// The number to read on from.
    pub newest: u64,
    /// Whether some between were not kept.
    pub missed: bool,
}

/// The feed. Cheap to clone.
#[derive(Clone)]
pub struct Feed(Arc<Inner>);

struct Inner {
    kept: Mutex<Kept>,
    advance: watch::Sender<u64>,
}

struct Kept {
    newest: u64,
    ended: VecDeque<Arc<Ended>>,
}

impl Feed {
    /// An empty one, of a filebell that starts `now`.
    pub fn new(now: TimestampMs) -> Self {
        let newest = u64::try_from(now.as_millis()).unwrap_or(0).saturating_mul(NUMBERS_PER_MS);
        Self(Arc::new(Inner {
            kept: Mutex::new(Kept { newest, ended: VecDeque::new() }),
            advance: watch::Sender::new(newest),
        }))
    }

    /// These attempts were written down.
    pub(super) fn push<'a>(&self, settled: impl Iterator<Item = &'a Settlement>) {
        let mut kept = self.kept();
        for one in settled {
            kept.newest += 1;
            if kept.ended.len() == KEPT_MAX {
                kept.ended.pop_front();
            }
            let ended = Arc::new(Ended::new(kept.newest, one));
            kept.ended.push_back(ended);
        }
        let newest = kept.newest;
        drop(kept);
        self.0.advance.send_replace(newest);
    }

    /// What came after a number.
    pub fn since(&self, number: u64) -> Since {
        let kept = self.kept();
        let first = kept.ended.front().map_or(kept.newest, |oldest| oldest.number - 1);
        let ended = kept.ended.iter().filter(|one| one.number > number).cloned().collect();
        Since { ended, newest: kept.newest, missed: number < first || number > kept.newest }
    }

    /// The newest number.
    pub fn newest(&self) -> u64 {
        self.kept().newest
    }

    /// Changes whenever something was added.
    pub fn advanced(&self) -> watch::Receiver<u64> {
        self.0.advance.subscribe()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ended {
    fn new(number: u64, settlement: &Settlement) -> Self {
        let Settlement { claimed, step, ring_at, attempt, .. } = settlement;
        let (state, next_at) = match (claimed.rung, step) {
            // What is rung again was delivered, however the ring ended.
            (Some(_), _) => (NotificationState::Delivered, *ring_at),
            (None, Step::Delivered) => (NotificationState::Delivered, None),
            (None, Step::Again(at)) => (NotificationState::Pending, Some(*at)),
            (None, Step::Told) => (NotificationState::Told, *ring_at),
            (None, Step::Disable) => (NotificationState::Pending, None),
            (None, Step::Dead) => (NotificationState::Dead, None),
        };
        Self {
            number,
            notification: claimed.notification,
            subscription: claimed.subscription,
            after: claimed.after.seq,
            last: claimed.last.seq,
            state,
            attempts: claimed.attempts.saturating_add(1),
            next_at,
            ended_at: attempt.started_at.after(attempt.took),
            took_ms: u64::try_from(attempt.took.as_millis()).unwrap_or(u64::MAX),
            status: attempt.status,
            detail: attempt.detail.clone(),
        }
    }

    /// The same of a notification as the store has it, with its last attempt; it has no number.
    pub fn last(notification: &Notification, attempt: &Attempt) -> Self {
        Self {
            number: 0,
            notification: notification.id,
            subscription: notification.subscription,
            after: notification.after.seq,
            last: notification.last.seq,
            state: notification.state,
            attempts: notification.attempts,
            next_at: (notification.state == NotificationState::Pending).then_some(notification.due_at),
            ended_at: attempt.started_at.after(attempt.took),
            took_ms: u64::try_from(attempt.took.as_millis()).unwrap_or(u64::MAX),
            status: attempt.status,
            detail: attempt.detail.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use filebell_core::plan::Mark;
    use filebell_core::time::TimestampSecs;
    use uuid::Uuid;

    use super::*;
    use crate::store::{Claimed, LeaseToken, Timing};

    fn settlement() -> Settlement {
        let mark = Mark { seq: Seq::ZERO, ordinal: 0 };
        let claimed = Claimed {
            notification: NotificationId::new(Uuid::nil()),
            subscription: SubscriptionId::new(1),
            after: mark,
            last: mark,
            attempts: 0,
            earlier_attempts: 0,
            created_at: TimestampMs::ZERO,
            oldest_at: TimestampMs::ZERO,
            body: None,
            since: TimestampSecs::from_secs(0),
            rung: None,
            token: LeaseToken(1),
        };
        let attempt = Attempt {
            started_at: TimestampMs::ZERO,
            took: Duration::ZERO,
            status: Some(204),
            detail: None,
            timing: Timing::default(),
            answer: Vec::new(),
            print: None,
        };
        Settlement { claimed, step: Step::Delivered, body: Vec::new(), ring_at: None, attempt }
    }

    #[test]
    fn who_was_away_too_long_or_over_a_start_is_told_that_something_is_missing() {
        let feed = Feed::new(TimestampMs::from_millis(5));
        let (begin, one) = (feed.newest(), settlement());
        assert_eq!(feed.since(begin), Since { ended: Vec::new(), newest: begin, missed: false });
        feed.push([&one, &one].into_iter());
        let numbers = |since: Since| since.ended.iter().map(|ended| ended.number).collect::<Vec<_>>();
        assert_eq!(numbers(feed.since(begin)), [begin + 1, begin + 2]);
        assert_eq!(numbers(feed.since(begin + 1)), [begin + 2]);
        assert!(!feed.since(begin).missed && !feed.since(begin + 2).missed);
        assert!(feed.since(begin - 1).missed, "a start before this one");
        assert!(feed.since(begin + 3).missed, "a clock that was set back");
        feed.push(std::iter::repeat_n(&one, KEPT_MAX));
        let since = feed.since(begin + 1);
        assert!(since.missed && since.ended.len() == KEPT_MAX);
        assert!(!feed.since(begin + 2).missed);
        assert!(Feed::new(TimestampMs::from_millis(6)).newest() > begin, "a later start counts on");
    }
}
