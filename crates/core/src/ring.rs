//! Ringing until somebody comes: (how often it rang, how that ended, now) -> when to ring again.
//!
//! A Nextcloud notification says only that there is something to fetch, and its receiver may accept it and forget it.
//! So what was delivered and is not fetched is told again, at gaps that never shrink, so often and no more.
//!
//! A receiver in wide use answers 500 to every notification and fetches all the same (protocol, section E6). A 500 says
//! that the application was reached: it is rung within the same bounds, and held to be told when it has fetched. Any
//! other failure says nothing of the kind (nobody answers, a gateway answers for it), and is repeated as any failure is.

use std::time::Duration;

use crate::retry::{Outcome, Schedule, Step};
use crate::time::TimestampMs;

/// The gaps: before the first ring, counted from the delivery, and between one ring and the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rings(Vec<Duration>);

/// An attempt that has ended: the first of a notification, a repeat, or a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// How often the notification was attempted, this time included.
    pub attempt: u32,
    /// If this was a ring: how many there were before it.
    pub rung: Option<u32>,
    /// How it ended.
    pub outcome: Outcome,
    /// When.
    pub at: TimestampMs,
}

/// What follows from an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// What becomes of the notification; of one that is rung, whether the ring was heard.
    pub step: Step,
    /// When it is rung again if nobody has fetched by then.
    pub ring_at: Option<TimestampMs>,
}

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

    /// What follows from an attempt of a notification that somebody is to come and fetch. `schedule` and `jitter` are
    /// for those that reached nobody.
    pub fn follow(&self, schedule: &Schedule, ended: Ended, min_interval: Duration, jitter: f64) -> Next {
        let Ended { attempt, rung, outcome, at } = ended;
        let ring_at = self.next(rung.map_or(0, |before| before.saturating_add(1)), outcome, min_interval, at);
        let step = match (outcome, rung) {
            (Outcome::Accepted, _) => Step::Delivered,
            (Outcome::Refused { status: 500, .. }, Some(_)) => Step::Told,
            (Outcome::Refused { status: 500, .. }, None) if ring_at.is_some() => Step::Told,
            (Outcome::Refused { status: 410, .. }, _) => Step::Disable,
            (_, None) => schedule.step(outcome, attempt, jitter, at),
            // A ring that fails is a ring.
            (_, Some(_)) => ring_at.map_or(Step::Dead, Step::Again),
        };
        let is_rung = rung.is_some() || matches!(step, Step::Delivered | Step::Told);
        Next { step, ring_at: ring_at.filter(|_| is_rung) }
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

    fn refused(status: u16) -> Outcome {
        Outcome::Refused { status, retry_after: None }
    }

    /// What follows from outcomes of the same kind, one after the other, until nothing more is sent.
    fn all_that_follows(rings: &Rings, schedule: &Schedule, outcome: Outcome) -> Vec<(Step, Duration)> {
        let (mut at, mut rung, mut all) = (NOW, None, Vec::new());
        for attempt in 1..100 {
            let next = rings.follow(schedule, Ended { attempt, rung, outcome, at }, secs(1), 0.0);
            let (again, rang) = match (next.step, next.ring_at) {
                (_, Some(ring_at)) => (ring_at, true),
                (Step::Again(again), None) => (again, false),
                (step, None) => {
                    all.push((step, Duration::ZERO));
                    return all;
                }
            };
            all.push((next.step, again.since(at)));
            rung = if rang { Some(rung.map_or(0, |before| before + 1)) } else { None };
            at = again;
        }
        panic!("there is no end to it")
    }

    #[test]
    fn a_500_is_rung_in_bounds_and_other_failures_keep_to_the_schedule() {
        let (rings, schedule) =
            (Rings::new(vec![secs(10), secs(30)]), Schedule::new(vec![secs(5), secs(60), secs(600)]));
        assert_eq!(
            all_that_follows(&rings, &schedule, refused(500)),
            [(Step::Told, secs(10)), (Step::Told, secs(30)), (Step::Told, Duration::ZERO)]
        );
        for outcome in [Outcome::Unreachable, refused(502), refused(503), refused(504), refused(404)] {
            let gaps: Vec<_> = all_that_follows(&rings, &schedule, outcome).into_iter().map(|(_, gap)| gap).collect();
            assert_eq!(gaps, [secs(5), secs(60), secs(600), Duration::ZERO], "{outcome:?}");
        }
        let next =
            rings.follow(&schedule, Ended { attempt: 1, rung: None, outcome: refused(410), at: NOW }, secs(1), 0.0);
        assert_eq!(next, Next { step: Step::Disable, ring_at: None });
        // Where nothing is rung, a 500 is a failure like others.
        assert_eq!(all_that_follows(&Rings::new(vec![]), &schedule, refused(500)).len(), 4);
    }

    fn any_outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            Just(Outcome::Accepted),
            Just(Outcome::Unreachable),
            (prop_oneof![Just(500_u16), 300..600_u16], prop::option::of(0..100_000_u64))
                .prop_map(|(status, after)| Outcome::Refused { status, retry_after: after.map(secs) }),
        ]
    }

    proptest! {
        /// Whatever a receiver answers, it is told at most once for each gap of the schedule and each ring, never
        /// closer than the ring or the interval asks, and what was told ends as fetched or as given up.
        #[test]
        fn whatever_is_answered_telling_comes_to_an_end(
            outcomes in prop::collection::vec(any_outcome(), 30),
            gaps in prop::collection::vec(1..10_000_u64, 0..6),
            repeats in prop::collection::vec(1..10_000_u64, 0..6),
            min_interval in 1..100_u64,
        ) {
            let (rings, schedule) = (
                Rings::new(gaps.iter().copied().map(secs).collect()),
                Schedule::new(repeats.iter().copied().map(secs).collect()),
            );
            let (mut at, mut rung, mut attempts) = (NOW, None, 0_u32);
            for outcome in outcomes {
                attempts += 1;
                let ended = Ended { attempt: attempts, rung, outcome, at };
                let Next { step, ring_at } = rings.follow(&schedule, ended, secs(min_interval), 0.5);
                if let Some(ring_at) = ring_at {
                    let gap = gaps.get(rung.map_or(0, |before: u32| before as usize + 1)).copied().unwrap();
                    prop_assert!(ring_at.since(at) >= secs(gap.max(min_interval)));
                    rung = Some(rung.map_or(0, |before| before + 1));
                    at = ring_at;
                } else if let (Step::Again(again), None) = (step, rung) {
                    at = again;
                } else {
                    break;
                }
            }
            prop_assert!(attempts as usize <= 1 + gaps.len() + repeats.len());
        }

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
