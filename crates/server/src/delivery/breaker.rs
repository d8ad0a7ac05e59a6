//! How hard an endpoint may be pressed.
//!
//! An endpoint begins with a few places and earns one more by each acceptance, so that many that hang cannot take all
//! there is at once. It loses one by each failure, down to a single one, and that one then rests between attempts,
//! longer the longer it goes on: an endpoint that is down costs one place and an attempt each second, however much it
//! is owed. The first acceptance ends the rest.

use std::time::Duration;

/// What each failure in a row adds to the rest between attempts.
const REST_PER_FAILURE: Duration = Duration::from_millis(5);
/// The longest rest: one attempt each second finds an endpoint that has come back soon enough.
const REST_MAX: Duration = Duration::from_secs(1);
/// An endpoint of which nothing is known begins with one place in so many.
const BEGIN_WITH_ONE_IN: usize = 4;

/// The state of one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Breaker {
    places_max: usize,
    places: usize,
    failures_in_a_row: u32,
}

impl Breaker {
    /// An endpoint of which nothing is known.
    pub(super) fn new(places_max: usize) -> Self {
        let places_max = places_max.max(1);
        Self { places_max, places: places_max.div_ceil(BEGIN_WITH_ONE_IN), failures_in_a_row: 0 }
    }

    /// How many attempts it may be sent at once.
    pub(super) const fn places(&self) -> usize {
        self.places
    }

    /// Whether its last attempt failed.
    pub(super) const fn is_failing(&self) -> bool {
        self.failures_in_a_row > 0
    }

    /// Whether it has failed so often that it is sent one after the other, with rests.
    pub(super) const fn is_down(&self) -> bool {
        self.is_failing() && self.places == 1
    }

    /// Takes in how an attempt ended; answers how long to rest before the next.
    pub(super) fn note(&mut self, accepted: bool) -> Duration {
        if accepted {
            self.failures_in_a_row = 0;
            self.places = self.places.saturating_add(1).min(self.places_max);
            return Duration::ZERO;
        }
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.places = self.places.saturating_sub(1).max(1);
        if self.is_down() { (REST_PER_FAILURE * self.failures_in_a_row).min(REST_MAX) } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_narrow_down_to_one_place_that_rests_ever_longer() {
        let mut breaker = Breaker::new(12);
        assert_eq!(breaker.places(), 3);
        assert_eq!(breaker.note(false), Duration::ZERO);
        assert_eq!((breaker.places(), breaker.is_failing(), breaker.is_down()), (2, true, false));
        assert_eq!(breaker.note(false), Duration::from_millis(10));
        assert!(breaker.is_down());
        assert_eq!(breaker.note(false), Duration::from_millis(15));
        let rests: Vec<Duration> = (0..1000).map(|_| breaker.note(false)).collect();
        assert!(rests.is_sorted());
        assert_eq!((rests.last(), breaker.places()), (Some(&REST_MAX), 1));
    }

    #[test]
    fn acceptances_give_places_one_by_one() {
        let mut breaker = Breaker::new(4);
        assert_eq!(breaker.places(), 1);
        assert_eq!(breaker.note(true), Duration::ZERO);
        assert_eq!(breaker.places(), 2);
        for _ in 0..10 {
            breaker.note(true);
        }
        assert_eq!(breaker.places(), 4);
        breaker.note(false);
        assert_eq!(breaker.note(true), Duration::ZERO);
        assert!(!breaker.is_failing());
    }

    #[test]
    fn there_is_always_a_place() {
        assert_eq!(Breaker::new(0).places(), 1);
    }
}
