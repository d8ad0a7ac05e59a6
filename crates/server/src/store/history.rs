//! The verbs about what happened over time.

use std::time::Duration;

use filebell_core::id::AccountId;
use filebell_core::time::TimestampMs;

use super::{Store, StoreError, dispatch};

/// How long a time is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// A minute; kept for an hour and a little.
    Minute,
    /// A quarter of an hour; kept for a day and a little.
    Quarter,
    /// A day, UTC; kept for 31 days.
    Day,
}

impl Span {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Quarter, Self::Day];

    /// How long it is.
    pub const fn length(self) -> Duration {
        Duration::from_secs(match self {
            Self::Minute => 60,
            Self::Quarter => 15 * 60,
            Self::Day => 24 * 60 * 60,
        })
    }

    /// How long what was counted by it is kept.
    pub const fn kept(self) -> Duration {
        Duration::from_secs(match self {
            Self::Minute => 2 * 60 * 60,
            Self::Quarter => 2 * 24 * 60 * 60,
            Self::Day => 31 * 24 * 60 * 60,
        })
    }

    /// When the span began that a moment lies in.
    pub fn begin(self, moment: TimestampMs) -> TimestampMs {
        let length = i64::try_from(self.length().as_millis()).unwrap_or(i64::MAX);
        TimestampMs::from_millis(moment.as_millis().div_euclid(length).saturating_mul(length))
    }
}

/// What happened in some time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that were recorded.
    pub arrivals: u64,
    /// Notifications that were accepted.
    pub delivered: u64,
    /// Notifications that were given up.
    pub dead: u64,
    /// What only the whole server counts.
    pub pace: Pace,
}

/// How sending went in some time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pace {
    /// Attempts that failed.
    pub failed: u64,
    /// How many deliveries took how long, by the bounds of whoever counts; empty where nothing is known.
    pub took: Vec<u64>,
}

impl Counts {
    /// Whether nothing happened.
    pub fn is_nothing(&self) -> bool {
        let Self { arrivals, delivered, dead, pace: Pace { failed, took } } = self;
        [arrivals, delivered, dead, failed].into_iter().chain(took).all(|count| *count == 0)
    }

    /// Counts what another time counted too.
    pub fn add(&mut self, other: &Self) {
        self.arrivals = self.arrivals.saturating_add(other.arrivals);
        self.delivered = self.delivered.saturating_add(other.delivered);
        self.dead = self.dead.saturating_add(other.dead);
        self.pace.failed = self.pace.failed.saturating_add(other.pace.failed);
        let length = self.pace.took.len().max(other.pace.took.len());
        self.pace.took.resize(length, 0);
        for (count, more) in self.pace.took.iter_mut().zip(&other.pace.took) {
            *count = count.saturating_add(*more);
        }
    }
}

impl Store {
    /// Writes down what happened since the last time, and forgets what is older than is kept. An event counts to the
    /// time it was recorded at; all else to the time of the last call. `pace` is what was counted since then.
    pub async fn count_history(&self, pace: Pace, now: TimestampMs) -> Result<(), StoreError> {
        dispatch!(self, count_history(pace, now))
    }

    /// What was written down of an account, or of the whole server, since the beginning of a span; what nothing
    /// happened in is left out.
    pub async fn history(
        &self,
        account: Option<AccountId>,
        span: Span,
        since: TimestampMs,
    ) -> Result<Vec<(TimestampMs, Counts)>, StoreError> {
        dispatch!(self, history(account, span, since))
    }

    /// What happened since it was last written down.
    pub async fn uncounted(&self, account: Option<AccountId>) -> Result<Counts, StoreError> {
        dispatch!(self, uncounted(account))
    }
}
