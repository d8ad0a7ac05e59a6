//! Whatever happens meanwhile, claiming hands out all that is due, and nothing that somebody holds.

use std::collections::HashMap;

use super::*;

/// What is known of a notification that was claimed once.
struct Known {
    /// `None` when it is pending no more.
    due: Option<i64>,
    /// Who holds it, until when.
    held: Option<(Claimed, i64)>,
    dead: bool,
}

/// A subscription as it has to stand.
struct Model {
    bench: Bench,
    subscription: SubscriptionId,
    now: i64,
    arrived: u64,
    /// When those are due that were never claimed.
    unclaimed: Vec<i64>,
    known: HashMap<NotificationId, Known>,
    paused: bool,
    dice: fastrand::Rng,
}

impl Model {
    async fn new(seed: u64) -> Self {
        let bench = Bench::new().await;
        let subscription = bench.per_event().await;
        let (unclaimed, known) = (Vec::new(), HashMap::new());
        let dice = fastrand::Rng::with_seed(seed);
        Self { bench, subscription, now: 1000, arrived: 0, unclaimed, known, paused: false, dice }
    }

    fn is_free(&self, one: &Known) -> bool {
        one.due.is_some_and(|due| due <= self.now) && one.held.as_ref().is_none_or(|(_, until)| *until <= self.now)
    }

    fn one_held(&mut self) -> Option<NotificationId> {
        let mut held: Vec<_> = self.known.iter().filter(|(_, one)| one.held.is_some()).map(|(id, _)| *id).collect();
        held.sort_unstable();
        self.dice.choice(held)
    }

    async fn arrive(&mut self) {
        let arrivals: Vec<_> = (0..self.dice.usize(1..4))
            .map(|_| {
                self.arrived += 1;
                self.bench.seen(&format!("/{}", self.arrived), 1)
            })
            .collect();
        self.unclaimed.extend(arrivals.iter().map(|_| self.now));
        self.bench.record(self.now, arrivals).await;
    }

    async fn claim(&mut self, limit: usize) {
        let due = self.unclaimed.iter().filter(|due| **due <= self.now).count()
            + self.known.values().filter(|one| self.is_free(one)).count();
        let limit32 = u32::try_from(limit).unwrap();
        let claimed = self.bench.store.claim(self.subscription, at(self.now), LEASE, limit32).await.unwrap();
        assert_eq!(claimed.len(), if self.paused { 0 } else { due.min(limit) });
        let until = self.now + i64::try_from(LEASE.as_secs()).unwrap();
        for one in claimed {
            match self.known.get(&one.notification) {
                Some(known) => assert!(self.is_free(known), "it is held, or not due"),
                None => {
                    let first = self.unclaimed.iter().position(|due| at(*due) == one.created_at).unwrap();
                    self.unclaimed.remove(first);
                }
            }
            let due = self.known.get(&one.notification).map_or(Some(one.created_at.as_millis() / 1000), |one| one.due);
            self.known.insert(one.notification, Known { due, held: Some((one, until)), dead: false });
        }
    }

    async fn settle(&mut self) {
        let Some(id) = self.one_held() else { return };
        let step = match self.dice.u8(..4) {
            0 => Step::Again(at(self.now + self.dice.i64(0..4))),
            1 => Step::Dead,
            _ => Step::Delivered,
        };
        let (claimed, _) = self.known.get_mut(&id).unwrap().held.take().unwrap();
        assert!(self.bench.settle(self.now, &claimed, step).await);
        let known = self.known.get_mut(&id).unwrap();
        known.dead = step == Step::Dead;
        known.due = match step {
            Step::Again(due) => Some(due.as_millis() / 1000),
            _ => None,
        };
    }

    async fn give_back(&mut self) {
        let Some(id) = self.one_held() else { return };
        let (claimed, _) = self.known.get_mut(&id).unwrap().held.take().unwrap();
        self.bench.store.release(vec![claimed]).await.unwrap();
    }

    async fn replay(&mut self) {
        self.bench.store.replay_dead(self.subscription, at(self.now)).await.unwrap();
        for one in self.known.values_mut().filter(|one| one.dead) {
            (one.dead, one.due) = (false, Some(self.now));
        }
    }

    async fn pause_or_resume(&mut self) {
        self.paused = !self.paused;
        let status = if self.paused { SubscriptionStatus::Paused } else { SubscriptionStatus::Active };
        self.bench.store.set_subscription_status(self.subscription, status, None).await.unwrap();
    }

    async fn step(&mut self) {
        match self.dice.u8(..20) {
            0..6 => self.arrive().await,
            6..11 => {
                let limit = self.dice.usize(1..6);
                self.claim(limit).await;
            }
            11..15 => self.settle().await,
            15 => self.give_back().await,
            16 => self.replay().await,
            17 => self.pause_or_resume().await,
            // A clock may be set back.
            18 => self.now += self.dice.i64(-2..4),
            _ => drop(self.bench.store.due().await.unwrap()),
        }
        // Leases that run out are forgotten by whoever held them.
        if self.dice.u8(..60) == 0 {
            self.now += 2 * i64::try_from(LEASE.as_secs()).unwrap();
            self.known.values_mut().for_each(|one| one.held = None);
        }
    }
}

#[tokio::test]
async fn claiming_hands_out_all_that_is_due_and_nothing_twice() {
    for seed in 0..24 {
        let mut model = Model::new(seed).await;
        for _ in 0..120 {
            model.step().await;
        }
        if model.paused {
            model.pause_or_resume().await;
        }
        model.now += 2 * i64::try_from(LEASE.as_secs()).unwrap();
        model.known.values_mut().for_each(|one| one.held = None);
        model.claim(1000).await;
    }
}
