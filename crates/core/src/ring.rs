//! Ringing until somebody comes: (how often it rang, how that ended, now) -> when to ring again.
//!
//! A Nextcloud notification says only that there is something to fetch, and its receiver may accept it and forget it.
//! So what was delivered and is not fetched is told again, at gaps that never shrink, so often and no more.

use std::time::Duration;

use crate::retry::Outcome;
use crate::time::TimestampMs;

/// The gaps: before the first ring, counted from the delivery, and between one ring and the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rings(Vec<Duration>);

impl Rings {
    /// From the gaps in order. A gap that is shorter than one before it counts as that one. Without gaps, nothing is
    /// ever rung again.
    pub const fn new(gaps: Vec<Duration>) -> Self {
        Self(gaps)
    }

    /// The gaps.
    pub fn gaps(&self) -> &[Duration] {
        &self.0
    }

    /// When to ring after `rung` rings, of which the last one (or the delivery) ended with `outcome` at `now`. `None`
    /// if it rang often enough. A `Retry-After` is kept to, as with other attempts.
    pub fn next(&self, rung: u32, outcome: Outcome, min_interval: Duration, now: TimestampMs) -> Option<TimestampMs> {
        let rung = usize::try_from(rung).ok()?;
        let gap = self.0.get(..=rung)?.iter().max()?;
        Some(now.after(min_interval.max(*gap).max(outcome.retry_after())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: TimestampMs = TimestampMs::from_millis(1_000_000);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn gap(rings: &Rings, rung: u32, outcome: Outcome, min_interval: u64) -> Option<Duration> {
        rings.next(rung, outcome, secs(min_interval), NOW).map(|at| at.since(NOW))
    }

    #[test]
    fn the_gaps_are_walked_to_their_end() {
        let rings = Rings::new(vec![secs(10), secs(30), secs(120)]);
        let walked: Vec<_> = (0..5).map(|rung| gap(&rings, rung, Outcome::Accepted, 1)).collect();
        assert_eq!(walked, [Some(secs(10)), Some(secs(30)), Some(secs(120)), None, None]);
        assert_eq!(gap(&Rings::new(vec![]), 0, Outcome::Accepted, 1), None);
    }

    #[test]
    fn the_interval_and_the_receiver_can_only_lengthen() {
        let rings = Rings::new(vec![secs(10)]);
        assert_eq!(gap(&rings, 0, Outcome::Accepted, 60), Some(secs(60)));
        let busy = |after| Outcome::Refused { status: 503, retry_after: Some(secs(after)) };
        assert_eq!(gap(&rings, 0, busy(90), 60), Some(secs(90)));
        assert_eq!(gap(&rings, 0, busy(1), 0), Some(secs(10)));
    }

    proptest! {
        #[test]
        fn bounded_growing_and_never_closer_than_the_interval(
            gaps in prop::collection::vec(0..10_000_u64, 0..8),
            min_interval in 0..10_000_u64,
        ) {
            let rings = Rings::new(gaps.iter().copied().map(secs).collect());
            let mut before = secs(min_interval);
            for rung in 0..20 {
                let gap = gap(&rings, rung, Outcome::Unreachable, min_interval);
                prop_assert_eq!(gap.is_some(), (rung as usize) < gaps.len());
                let Some(gap) = gap else { continue };
                prop_assert!(gap >= before);
                before = gap;
            }
        }
    }
}
