//! Nothing that is owed is forgotten or told twice, whatever happens at the same time.

use std::collections::HashMap;

use super::*;

impl Bench {
    /// Writes a subscription again, with this interval.
    async fn subscribe_at(&self, secs: i64, name: &str, min_interval: Duration) {
        let known = self.store.subscriptions().await.unwrap().into_iter().find(|one| one.name == name).unwrap();
        let new = NewSubscription {
            name: known.name,
            account: known.account,
            protocol: NewProtocol::Standard,
            url: known.endpoint.to_string(),
            key: known.key,
            min_interval,
            filter: FilterText::default(),
            managed: false,
        };
        self.store.upsert_subscription(new, at(secs), ids()).await.unwrap();
    }

    /// Lets another process hold the write lock of the database until the guard is dropped.
    fn locked(&self) -> rusqlite::Connection {
        let other = rusqlite::Connection::open(self.dir.path().join("filebell.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        other
    }
}

#[tokio::test]
async fn what_arrives_in_the_commit_that_settles_the_one_before_is_told_after_the_interval() {
    for (first, ring) in [(Step::Delivered, None), (Step::Delivered, Some(10)), (Step::Told, Some(10))] {
        let bench = Bench::new().await;
        let subscription = bench.coalescing().await;
        bench.arrive(100, "/a").await;
        let told = bench.claim(100, subscription).await.remove(0);
        // Both wait behind what stands alone, and so share a transaction.
        let locked = bench.locked();
        let settlement = Bench::settlement(101, &told, first, ring);
        let (quota, settled, recorded, ()) = tokio::join!(
            biased;
            bench.store.set_quota(bench.account, None),
            bench.store.settle([settlement].into(), at(101), ids()),
            async { bench.store.record(vec![bench.seen("/b", 1)], at(101), ids()).await },
            async { drop(locked) }
        );
        assert!(quota.is_ok() && recorded.is_ok());
        assert_eq!(settled.unwrap(), [true]);
        assert_eq!(bench.due(subscription).await, Some(at(111)), "{first:?}, {ring:?}");
        let next = bench.claim(111, subscription).await.remove(0);
        assert_eq!((next.rung, next.after, next.last.ordinal), (None, told.last, 2));
    }
}

/// A subscription whose interval changes again and again, and what its receiver was told.
struct Fickle {
    bench: Bench,
    subscription: SubscriptionId,
    now: i64,
    held: Vec<Claimed>,
    /// By how many accepted notifications the events with these ordinals were told.
    told: HashMap<u64, u32>,
    dice: fastrand::Rng,
}

impl Fickle {
    async fn new(seed: u64) -> Self {
        let (bench, dice) = (Bench::new().await, fastrand::Rng::with_seed(seed));
        let interval = if seed.is_multiple_of(2) { Duration::ZERO } else { INTERVAL };
        let subscription = bench.subscribe("fickle", NewProtocol::Standard, interval).await;
        Self { bench, subscription, now: 1000, held: Vec::new(), told: HashMap::new(), dice }
    }

    async fn arrive(&mut self) {
        let names = (0..self.dice.u8(1..4)).map(|_| format!("/{}", self.dice.u64(..)));
        let arrivals = names.map(|name| self.bench.seen(&name, 1)).collect();
        self.bench.record(self.now, arrivals).await;
    }

    async fn claim(&mut self) {
        let for_ever = Duration::from_secs(1_000_000);
        self.held.extend(self.bench.store.claim(self.subscription, at(self.now), for_ever, 100).await.unwrap());
    }

    async fn settle(&mut self, step: Step) {
        if self.held.is_empty() {
            return;
        }
        let claimed = self.held.swap_remove(self.dice.usize(..self.held.len()));
        let row = self.bench.store.notification(claimed.notification).await.unwrap().unwrap();
        assert_eq!((row.after, row.last), (claimed.after, claimed.last), "what is being sent covers no more");
        assert!(self.bench.settle(self.now, &claimed, step).await);
        if step == Step::Delivered {
            (claimed.after.ordinal + 1..=claimed.last.ordinal).for_each(|one| *self.told.entry(one).or_default() += 1);
        }
    }

    async fn step(&mut self) {
        match self.dice.u8(..16) {
            0..4 => self.arrive().await,
            4..7 => self.claim().await,
            7..10 => self.settle(Step::Delivered).await,
            10 => {
                let later = at(self.now + self.dice.i64(0..30));
                self.settle(Step::Again(later)).await;
            }
            11 => self.settle(Step::Dead).await,
            12 | 13 => self.now += self.dice.i64(0..15),
            _ => {
                let interval = self.dice.choice([Duration::ZERO, INTERVAL, INTERVAL * 3]).unwrap();
                self.bench.subscribe_at(self.now, "fickle", interval).await;
            }
        }
    }

    /// The receiver accepts all that it is told from now on.
    async fn end(&mut self) {
        self.arrive().await;
        for _ in 0..10 {
            self.claim().await;
            while !self.held.is_empty() {
                self.settle(Step::Delivered).await;
            }
            self.now += 100;
        }
    }
}

#[tokio::test]
async fn whatever_the_interval_becomes_each_event_is_told_once_or_stands_as_dead() {
    use NotificationState::{Dead, Delivered, Superseded};
    for seed in 0..40 {
        let mut fickle = Fickle::new(seed).await;
        for _ in 0..40 {
            fickle.step().await;
        }
        fickle.end().await;
        let events = fickle.bench.events().await.len() as u64;
        let all = fickle.bench.store.notifications(fickle.subscription, u32::MAX).await.unwrap();
        for ordinal in 1..=events {
            let covers = |one: &&Notification| one.after.ordinal < ordinal && ordinal <= one.last.ordinal;
            let covering = all.iter().filter(covers).filter(|one| one.state != Superseded);
            let states: Vec<_> = covering.map(|one| one.state).collect();
            let told = fickle.told.get(&ordinal).copied().unwrap_or(0);
            let expected = if told == 0 { Dead } else { Delivered };
            assert_eq!((told <= 1, states), (true, vec![expected]), "seed {seed}: event {ordinal} of {events}");
        }
        let standing = fickle.bench.store.standings().await.unwrap().remove(0);
        let count = |state| all.iter().filter(|one| one.state == state).count() as u64;
        assert_eq!((standing.pending, standing.delivered), (0, count(Delivered)), "seed {seed}");
        assert_eq!((standing.dead, standing.superseded), (count(Dead), count(Superseded)), "seed {seed}");
    }
}

#[tokio::test]
async fn what_waited_for_a_retry_is_told_when_each_event_is_told_by_itself() {
    let bench = Bench::new().await;
    let subscription = bench.subscribe("fickle", NewProtocol::Standard, INTERVAL).await;
    bench.arrive(100, "/a").await;
    let first = bench.claim(100, subscription).await.remove(0);
    bench.settle(100, &first, Step::Again(at(200))).await;
    bench.arrive(101, "/b").await;
    bench.arrive(102, "/c").await;
    bench.subscribe_at(103, "fickle", Duration::ZERO).await;
    bench.arrive(104, "/d").await;
    let ranges =
        |claimed: Vec<Claimed>| claimed.iter().map(|one| (one.after.ordinal, one.last.ordinal)).collect::<Vec<_>>();
    assert_eq!(ranges(bench.claim(104, subscription).await), [(1, 3), (3, 4)]);
    assert_eq!(ranges(bench.claim(120, subscription).await), []);
    assert_eq!(bench.due(subscription).await, Some(at(164)), "the leases");
}

#[tokio::test]
async fn what_had_a_notification_of_its_own_is_not_told_again_when_events_are_gathered() {
    let bench = Bench::new().await;
    let subscription = bench.per_event().await;
    bench.record(100, vec![bench.seen("/a", 1), bench.seen("/b", 1), bench.seen("/c", 1)]).await;
    let claimed = bench.claim(100, subscription).await;
    bench.settle(100, &claimed[0], Step::Delivered).await;
    bench.settle(100, &claimed[1], Step::Dead).await;
    bench.subscribe_at(101, "each", INTERVAL).await;
    bench.arrive(102, "/d").await;
    bench.settle(103, &claimed[2], Step::Delivered).await;
    let next = bench.claim(113, subscription).await.remove(0);
    assert_eq!((next.after.ordinal, next.last.ordinal), (3, 4));
    bench.settle(113, &next, Step::Delivered).await;
    assert_eq!(bench.state(claimed[1].notification).await, NotificationState::Dead, "nothing made up for it");
}

#[tokio::test]
async fn a_shorter_interval_holds_for_what_waits() {
    let bench = Bench::new().await;
    let subscription = bench.subscribe("fickle", NewProtocol::Standard, Duration::from_secs(86_400)).await;
    bench.arrive(100, "/a").await;
    let first = bench.claim(100, subscription).await.remove(0);
    bench.settle(100, &first, Step::Delivered).await;
    bench.arrive(101, "/b").await;
    bench.store.just_due();
    bench.subscribe_at(102, "fickle", INTERVAL).await;
    assert_eq!(bench.store.just_due(), [(subscription, at(110))]);
    assert_eq!(bench.due(subscription).await, Some(at(110)));
    assert_eq!(bench.claim(110, subscription).await.len(), 1);
}

#[tokio::test]
async fn the_interval_holds_also_for_what_is_replayed() {
    let bench = Bench::new().await;
    let subscription = bench.coalescing().await;
    bench.arrive(100, "/a").await;
    let first = bench.claim(100, subscription).await.remove(0);
    bench.settle(100, &first, Step::Dead).await;
    bench.store.just_due();
    assert_eq!(bench.store.replay_dead(subscription, at(103)).await.unwrap(), 1);
    assert_eq!(bench.store.just_due(), [(subscription, at(110))]);
    assert_eq!(bench.claim(109, subscription).await.len(), 0);
    assert_eq!(bench.claim(110, subscription).await.len(), 1);
    assert_eq!(bench.store.replay_dead(subscription, at(120)).await.unwrap(), 0, "one is outstanding");
}

#[tokio::test]
async fn a_command_beside_a_server_splits_nothing() {
    let bench = Bench::new().await;
    let subscription = bench.coalescing().await;
    bench.arrive(100, "/a").await;
    let first = bench.claim(100, subscription).await.remove(0);
    bench.settle(100, &first, Step::Delivered).await;
    bench.arrive(101, "/b").await;
    let command = Store::open_sqlite(bench.dir.path(), bench.key.clone()).await.unwrap();
    bench.arrive(102, "/c").await;
    drop(command);
    let trailing = bench.claim(110, subscription).await.remove(0);
    assert_eq!((trailing.after.ordinal, trailing.last.ordinal), (1, 3));
}

#[tokio::test]
async fn what_waits_to_be_settled_is_not_claimed_again_however_long_it_waits() {
    let bench = Bench::new().await;
    let subscription = bench.per_event().await;
    bench.record(100, vec![bench.seen("/a", 1), bench.seen("/b", 1)]).await;
    let claimed = bench.claim(100, subscription).await;
    bench.store.keep(&claimed[0]);
    assert_eq!(bench.due(subscription).await, Some(at(160)));
    let lapsed = bench.claim(10_000, subscription).await;
    assert_eq!(lapsed.iter().map(|one| one.notification).collect::<Vec<_>>(), [claimed[1].notification]);
    bench.store.keep(&claimed[1]);
    assert!(bench.settle(10_001, &claimed[0], Step::Delivered).await);
    assert!(!bench.settle(10_001, &claimed[1], Step::Delivered).await, "another holds it");

    bench.store.keep(&lapsed[0]);
    assert_eq!(bench.due(subscription).await, None);
    assert_eq!(bench.claim(20_000, subscription).await.len(), 0);
    bench.store.let_lapse(&lapsed[0]);
    assert_eq!(bench.due(subscription).await, Some(at(10_060)));
    assert_eq!(bench.claim(20_000, subscription).await.len(), 1, "it cannot be settled");
}

#[tokio::test]
async fn a_ring_that_is_accepted_is_counted() {
    let bench = Bench::new().await;
    let subscription = bench.coalescing().await;
    let counts = async || {
        let one = bench.store.standings().await.unwrap().remove(0);
        (one.pending, one.delivered, one.dead, one.superseded)
    };
    bench.arrive(100, "/a").await;
    let told = bench.claim(100, subscription).await.remove(0);
    bench.settle_ringing(100, &told, Step::Told, Some(10)).await;
    assert_eq!(counts().await, (0, 0, 0, 0));
    let ring = bench.claim(110, subscription).await.remove(0);
    bench.settle_ringing(110, &ring, Step::Delivered, Some(30)).await;
    assert_eq!(counts().await, (0, 1, 0, 0));
    let ring = bench.claim(140, subscription).await.remove(0);
    bench.settle_ringing(140, &ring, Step::Delivered, None).await;
    assert_eq!(counts().await, (0, 1, 0, 0), "it was already");
    bench.store.replay(vec![told.notification], at(200)).await.unwrap();
    assert_eq!(counts().await, (1, 0, 0, 0));
}

#[tokio::test]
async fn counts_that_went_astray_are_put_right_once() {
    let bench = Bench::new().await;
    let (subscription, told) = bench.told().await;
    bench.store.count_history(Pace::default(), at(101)).await.unwrap();
    let open = || rusqlite::Connection::open(bench.dir.path().join("filebell.db")).unwrap();
    open().execute_batch("UPDATE tally SET delivered = -1; UPDATE counted SET delivered = -1").unwrap();
    let standing = bench.store.standings().await.unwrap().remove(0);
    assert_eq!((standing.subscription, standing.delivered), (subscription, 0), "less than none is none");
    open().execute_batch(include_str!("../migrations/sqlite/0015_delivered.sql")).unwrap();
    assert_eq!(bench.store.standings().await.unwrap().remove(0).delivered, 1);
    assert_eq!(bench.state(told.notification).await, NotificationState::Delivered);
    assert_eq!(bench.store.uncounted(None).await.unwrap().delivered, 0, "nothing was delivered just now");
}
