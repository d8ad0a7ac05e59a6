//! The places of all endpoints together: how many attempts may be under way, and who may begin the next.
//!
//! An endpoint that hangs keeps every place it has until the deadline. So the last quarter of all places is a reserve,
//! of which an endpoint has one at a time, however much it is owed: those that hang cannot take all there is, and one
//! that has nothing under way begins at once.

use tokio::sync::{Mutex, Notify, Semaphore, SemaphorePermit};

/// One place in so many is kept in reserve.
const RESERVE_ONE_IN: usize = 4;

/// The places that there are.
#[derive(Debug)]
pub(super) struct Places {
    free: Semaphore,
    reserve: usize,
    /// Who may look for a place beyond the reserve: in the order of asking.
    turn: Mutex<()>,
    given_back: Notify,
}

/// The right of one endpoint to one place of the reserve.
#[derive(Debug)]
pub(super) struct Lead(Semaphore);

impl Default for Lead {
    fn default() -> Self {
        Self(Semaphore::new(1))
    }
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    free: Option<SemaphorePermit<'a>>,
    _lead: Option<SemaphorePermit<'a>>,
    given_back: &'a Notify,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // Whoever is told must find it.
        drop(self.free.take());
        self.given_back.notify_one();
    }
}

impl Places {
    /// So many, and at least one.
    pub(super) fn new(count: usize) -> Self {
        let count = count.clamp(1, Semaphore::MAX_PERMITS);
        let reserve = count / RESERVE_ONE_IN;
        Self { free: Semaphore::new(count), reserve, turn: Mutex::default(), given_back: Notify::new() }
    }

    /// The next place for an endpoint: one beyond the reserve, or the one of the reserve that it has a right to.
    pub(super) async fn next<'a>(&'a self, lead: &'a Lead) -> Place<'a> {
        tokio::select! {
            biased;
            place = self.beyond_reserve() => place,
            // Neither semaphore is ever closed.
            lead = lead.0.acquire() => self.place(self.free.acquire().await.ok(), lead.ok()),
        }
    }

    async fn beyond_reserve(&self) -> Place<'_> {
        let _turn = self.turn.lock().await;
        loop {
            if self.free.available_permits() > self.reserve
                && let Ok(free) = self.free.try_acquire()
            {
                return self.place(Some(free), None);
            }
            self.given_back.notified().await;
        }
    }

    fn place<'a>(&'a self, free: Option<SemaphorePermit<'a>>, lead: Option<SemaphorePermit<'a>>) -> Place<'a> {
        Place { free, _lead: lead, given_back: &self.given_back }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn of_the_reserve_an_endpoint_has_one_at_a_time() {
        let (places, greedy, other) = (Places::new(8), Lead::default(), Lead::default());
        let beyond: Vec<_> = std::iter::from_fn(|| places.next(&greedy).now_or_never()).collect();
        assert_eq!(beyond.len(), 6 + 1);
        let place = places.next(&other).now_or_never();
        assert!(place.is_some() && places.next(&Lead::default()).now_or_never().is_none());
        drop(place);
        assert!(places.next(&greedy).now_or_never().is_none());
        assert!(places.next(&other).now_or_never().is_some());
    }

    #[tokio::test]
    async fn whoever_waits_is_given_what_comes_back() {
        let (places, lead) = (Places::new(4), Lead::default());
        let mut taken: Vec<_> = std::iter::from_fn(|| places.next(&lead).now_or_never()).collect();
        let last = taken.pop();
        let (last, ()) = tokio::join!(places.next(&lead), async { drop(last) });
        // It has the one of the reserve; the next is one beyond it.
        let (next, ()) = tokio::join!(places.next(&lead), async { taken.truncate(1) });
        assert!(places.next(&lead).now_or_never().is_none());
        drop((last, next, taken));
        assert_eq!(places.free.available_permits(), 4);
    }

    #[test]
    fn there_is_always_a_place() {
        assert!(Places::new(0).next(&Lead::default()).now_or_never().is_some());
    }
}
