//! After an attempt: done, again at, or dead.

use std::time::Duration;

use crate::time::TimestampMs;

/// What came of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A 2xx answer.
    Accepted,
    /// Any other answer.
    Refused {
        /// Its status.
        status: u16,
        /// Its `Retry-After`, resolved to a wait.
        retry_after: Option<Duration>,
    },
    /// No answer: resolution, connection, TLS, deadline, or an answer that is not HTTP.
    Unreachable,
}

impl Outcome {
    /// How long the receiver asks to be left alone, so far as that is kept to.
    pub fn retry_after(self) -> Duration {
        match self {
            Self::Refused { retry_after, .. } => retry_after.unwrap_or_default().min(Schedule::RETRY_AFTER_MAX),
            Self::Accepted | Self::Unreachable => Duration::ZERO,
        }
    }
}

/// The gaps between attempts; after the last one the notification is dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(Vec<Duration>);

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It was accepted.
    Delivered,
    /// It was answered with 500, as by a receiver that works and then fails to say so: whether it was taken in shows
    /// when somebody comes to fetch. See [`Rings::follow`](crate::ring::Rings::follow).
    Told,
    /// Try again then.
    Again(TimestampMs),
    /// The schedule is at its end.
    Dead,
    /// The receiver says it is gone for good (410): stop telling this subscription, keep what it is owed.
    Disable,
}

impl Schedule {
    /// The longest wait that a `Retry-After` may ask for.
    pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);
    /// How much jitter lengthens a gap at most, as a part of it.
    const JITTER_MAX: f64 = 0.1;

    /// From the gaps in order. An empty schedule tries once.
    pub const fn new(gaps: Vec<Duration>) -> Self {
        Self(gaps)
    }

    /// The gaps.
    pub fn gaps(&self) -> &[Duration] {
        &self.0
    }

    /// The step after attempt number `attempt` (1 for the first) ended at `now`.
    ///
    /// `jitter` is chance in `0.0..1.0`; it lengthens a gap by up to a tenth, so that receivers that fell together
    /// are not hit together. A `Retry-After` can lengthen the gap, never shorten it.
    pub fn step(&self, outcome: Outcome, attempt: u32, jitter: f64, now: TimestampMs) -> Step {
        match outcome {
            Outcome::Accepted => return Step::Delivered,
            Outcome::Refused { status: 410, .. } => return Step::Disable,
            Outcome::Refused { .. } | Outcome::Unreachable => (),
        }
        let index = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
        match self.0.get(index) {
            Some(gap) => {
                let gap = gap.mul_f64(1.0 + Self::JITTER_MAX * jitter.clamp(0.0, 1.0));
                Step::Again(now.after(gap.max(outcome.retry_after())))
            }
            None => Step::Dead,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimestampMs = TimestampMs::from_millis(1_000_000);

    fn schedule() -> Schedule {
        Schedule::new(vec![Duration::from_secs(5), Duration::from_secs(30)])
    }

    fn refused(status: u16, retry_after_secs: Option<u64>) -> Outcome {
        Outcome::Refused { status, retry_after: retry_after_secs.map(Duration::from_secs) }
    }

    fn again(secs: u64) -> Step {
        Step::Again(NOW.after(Duration::from_secs(secs)))
    }

    #[test]
    fn the_schedule_is_walked_to_its_end() {
        assert_eq!(schedule().step(refused(500, None), 1, 0.0, NOW), again(5));
        assert_eq!(schedule().step(Outcome::Unreachable, 2, 0.0, NOW), again(30));
        assert_eq!(schedule().step(Outcome::Unreachable, 3, 0.0, NOW), Step::Dead);
        assert_eq!(schedule().step(Outcome::Accepted, 3, 0.0, NOW), Step::Delivered);
    }

    #[test]
    fn retry_after_lengthens_and_is_capped() {
        assert_eq!(schedule().step(refused(503, Some(60)), 1, 0.0, NOW), again(60));
        assert_eq!(schedule().step(refused(429, Some(1)), 1, 0.0, NOW), again(5));
        assert_eq!(schedule().step(refused(503, Some(u64::MAX)), 1, 0.0, NOW), again(24 * 60 * 60));
    }

    #[test]
    fn jitter_only_lengthens() {
        assert_eq!(
            schedule().step(refused(500, None), 1, 1.0, NOW),
            Step::Again(NOW.after(Duration::from_millis(5500)))
        );
    }

    #[test]
    fn gone_disables_and_a_redirect_is_a_failure() {
        assert_eq!(schedule().step(refused(410, None), 1, 0.0, NOW), Step::Disable);
        assert_eq!(schedule().step(refused(307, None), 1, 0.0, NOW), again(5));
    }
}
