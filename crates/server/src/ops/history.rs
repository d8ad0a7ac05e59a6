//! What happened over time: sampled once a minute, shown in spans.

use std::sync::PoisonError;
use std::time::Duration;

use filebell_core::id::AccountId;
use filebell_core::time::TimestampMs;

use super::{Caller, Ops, OpsError};
use crate::metrics::DELIVERED_SECONDS;
use crate::store::{Counts, Pace, Span};

/// How far back is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The last hour, by the minute.
    Hour,
    /// The last day, by the quarter of an hour.
    Day,
    /// The last thirty days, by the day (UTC).
    Month,
}

impl Reach {
    /// By what it is shown.
    pub const fn span(self) -> Span {
        match self {
            Self::Hour => Span::Minute,
            Self::Day => Span::Quarter,
            Self::Month => Span::Day,
        }
    }

    const fn spans(self) -> u32 {
        match self {
            Self::Hour => 60,
            Self::Day => 96,
            Self::Month => 30,
        }
    }
}

/// What happened in one span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// When it began.
    pub at: TimestampMs,
    /// Events that were recorded.
    pub arrivals: u64,
    /// Notifications that were accepted.
    pub delivered: u64,
    /// Notifications that were given up.
    pub dead: u64,
    /// What only the operator sees.
    pub pace: Option<PointPace>,
}

/// How sending went in one span, for the whole server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointPace {
    /// Attempts that failed.
    pub failed: u64,
    /// From the record of an event to its acceptance: within this were half of the deliveries,
    pub p50: Option<Duration>,
    /// 95 of a hundred,
    pub p95: Option<Duration>,
    /// and 99 of a hundred; `None` where there were none.
    pub p99: Option<Duration>,
}

impl Ops {
    /// Writes down what happened since the last time. A server does so once a minute, and when it starts and stops.
    pub async fn sample(&self) -> Result<(), OpsError> {
        let now = self.pace();
        let since = self.pace_since_sample(&now);
        self.0.store.count_history(since, self.0.seams.now()).await?;
        *self.0.sampled.lock().unwrap_or_else(PoisonError::into_inner) = now;
        Ok(())
    }

    /// What happened lately to the caller's files and subscriptions, oldest first; the last span is still running.
    pub async fn history(&self, caller: &Caller, reach: Reach) -> Result<Vec<Point>, OpsError> {
        let account = self.looked_at(caller)?;
        let (span, now) = (reach.span(), self.0.seams.now());
        let running = span.begin(now);
        let first = running.before(span.length() * (reach.spans() - 1));
        let mut stored = self.0.store.history(account, span, first).await?.into_iter().peekable();
        let mut points = Vec::new();
        for number in 0..reach.spans() {
            let at = first.after(span.length() * number);
            let mut counts = stored.next_if(|(begins, _)| *begins == at).map(|(_, counts)| counts).unwrap_or_default();
            if at == running {
                counts.add(&self.uncounted(account).await?);
            }
            points.push(point(at, &counts, account.is_none()));
        }
        Ok(points)
    }

    /// What happened since midnight (UTC).
    pub(super) async fn today(&self, account: Option<AccountId>) -> Result<Counts, OpsError> {
        let midnight = Span::Day.begin(self.0.seams.now());
        let stored = self.0.store.history(account, Span::Day, midnight).await?.pop();
        let mut counts = stored.map(|(_, counts)| counts).unwrap_or_default();
        counts.add(&self.uncounted(account).await?);
        Ok(counts)
    }

    /// Whose files a caller looks at: its own, or, as the operator, all.
    pub(super) fn looked_at(&self, caller: &Caller) -> Result<Option<AccountId>, OpsError> {
        match caller {
            Caller::Operator => Ok(None),
            Caller::Account(caller) => Ok(Some(caller.account.id)),
            Caller::Application(_) => Err(OpsError::NotGranted("what is the account's own".to_owned())),
        }
    }

    async fn uncounted(&self, account: Option<AccountId>) -> Result<Counts, OpsError> {
        let mut counts = self.0.store.uncounted(account).await?;
        if account.is_none() {
            counts.pace = self.pace_since_sample(&self.pace());
        }
        Ok(counts)
    }

    fn pace(&self) -> Pace {
        let metrics = self.0.journal.metrics();
        Pace { failed: metrics.failed(), took: metrics.took() }
    }

    fn pace_since_sample(&self, now: &Pace) -> Pace {
        let before = self.0.sampled.lock().unwrap_or_else(PoisonError::into_inner);
        let took = now.took.iter().enumerate();
        let took = took.map(|(at, count)| count.saturating_sub(before.took.get(at).copied().unwrap_or(0)));
        Pace { failed: now.failed.saturating_sub(before.failed), took: took.collect() }
    }
}

fn point(at: TimestampMs, counts: &Counts, whole: bool) -> Point {
    let Counts { arrivals, delivered, dead, pace } = counts;
    let within = |part| within(&pace.took, part);
    let pace = whole.then(|| PointPace { failed: pace.failed, p50: within(0.5), p95: within(0.95), p99: within(0.99) });
    Point { at, arrivals: *arrivals, delivered: *delivered, dead: *dead, pace }
}

/// Within which time so large a part of the deliveries was done, as far as the bounds tell: between two of them, evenly.
fn within(took: &[u64], part: f64) -> Option<Duration> {
    let number = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let all: u64 = took.iter().sum();
    if all == 0 {
        return None;
    }
    let (mut left, mut lower) = (number(all) * part, 0.0);
    for (count, upper) in took.iter().zip(DELIVERED_SECONDS) {
        let count = number(*count);
        if count > 0.0 && left <= count {
            return Some(Duration::from_secs_f64(lower + (upper - lower) * left / count));
        }
        (left, lower) = (left - count, upper);
    }
    Some(Duration::from_secs_f64(lower))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_between_the_bounds_of_what_was_counted() {
        let secs = |took: &[u64], part| within(took, part).map(|time| (time.as_secs_f64() * 100_000.0).round() / 100.0);
        assert_eq!(secs(&[], 0.5), None);
        assert_eq!(secs(&[0, 0, 0], 0.5), None);
        assert_eq!(secs(&[0, 10], 0.5), Some(1.75), "half of the way from 1 to 2.5 ms");
        assert_eq!(secs(&[90, 0, 0, 0, 0, 0, 0, 0, 0, 10], 0.95), Some(750.0));
        let mut beyond = vec![0; DELIVERED_SECONDS.len()];
        beyond.push(3);
        assert_eq!(within(&beyond, 0.5), Some(Duration::from_secs(259_200)), "longer than all bounds is the longest");
    }
}
