//! What one endpoint is about to be sent, and how many workers are sending it.
//!
//! Notifications are claimed ahead, so that no place stands idle while a commit is synced, but no further ahead than
//! the endpoint takes in about a second: what waits here is held by this process, and nobody else can send it. Nor is
//! more held for one endpoint than is left for all others, and next to nothing for one that is down.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use filebell_core::time::TimestampMs;

use super::breaker::Breaker;
use super::places::Lead;
use crate::store::Claimed;

/// As much is claimed ahead as is sent in this time.
const AHEAD: Duration = Duration::from_secs(1);
/// But no more than this.
const AHEAD_JOBS_MAX: usize = 512;

/// A claimed notification that waits to be sent.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) claimed: Claimed,
    /// An attempt that would begin later could outlive the lease.
    pub(super) start_before: TimestampMs,
}

/// What a worker is told when it asks for more.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) job: Job,
    /// The lane runs low and the store has more.
    pub(super) refill: bool,
}

/// What follows from an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Noted {
    /// How long the worker is to rest.
    pub(super) rest: Duration,
    /// How many workers are to be started; they are counted already.
    pub(super) start: usize,
    /// The endpoint failed and had not failed before.
    pub(super) first_failure: bool,
}

/// The lane of one endpoint.
#[derive(Debug)]
pub(super) struct Lane {
    state: Mutex<State>,
    lead: Lead,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Job>,
    /// Places in `waiting` for what is just being claimed.
    reserved: usize,
    workers: usize,
    breaker: Breaker,
    /// About how long an attempt occupies a place, rest included; `None` before the first.
    pace: Option<Duration>,
    /// The store has more for this lane than was claimed.
    more: bool,
    /// No more than this may wait, but for one each place: as of the last claim.
    share: usize,
    /// The endpoint asked to be left alone until then.
    alone_until: Option<TimestampMs>,
}

impl Lane {
    /// A lane with at most `places_max` workers.
    pub(super) fn new(places_max: usize) -> Self {
        let breaker = Breaker::new(places_max);
        let (waiting, share) = (VecDeque::new(), usize::MAX);
        let state =
            State { waiting, reserved: 0, workers: 0, breaker, pace: None, more: false, share, alone_until: None };
        Self { state: Mutex::new(state), lead: Lead::default() }
    }

    /// The endpoint's right to a place of the reserve.
    pub(super) const fn lead(&self) -> &Lead {
        &self.lead
    }

    /// Reserves room for notifications that are to be claimed, `limit` at most; answers for how many. No more wait than
    /// `share`; but one for each place may, whatever others hold. A lane without room asks for more when it runs low.
    pub(super) fn reserve(&self, limit: usize, share: usize) -> usize {
        let mut state = self.lock();
        state.share = share;
        let room = state.ahead().saturating_sub(state.waiting.len().saturating_add(state.reserved));
        state.more |= room == 0;
        let reserved = room.min(limit);
        state.reserved = state.reserved.saturating_add(reserved);
        reserved
    }

    /// Takes in the notifications that were claimed into `reserved` places; `more` says that the store may have more.
    /// Answers how many workers are to be started; they are counted already.
    pub(super) fn put(&self, reserved: usize, jobs: impl IntoIterator<Item = Job>, more: bool) -> usize {
        let mut state = self.lock();
        state.reserved = state.reserved.saturating_sub(reserved);
        state.waiting.extend(jobs);
        state.more |= more;
        state.hire()
    }

    /// The next job. `None` sends the worker home: there is nothing to do, there are more workers than places, or the
    /// endpoint is to be left alone at `now`.
    pub(super) fn take(&self, now: TimestampMs) -> Option<Taken> {
        let mut state = self.lock();
        let home = state.workers > state.breaker.places() || state.alone_until(now).is_some();
        let job = if home { None } else { state.waiting.pop_front() };
        let Some(job) = job else {
            state.workers = state.workers.saturating_sub(1);
            return None;
        };
        let refill = state.more && state.waiting.len() <= state.ahead() / 2;
        if refill {
            state.more = false;
        }
        Some(Taken { job, refill })
    }

    /// Takes in that the endpoint asks to be left alone; what is under way goes on.
    pub(super) fn leave_alone(&self, until: TimestampMs) {
        let mut state = self.lock();
        state.alone_until = state.alone_until.max(Some(until));
    }

    /// Until when the endpoint is to be left alone, if it is at `now`.
    pub(super) fn alone_until(&self, now: TimestampMs) -> Option<TimestampMs> {
        self.lock().alone_until(now)
    }

    /// Takes in how an attempt ended and how long it took. Who accepts need not be left alone any more.
    pub(super) fn note(&self, accepted: bool, took: Duration) -> Noted {
        let mut state = self.lock();
        let was_failing = state.breaker.is_failing();
        let rest = state.breaker.note(accepted);
        if accepted {
            state.alone_until = None;
        }
        let occupied = took.saturating_add(rest);
        state.pace = Some(state.pace.map_or(occupied, |pace| (pace * 7).saturating_add(occupied) / 8));
        Noted { rest, start: state.hire(), first_failure: !accepted && !was_failing }
    }

    /// A worker goes home without asking for more.
    pub(super) fn leave(&self) {
        let mut state = self.lock();
        state.workers = state.workers.saturating_sub(1);
    }

    /// Takes what waits and is to be given back, so that others have its room: of an endpoint that is down all but one
    /// for its place, of one that is to be left alone all.
    pub(super) fn surplus(&self, now: TimestampMs) -> VecDeque<Job> {
        let mut state = self.lock();
        let kept = match state.alone_until(now) {
            Some(_) => 0,
            None if state.breaker.is_down() => state.breaker.places(),
            None => usize::MAX,
        };
        let kept = kept.min(state.waiting.len());
        let surplus = state.waiting.split_off(kept);
        state.more |= !surplus.is_empty();
        surplus
    }

    /// Takes all that waits.
    pub(super) fn empty(&self) -> VecDeque<Job> {
        std::mem::take(&mut self.lock().waiting)
    }

    /// Nothing waits and nobody works.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.waiting.is_empty() && state.reserved == 0 && state.workers == 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn alone_until(&self, now: TimestampMs) -> Option<TimestampMs> {
        self.alone_until.filter(|until| *until > now)
    }

    /// How many notifications may wait.
    fn ahead(&self) -> usize {
        let places = self.breaker.places();
        if self.breaker.is_down() {
            return places;
        }
        let each = self.pace.map_or(1, |pace| AHEAD.as_micros() / pace.as_micros().max(1));
        let ahead = places.saturating_mul(usize::try_from(each).unwrap_or(usize::MAX));
        ahead.clamp(places, AHEAD_JOBS_MAX.min(self.share).max(places))
    }

    /// Counts the workers that are missing, and answers how many that are.
    fn hire(&mut self) -> usize {
        let missing = self.breaker.places().saturating_sub(self.workers).min(self.waiting.len());
        self.workers = self.workers.saturating_add(missing);
        missing
    }
}

#[cfg(test)]
mod tests {
    use filebell_core::id::{NotificationId, SubscriptionId};
    use filebell_core::plan::Mark;
    use filebell_core::time::TimestampSecs;

    use super::*;
    use crate::store::LeaseToken;

    const NOW: TimestampMs = TimestampMs::ZERO;

    fn jobs(count: usize) -> impl Iterator<Item = Job> {
        let claimed = Claimed {
            notification: NotificationId::new(uuid::Uuid::nil()),
            subscription: SubscriptionId::new(1),
            after: Mark::START,
            last: Mark::START,
            attempts: 0,
            earlier_attempts: 0,
            created_at: TimestampMs::ZERO,
            oldest_at: TimestampMs::ZERO,
            body: None,
            since: TimestampSecs::from_secs(0),
            rung: None,
            token: LeaseToken(0),
        };
        (0..count).map(move |_| Job { claimed: claimed.clone(), start_before: TimestampMs::ZERO })
    }

    #[test]
    fn no_more_workers_than_places_and_than_jobs() {
        let lane = Lane::new(16);
        assert_eq!(lane.put(0, jobs(2), false), 2);
        assert_eq!(lane.put(0, jobs(5), false), 2);
        assert_eq!(lane.put(0, jobs(5), false), 0);
    }

    #[test]
    fn workers_go_home_when_nothing_waits() {
        let lane = Lane::new(4);
        lane.put(0, jobs(1), false);
        assert!(lane.take(NOW).is_some());
        assert!(!lane.is_idle());
        assert!(lane.take(NOW).is_none());
        assert!(lane.is_idle());
    }

    #[test]
    fn failures_send_workers_home_and_acceptances_call_them_back() {
        let lane = Lane::new(8);
        lane.put(0, jobs(9), false);
        assert_eq!(
            lane.note(false, Duration::ZERO),
            Noted { rest: Duration::from_millis(5), start: 0, first_failure: true }
        );
        assert!(!lane.note(false, Duration::ZERO).first_failure);
        assert!(lane.take(NOW).is_none(), "there is one place for two workers");
        assert!(lane.take(NOW).is_some());
        assert_eq!(lane.note(true, Duration::ZERO).start, 1);
    }

    #[test]
    fn a_fast_endpoint_is_claimed_further_ahead_than_a_slow_one() {
        let fast = Lane::new(4);
        assert_eq!(fast.reserve(usize::MAX, usize::MAX), 1);
        assert_eq!(fast.reserve(usize::MAX, usize::MAX), 0, "the room is reserved");
        fast.put(1, [], false);
        for _ in 0..50 {
            fast.note(true, Duration::from_millis(1));
        }
        assert_eq!(fast.reserve(usize::MAX, usize::MAX), AHEAD_JOBS_MAX);
        let slow = Lane::new(4);
        for _ in 0..50 {
            slow.note(true, Duration::from_secs(15));
        }
        assert_eq!(slow.reserve(usize::MAX, usize::MAX), 4);
    }

    #[test]
    fn an_endpoint_that_is_left_alone_is_sent_nothing_and_nothing_waits_for_it() {
        let (now, later) = (TimestampMs::from_millis(1000), TimestampMs::from_millis(2000));
        let lane = fast();
        lane.put(0, jobs(3), false);
        assert!(lane.take(now).is_some());
        lane.leave_alone(later);
        lane.leave_alone(now);
        assert_eq!(lane.alone_until(now), Some(later));
        assert!(lane.take(now).is_none() && lane.take(now).is_none());
        assert_eq!(lane.surplus(now).len(), 2);
        lane.leave();
        assert!(lane.is_idle(), "no worker stands by");
        lane.put(0, jobs(1), false);
        assert!(lane.take(now).is_none());
        assert_eq!(lane.surplus(now).len(), 1);
        lane.put(0, jobs(1), false);
        assert!(lane.take(later).is_some());
        lane.note(true, Duration::ZERO);
        assert_eq!(lane.alone_until(now), None, "it takes again what it is sent");
    }

    /// A lane whose endpoint answers at once.
    fn fast() -> Lane {
        let lane = Lane::new(4);
        for _ in 0..50 {
            lane.note(true, Duration::from_millis(1));
        }
        lane
    }

    #[test]
    fn many_fast_endpoints_leave_room_for_one_more() {
        const ROOM: usize = 4096;
        for (count, first) in [(1, AHEAD_JOBS_MAX), (6, AHEAD_JOBS_MAX), (40, 64), (4000, 4)] {
            let lanes: Vec<Lane> = std::iter::repeat_with(fast).take(count).collect();
            let mut held: usize = 0;
            let mut claim = |lane: &Lane| {
                let reserved = lane.reserve(64, ROOM.saturating_sub(held) / 2);
                lane.put(reserved, jobs(reserved), true);
                held += reserved;
                reserved
            };
            while lanes.iter().map(&mut claim).sum::<usize>() > 0 {}
            assert!(claim(&fast()) >= 4, "{count}");
            assert!(lanes[0].lock().waiting.len() >= first, "{count}");
            assert!(held <= ROOM + (count + 1) * 4, "{held} are held by {count}");
        }
    }

    #[test]
    fn whatever_others_hold_one_may_wait_for_each_place() {
        let lane = fast();
        assert_eq!(lane.reserve(64, 0), 4);
        assert_eq!(lane.reserve(64, 0), 0);
    }

    #[test]
    fn a_lane_with_a_small_share_runs_low_when_half_of_that_is_sent() {
        let lane = fast();
        let reserved = lane.reserve(64, 20);
        lane.put(reserved, jobs(reserved), true);
        let refills: Vec<bool> = (0..20).map(|_| lane.take(NOW).unwrap().refill).collect();
        assert_eq!(refills.iter().position(|refill| *refill), Some(9));
    }

    #[test]
    fn an_endpoint_that_is_down_gives_back_all_but_one() {
        let lane = fast();
        lane.put(0, jobs(100), false);
        for left in [3, 2] {
            lane.note(false, Duration::from_millis(1));
            assert_eq!(lane.surplus(NOW).len(), 0, "{left} places");
        }
        lane.note(false, Duration::from_millis(1));
        assert_eq!(lane.surplus(NOW).len(), 99);
        assert_eq!((lane.surplus(NOW).len(), lane.reserve(64, usize::MAX)), (0, 0));
        lane.note(true, Duration::from_millis(1));
        assert!(lane.reserve(64, usize::MAX) > 1);
    }

    #[test]
    fn a_lane_that_runs_low_asks_once_for_more() {
        let lane = Lane::new(16);
        lane.put(0, jobs(4), true);
        let refills: Vec<bool> = (0..4).map(|_| lane.take(NOW).unwrap().refill).collect();
        assert_eq!(refills, [false, true, false, false]);
    }
}
