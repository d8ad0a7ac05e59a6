//! What a subscription is owed: (its ledger, new events, now) -> notifications.
//!
//! A coalescing subscription has at most one notification outstanding. The first event after a quiet time makes one
//! that is due at once (leading edge). Events that come while one is outstanding and not yet attempted widen it;
//! events that come later stay untold in the ledger until it is settled, and then become the next one, due when the
//! interval ends (trailing edge). So nothing stays uncovered, and no two sends are closer than the interval.
//!
//! Events are counted twice: by [`Seq`], which is global and has gaps, and by *ordinal*, the how-manieth event this
//! subscription matched, which has none. The ordinal says how many events a notification covers.

use std::time::Duration;

use crate::id::{NotificationId, Seq};
use crate::time::TimestampMs;

/// A place in a subscription's own stream of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Number in the journal.
    pub seq: Seq,
    /// The how-manieth event the subscription matched, from 1.
    pub ordinal: u64,
}

impl Mark {
    /// Before every event.
    pub const START: Self = Self { seq: Seq::ZERO, ordinal: 0 };
}

/// What the planner keeps of a coalescing subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// The newest event matched.
    pub newest: Mark,
    /// Everything up to here has been told.
    pub told: Mark,
    /// When the last attempt ended; the interval is counted from there, so that a receiver never sees two sends
    /// closer than the interval, however slow its answers are.
    pub last_sent_at: Option<TimestampMs>,
    /// The one outstanding notification.
    pub outstanding: Option<Owed>,
}

/// A notification that is owed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// Its id, the same over all its attempts.
    pub id: NotificationId,
    /// What it does not cover any more: the last event before its first.
    pub after: Mark,
    /// The last event it covers.
    pub last: Mark,
    /// When it is to be sent.
    pub due_at: TimestampMs,
    /// It has been attempted: its bytes are fixed, it covers no more than it did.
    pub sealed: bool,
}

impl Owed {
    /// How many events it covers.
    pub const fn count(&self) -> u64 {
        self.last.ordinal.saturating_sub(self.after.ordinal)
    }
}

/// How an attempt that told everything up to some mark ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It was accepted.
    Delivered,
    /// It is to be tried again, not before then.
    Again(TimestampMs),
    /// It is given up.
    Dead,
}

/// What the store has to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing but the ledger.
    None,
    /// A new notification.
    Create(Owed),
    /// The outstanding notification, which now covers more.
    Widen(Owed),
    /// The outstanding notification, to be tried again.
    Postpone(Owed),
}

impl Ledger {
    /// A subscription that has matched nothing yet.
    pub const NEW: Self = Self { newest: Mark::START, told: Mark::START, last_sent_at: None, outstanding: None };

    /// Takes in `count` new matching events of which the last is `newest`. `id` is used if a notification is made.
    pub fn note(
        &mut self,
        newest: Seq,
        count: u64,
        min_interval: Duration,
        now: TimestampMs,
        id: NotificationId,
    ) -> Change {
        self.newest = Mark { seq: newest, ordinal: self.newest.ordinal.saturating_add(count) };
        let due_at = self.due_at(min_interval, now);
        match &mut self.outstanding {
            Some(owed) if owed.sealed => Change::None,
            Some(owed) => {
                owed.last = self.newest;
                // It may have been planned by a clock that was set back since, or by a longer interval.
                owed.due_at = owed.due_at.min(due_at);
                Change::Widen(owed.clone())
            }
            None => self.owe(min_interval, now, id),
        }
    }

    /// Takes in that the outstanding notification was attempted, telling everything up to `last`.
    ///
    /// Events that were matched since then become the next notification, with `next_id`.
    pub fn settle(
        &mut self,
        last: Mark,
        outcome: Settled,
        min_interval: Duration,
        now: TimestampMs,
        next_id: NotificationId,
    ) -> Change {
        let Some(mut owed) = self.outstanding.take() else { return Change::None };
        self.last_sent_at = Some(now);
        match outcome {
            Settled::Again(at) => {
                let at = at.max(now.after(min_interval));
                owed = Owed { last, due_at: at, sealed: true, ..owed };
                self.outstanding = Some(owed.clone());
                Change::Postpone(owed)
            }
            // What a dead notification covered is still untold: the next one, whenever it comes, covers it too.
            Settled::Dead if self.newest == last.max(self.told) => Change::None,
            Settled::Dead => self.owe(min_interval, now, next_id),
            Settled::Delivered => {
                // One that is told again may be older than what has been told.
                self.told = self.told.max(last);
                if self.newest == self.told { Change::None } else { self.owe(min_interval, now, next_id) }
            }
        }
    }

    /// When something may be sent next.
    pub fn due_at(&self, min_interval: Duration, now: TimestampMs) -> TimestampMs {
        // A clock that was set back must not silence anybody for longer than one interval.
        self.last_sent_at.map_or(now, |sent| sent.after(min_interval).clamp(now, now.after(min_interval)))
    }

    /// Takes in that the interval is another: what waits for the end of a longer one need not.
    pub fn hasten(&mut self, min_interval: Duration, now: TimestampMs) -> Change {
        let due_at = self.due_at(min_interval, now);
        match &mut self.outstanding {
            Some(owed) if !owed.sealed && due_at < owed.due_at => {
                owed.due_at = due_at;
                Change::Widen(owed.clone())
            }
            _ => Change::None,
        }
    }

    /// Takes in that events are gathered from now on. Those before have notifications of their own, which are told as
    /// they are.
    pub fn gather(&mut self) {
        self.told = self.newest;
    }

    /// Takes in that events are not gathered any more. `covered` is the last event that anything pending or dead
    /// covers: what came after it, and was not told, becomes one last notification for many, with `id`.
    pub fn scatter(&mut self, covered: Mark, now: TimestampMs, id: NotificationId) -> Change {
        let after = self.told.max(covered);
        self.outstanding = None;
        if self.newest <= after {
            return Change::None;
        }
        Change::Create(Owed { id, after, last: self.newest, due_at: now, sealed: true })
    }

    fn owe(&mut self, min_interval: Duration, now: TimestampMs, id: NotificationId) -> Change {
        let due_at = self.due_at(min_interval, now);
        let owed = Owed { id, after: self.told, last: self.newest, due_at, sealed: false };
        self.outstanding = Some(owed.clone());
        Change::Create(owed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn id(number: u64) -> NotificationId {
        NotificationId::new(Uuid::from_u128(number.into()))
    }

    fn at(secs: i64) -> TimestampMs {
        TimestampMs::from_millis(secs * 1000)
    }

    #[test]
    fn the_first_event_is_told_at_once_and_the_rest_at_the_end_of_the_interval() {
        let mut ledger = Ledger::NEW;
        let Change::Create(first) = ledger.note(Seq::new(3), 1, INTERVAL, at(100), id(1)) else { panic!() };
        assert_eq!((first.due_at, first.count()), (at(100), 1));
        assert_eq!(ledger.settle(first.last, Settled::Delivered, INTERVAL, at(100), id(2)), Change::None);

        let Change::Create(trailing) = ledger.note(Seq::new(4), 1, INTERVAL, at(103), id(3)) else { panic!() };
        assert_eq!(trailing.due_at, at(110));
        let Change::Widen(trailing) = ledger.note(Seq::new(9), 2, INTERVAL, at(105), id(4)) else { panic!() };
        assert_eq!((trailing.id, trailing.due_at, trailing.count()), (id(3), at(110), 3));
    }

    #[test]
    fn what_comes_while_it_is_sent_is_told_next() {
        let mut ledger = Ledger::NEW;
        let Change::Create(first) = ledger.note(Seq::new(1), 1, INTERVAL, at(0), id(1)) else { panic!() };
        ledger.note(Seq::new(2), 1, INTERVAL, at(1), id(2));
        let Change::Create(next) = ledger.settle(first.last, Settled::Delivered, INTERVAL, at(2), id(3)) else {
            panic!()
        };
        assert_eq!((next.after.seq, next.last.seq, next.due_at), (Seq::new(1), Seq::new(2), at(12)));
    }

    #[test]
    fn what_died_is_covered_by_the_next() {
        let mut ledger = Ledger::NEW;
        let Change::Create(first) = ledger.note(Seq::new(1), 1, INTERVAL, at(0), id(1)) else { panic!() };
        assert_eq!(ledger.settle(first.last, Settled::Dead, INTERVAL, at(0), id(2)), Change::None);
        let Change::Create(next) = ledger.note(Seq::new(5), 1, INTERVAL, at(100), id(3)) else { panic!() };
        assert_eq!((next.after, next.count()), (Mark::START, 2));
    }

    #[test]
    fn what_is_told_again_makes_nothing_untold() {
        let told = Mark { seq: Seq::new(9), ordinal: 9 };
        let old = Mark { seq: Seq::new(2), ordinal: 2 };
        for outcome in [Settled::Delivered, Settled::Dead] {
            let again = Owed { id: id(1), after: Mark::START, last: old, due_at: at(0), sealed: true };
            let mut ledger = Ledger { newest: told, told, last_sent_at: None, outstanding: Some(again) };
            assert_eq!(ledger.settle(old, outcome, INTERVAL, at(1), id(2)), Change::None);
            assert_eq!(ledger.told, told);
        }
    }

    #[test]
    fn a_clock_set_back_silences_for_one_interval_at_most() {
        let mut ledger = Ledger { last_sent_at: Some(at(1_000_000)), ..Ledger::NEW };
        let Change::Create(owed) = ledger.note(Seq::new(1), 1, INTERVAL, at(5), id(1)) else { panic!() };
        assert_eq!(owed.due_at, at(15));
    }

    #[test]
    fn what_waits_is_due_no_later_than_if_it_were_made_now() {
        let hour = Duration::from_secs(3600);
        let waits = || {
            let mut ledger = Ledger { last_sent_at: Some(at(10_000)), ..Ledger::NEW };
            ledger.note(Seq::new(1), 1, hour, at(10_001), id(1));
            ledger
        };
        let due_at = |ledger: &Ledger| ledger.outstanding.as_ref().unwrap().due_at;
        assert_eq!(due_at(&waits()), at(13_600));

        let mut set_back = waits();
        let Change::Widen(owed) = set_back.note(Seq::new(2), 1, hour, at(5_000), id(2)) else { panic!() };
        assert_eq!((owed.due_at, due_at(&set_back)), (at(8_600), at(8_600)));

        let mut lowered = waits();
        let Change::Widen(owed) = lowered.note(Seq::new(2), 1, INTERVAL, at(10_002), id(2)) else { panic!() };
        assert_eq!(owed.due_at, at(10_010));

        let mut lowered = waits();
        let Change::Widen(owed) = lowered.hasten(INTERVAL, at(10_002)) else { panic!() };
        assert_eq!((owed.due_at, owed.last.seq), (at(10_010), Seq::new(1)));
        assert_eq!(lowered.hasten(hour, at(10_002)), Change::None, "a longer one holds from the next on");

        let mut sealed = waits();
        sealed.outstanding.as_mut().unwrap().sealed = true;
        assert_eq!(sealed.hasten(INTERVAL, at(10_002)), Change::None, "a retry waits for its own time");
        assert_eq!(sealed.note(Seq::new(2), 1, INTERVAL, at(10_002), id(2)), Change::None);
        assert_eq!(due_at(&sealed), at(13_600));
    }

    #[test]
    fn what_was_gathered_and_not_covered_is_told_before_each_event_is() {
        let mark = |number: u8| Mark { seq: Seq::new(number.into()), ordinal: number.into() };
        let ledger = Ledger { newest: mark(5), told: mark(2), ..Ledger::NEW };
        for (covered, after) in [(Mark::START, mark(2)), (mark(1), mark(2)), (mark(4), mark(4))] {
            let Change::Create(owed) = ledger.clone().scatter(covered, at(7), id(1)) else { panic!() };
            assert_eq!((owed.after, owed.last, owed.due_at, owed.sealed), (after, mark(5), at(7), true));
        }
        assert_eq!(ledger.clone().scatter(mark(5), at(7), id(1)), Change::None);
        let mut gathers = ledger;
        gathers.gather();
        let Change::Create(owed) = gathers.note(Seq::new(6), 1, INTERVAL, at(8), id(2)) else { panic!() };
        assert_eq!((owed.after, owed.last), (mark(5), mark(6)));
    }

    /// One thing that may happen to a subscription.
    #[derive(Debug, Clone)]
    enum Step {
        Events(u64),
        Wait(u16),
        /// The outstanding notification is taken for sending, if it is due.
        Send,
        /// The attempt under way ends.
        Answer(Answer),
    }

    #[derive(Debug, Clone, Copy)]
    enum Answer {
        Accepted,
        Failed { retry_secs: u8 },
        GivenUp,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (1..4_u64).prop_map(Step::Events),
            3 => (1..7_000_u16).prop_map(Step::Wait),
            4 => Just(Step::Send),
            4 => prop_oneof![
                4 => Just(Answer::Accepted),
                2 => (0..30_u8).prop_map(|retry_secs| Answer::Failed { retry_secs }),
                1 => Just(Answer::GivenUp),
            ].prop_map(Step::Answer),
        ]
    }

    /// A subscription, its receiver, and what a strict observer knows.
    struct World {
        ledger: Ledger,
        now: TimestampMs,
        seq: i64,
        ids: u64,
        /// The attempt under way: what was read of the notification when it was taken.
        sending: Option<Owed>,
        /// When the last send began.
        sent_at: Option<TimestampMs>,
        /// Events delivered, by seq.
        delivered_to: i64,
    }

    impl World {
        fn id(&mut self) -> NotificationId {
            self.ids += 1;
            id(self.ids)
        }

        fn take(&mut self, step: &Step) {
            match *step {
                Step::Events(count) => {
                    self.seq += i64::try_from(count).unwrap();
                    let (newest, id) = (Seq::new(self.seq), self.id());
                    let before = self.ledger.outstanding.clone();
                    match self.ledger.note(newest, count, INTERVAL, self.now, id) {
                        Change::Create(_) => assert_eq!(before, None, "at most one outstanding"),
                        Change::Widen(owed) => {
                            assert_eq!(before.map(|b| (b.id, b.due_at)), Some((owed.id, owed.due_at)));
                        }
                        Change::None => assert!(before.is_some_and(|owed| owed.sealed)),
                        Change::Postpone(_) => panic!("an event postpones nothing"),
                    }
                }
                Step::Wait(millis) => self.now = self.now.after(Duration::from_millis(millis.into())),
                Step::Send => {
                    if self.sending.is_some() {
                        return;
                    }
                    let Some(owed) = self.ledger.outstanding.clone().filter(|owed| owed.due_at <= self.now) else {
                        return;
                    };
                    if let Some(sent_at) = self.sent_at {
                        assert!(self.now.since(sent_at) >= INTERVAL, "two sends closer than the interval");
                    }
                    assert!(owed.after.seq.get() <= self.delivered_to, "it starts after an untold event");
                    self.sent_at = Some(self.now);
                    self.sending = Some(owed);
                }
                Step::Answer(answer) => {
                    let Some(owed) = self.sending.take() else { return };
                    let settled = match answer {
                        Answer::Accepted => Settled::Delivered,
                        Answer::Failed { retry_secs } => {
                            Settled::Again(self.now.after(Duration::from_secs(retry_secs.into())))
                        }
                        Answer::GivenUp => Settled::Dead,
                    };
                    if settled == Settled::Delivered {
                        self.delivered_to = self.delivered_to.max(owed.last.seq.get());
                    }
                    let id = self.id();
                    self.ledger.settle(owed.last, settled, INTERVAL, self.now, id);
                }
            }
            let untold = self.ledger.newest.seq.get() - self.delivered_to;
            let covered = self.ledger.outstanding.as_ref().map_or(0, Owed::count);
            if let Some(owed) = &self.ledger.outstanding {
                assert!(owed.after.seq.get() <= self.delivered_to);
                if !owed.sealed {
                    assert_eq!(
                        i64::try_from(covered).unwrap(),
                        untold,
                        "an open notification covers all that is untold"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_stays_uncovered_and_no_send_comes_early(steps in prop::collection::vec(step(), 0..120)) {
            let mut world = World {
                ledger: Ledger::NEW, now: at(1000), seq: 0, ids: 0, sending: None, sent_at: None, delivered_to: 0,
            };
            for step in &steps {
                world.take(step);
            }
            // One more event, then a receiver that accepts: within two rounds everything has been told,
            // also what was given up before.
            world.take(&Step::Events(1));
            for _ in 0..3 {
                world.take(&Step::Answer(Answer::Accepted));
                world.now = world.now.after(Duration::from_secs(60));
                world.take(&Step::Send);
            }
            world.take(&Step::Answer(Answer::Accepted));
            prop_assert_eq!(world.delivered_to, world.seq);
            prop_assert_eq!(world.ledger.outstanding, None);
            prop_assert_eq!(world.ledger.told, world.ledger.newest);
        }
    }
}
