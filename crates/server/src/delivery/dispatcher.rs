//! Due, claimed, sent, settled.
//!
//! One task drives: woken by a hint or by a timer it reads what is due, claims it into the lane of its endpoint, and
//! starts workers, which send. Another settles what they sent. The only input is the store, so a hint may be lost,
//! doubled or late, and the process may be killed between any two lines.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use filebell_core::id::{ApplicationId, SubscriptionId};
use filebell_core::retry::{Outcome, Schedule, Step};
use filebell_core::ring::{Ended, Next, Rings};
use filebell_core::subscription::{Protocol, ProtocolKind, Subscription, SubscriptionStatus};
use filebell_core::time::TimestampMs;
use futures_util::future::join_all;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use super::egress::{Egress, Exchange};
use super::feed::Feed;
use super::lane::{Job, Lane};
use super::places::Places;
use super::{letter, settler};
use crate::metrics::Metrics;
use crate::seams::Seams;
use crate::store::{Attempt, Claimed, Settlement, Store, StoreError};

/// At most this many notifications are claimed in one go.
const CLAIM_MAX: usize = 256;
/// At most this many subscriptions are claimed for at the same time: the store works them off in one go.
const CLAIMS_AT_ONCE_MAX: usize = 64;
/// About this many are held by this process, waiting or being sent; beyond it only one for each place of an endpoint.
const HELD_MAX: usize = 8192;
/// When this many have ended and are not settled, nothing is claimed until some are.
const ENDED_MAX: usize = 4096;
/// The store is looked at this often without any hint.
const IDLE_MAX: Duration = Duration::from_secs(1);
/// An endpoint that asks to be left alone is left alone for this long at most: what it asked for one of the
/// notifications need not hold for all.
const ALONE_MAX: Duration = Duration::from_secs(60 * 60);
/// A lease outlives the last attempt that may begin under it by this much, for settling.
const LEASE_SPARE: Duration = Duration::from_secs(15);

/// How notifications are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryConfig {
    /// The deadline of one attempt.
    pub timeout: Duration,
    /// How many attempts may be under way.
    pub max_in_flight: usize,
    /// How many of them to one endpoint.
    pub max_in_flight_per_endpoint: usize,
    /// When a failed attempt is repeated.
    pub schedule: Schedule,
    /// When a notification of the Nextcloud protocol that was delivered and not fetched is told again.
    pub rings: Rings,
}

impl DeliveryConfig {
    /// What follows from an attempt that ended at `now`.
    fn follow(
        &self,
        claimed: &Claimed,
        subscription: &Subscription,
        outcome: Outcome,
        chance: f64,
        now: TimestampMs,
    ) -> Next {
        let attempt = claimed.attempts.saturating_add(1);
        match subscription.protocol.kind() {
            ProtocolKind::Nextcloud => {
                let ended = Ended { attempt, rung: claimed.rung, outcome, at: now };
                self.rings.follow(&self.schedule, ended, subscription.min_interval, chance)
            }
            ProtocolKind::SageX3 | ProtocolKind::Standard => {
                Next { step: self.schedule.step(outcome, attempt, chance, now), ring_at: None }
            }
        }
    }
}

/// What wakes the dispatcher. None of it carries data.
#[derive(Debug, Clone)]
pub struct Hints {
    /// Something may be due: for whoever replays, resumes or moves a clock.
    pub wake: Arc<Notify>,
    /// Subscriptions were changed.
    pub changed: watch::Receiver<u64>,
}

/// Who is told how sending goes.
#[derive(Clone)]
pub struct Onlookers {
    /// The counters.
    pub metrics: Metrics,
    /// The attempts that ended last.
    pub feed: Feed,
}

/// Sends what subscriptions are owed.
pub struct Dispatcher {
    shared: Arc<Shared>,
    hints: Hints,
}

impl Dispatcher {
    /// A dispatcher that is not running yet. `public_url` is the base of the URLs that notifications carry.
    pub fn new(
        store: Store,
        egress: Egress,
        seams: Seams,
        config: DeliveryConfig,
        public_url: &Url,
        hints: Hints,
        onlookers: Onlookers,
    ) -> Self {
        let shared = Shared {
            places: Places::new(config.max_in_flight),
            store,
            egress,
            seams,
            onlookers,
            config,
            public_url: public_url.to_string(),
            room: Notify::new(),
            directory: RwLock::default(),
            held: AtomicUsize::new(0),
            unsettled: AtomicUsize::new(0),
            pressed: AtomicBool::new(false),
            store_fails: AtomicBool::new(false),
            workers: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        Self { shared: Arc::new(shared), hints }
    }

    /// Runs until `stop`; then lets attempts under way come to their end, settles them, and returns.
    pub async fn run(self, stop: CancellationToken) {
        let Self { shared, mut hints } = self;
        let (ended, to_settle) = mpsc::unbounded_channel();
        let settler = tokio::spawn(settler::run(shared.clone(), to_settle));
        let mut driver = Driver::new(shared.clone(), ended);
        let mut advanced = shared.store.advanced();
        let (mut stale, mut look) = (false, true);
        while !stop.is_cancelled() {
            // Before anything is claimed, so that a new key or endpoint holds for the very next attempt.
            if stale || hints.changed.has_changed().unwrap_or(false) {
                hints.changed.mark_unchanged();
                stale = driver.refresh().await.is_err();
                look = true;
            }
            let wait = driver.turn(look, &stop).await.unwrap_or_else(|error| {
                tracing::error!(error = &error as &dyn Error, "what is due could not be read or claimed");
                IDLE_MAX
            });
            look = false;
            if wait.is_zero() {
                continue;
            }
            (stale, look) = tokio::select! {
                () = changed(&mut hints.changed) => (true, true),
                () = stop.cancelled() => (stale, false),
                () = hints.wake.notified() => (stale, true),
                () = shared.room.notified() => (stale, false),
                () = changed(&mut advanced) => (stale, false),
                () = sleep(wait) => (stale, false),
            };
        }
        shared.stop.cancel();
        shared.workers.close();
        shared.workers.wait().await;
        let unsent = driver.lanes.values().flat_map(|lane| lane.empty()).map(|job| job.claimed).collect();
        shared.let_go(unsent).await;
        // With the last sender the settler goes too.
        drop(driver);
        if let Err(error) = settler.await {
            tracing::error!(error = &error as &dyn Error, "the settling of attempts broke off");
        }
    }
}

/// Waits for a change; for ever if none can come any more.
async fn changed(receiver: &mut watch::Receiver<u64>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What the driver, the workers and the settler have in common.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) seams: Seams,
    pub(super) onlookers: Onlookers,
    /// Set when nothing new is to be begun.
    pub(super) stop: CancellationToken,
    egress: Egress,
    config: DeliveryConfig,
    public_url: String,
    /// There is room again for what is due.
    room: Notify,
    directory: RwLock<Directory>,
    places: Places,
    held: AtomicUsize,
    /// Ended and not settled.
    unsettled: AtomicUsize,
    /// Something due was left, for enough was unsettled.
    pressed: AtomicBool,
    store_fails: AtomicBool,
    workers: TaskTracker,
}

/// The subscriptions as last read.
#[derive(Debug, Default)]
struct Directory {
    by_id: HashMap<SubscriptionId, Arc<Subscription>>,
    /// Those that answered 410 and are being disabled.
    gone: HashSet<SubscriptionId>,
    /// The applications that are told nothing until they are enabled again.
    disabled: HashSet<ApplicationId>,
}

impl Shared {
    /// So many are settled.
    pub(super) fn release(&self, count: usize) {
        self.unsettled.fetch_sub(count, Ordering::Relaxed);
        if self.pressed.swap(false, Ordering::Relaxed) {
            self.room.notify_one();
        }
    }

    /// Whether so much is unsettled that nothing is to be claimed; then a hint comes when some is settled.
    fn is_pressed(&self) -> bool {
        let pressed = self.unsettled.load(Ordering::Relaxed) >= ENDED_MAX;
        if pressed {
            self.pressed.store(true, Ordering::Relaxed);
        }
        pressed
    }

    /// How many may wait for one endpoint: half of what more may be held, so that as much is left for all others.
    fn share(&self) -> usize {
        HELD_MAX.saturating_sub(self.held.load(Ordering::Relaxed)) / 2
    }

    /// Gives back what was claimed and is not sent, so that it need not wait for its lease to run out.
    async fn let_go(&self, claimed: Vec<Claimed>) {
        if claimed.is_empty() {
            return;
        }
        let count = claimed.len();
        if let Err(error) = self.store.release(claimed).await {
            tracing::warn!(error = &error as &dyn Error, "what was claimed could not be given back");
        }
        self.held.fetch_sub(count, Ordering::Relaxed);
        self.room.notify_one();
    }

    /// Whether attempts wait for a store that does not take them.
    pub(super) fn set_store_fails(&self, fails: bool) {
        if self.store_fails.swap(fails, Ordering::Relaxed) != fails {
            self.room.notify_one();
        }
    }

    /// Takes in that the store knows these subscriptions to be disabled.
    pub(super) async fn disabled(&self, subscriptions: &[SubscriptionId]) {
        if let Err(error) = self.refresh().await {
            tracing::error!(error = &error as &dyn Error, "the subscriptions could not be read");
        }
        self.with_directory(|directory| directory.gone.retain(|id| !subscriptions.contains(id)));
    }

    async fn refresh(&self) -> Result<(), StoreError> {
        let subscriptions = self.store.subscriptions().await?;
        let by_id = subscriptions.into_iter().map(|one| (one.id, Arc::new(one))).collect();
        let applications = self.store.applications().await?;
        let disabled = applications.into_iter().filter(|one| one.disabled).map(|one| one.id).collect();
        self.with_directory(|directory| (directory.by_id, directory.disabled) = (by_id, disabled));
        Ok(())
    }

    /// The subscription, if it is to be told.
    fn active(&self, id: SubscriptionId) -> Option<Arc<Subscription>> {
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        let subscription = directory.by_id.get(&id)?;
        let disabled = match &subscription.protocol {
            Protocol::SageX3 { application, .. } => directory.disabled.contains(application),
            Protocol::Nextcloud { .. } | Protocol::Standard => false,
        };
        let active = subscription.status == SubscriptionStatus::Active && !disabled && !directory.gone.contains(&id);
        active.then(|| subscription.clone())
    }

    /// Whether it was there when the subscriptions were last read.
    fn knows(&self, id: SubscriptionId) -> bool {
        self.directory.read().unwrap_or_else(PoisonError::into_inner).by_id.contains_key(&id)
    }

    fn with_directory<T>(&self, change: impl FnOnce(&mut Directory) -> T) -> T {
        change(&mut self.directory.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Claims what is due. The only one who adds to lanes.
struct Driver {
    shared: Arc<Shared>,
    ended: mpsc::UnboundedSender<Settlement>,
    lanes: HashMap<String, Arc<Lane>>,
    turns: usize,
    /// When the first of each subscription is due, as far as is known: never later than it is.
    agenda: HashMap<SubscriptionId, TimestampMs>,
    /// When the store was last asked for all that is due.
    looked: Option<Instant>,
}

impl Driver {
    fn new(shared: Arc<Shared>, ended: mpsc::UnboundedSender<Settlement>) -> Self {
        Self { shared, ended, lanes: HashMap::new(), turns: 0, agenda: HashMap::new(), looked: None }
    }

    /// Claims what is due and has room; answers how long to wait for the next turn if no hint comes. With `look`, and
    /// now and then without, the store is asked for all that is due: what it tells of by itself may get lost.
    async fn turn(&mut self, look: bool, stop: &CancellationToken) -> Result<Duration, StoreError> {
        if self.shared.store_fails.load(Ordering::Relaxed) {
            return Ok(IDLE_MAX);
        }
        // What was recorded a moment ago waits for no look at all the rest.
        self.hear().await?;
        let mut more = self.claim_due(stop).await;
        if look || self.looked.is_none_or(|looked| looked.elapsed() >= IDLE_MAX) {
            let due = self.shared.store.due().await?;
            if due.iter().any(|(id, _)| self.shared.active(*id).is_none()) {
                self.refresh().await?;
            }
            due.into_iter().for_each(|(id, due_at)| self.note(id, due_at));
            self.looked = Some(Instant::now());
            more |= self.claim_due(stop).await;
        }
        self.hear().await?;
        let now = self.shared.seams.now();
        // What is due and has no room is waited for by a hint.
        let later = self.agenda.values().filter(|due_at| **due_at > now).min();
        Ok(if more { Duration::ZERO } else { later.map_or(IDLE_MAX, |later| later.since(now).min(IDLE_MAX)) })
    }

    /// Takes in what the store tells of by itself.
    async fn hear(&mut self) -> Result<(), StoreError> {
        let just_due = self.shared.store.just_due();
        if just_due.iter().any(|(id, _)| !self.shared.knows(*id)) {
            self.refresh().await?;
        }
        just_due.into_iter().for_each(|(id, due_at)| self.note(id, due_at));
        Ok(())
    }

    fn note(&mut self, id: SubscriptionId, due_at: TimestampMs) {
        self.agenda.entry(id).and_modify(|at| *at = due_at.min(*at)).or_insert(due_at);
    }

    /// Claims what is on the agenda, due and has room; answers whether more could be claimed at once.
    async fn claim_due(&mut self, stop: &CancellationToken) -> bool {
        let now = self.shared.seams.now();
        let due = self.agenda.iter().filter(|(_, due_at)| **due_at <= now);
        let mut ready: Vec<SubscriptionId> = due.map(|(id, _)| *id).collect();
        // Each turn begins with another subscription, so that none always comes last.
        ready.sort_unstable();
        self.turns = self.turns.wrapping_add(1);
        let first = self.turns.checked_rem(ready.len()).unwrap_or(0);
        ready.rotate_left(first);
        let mut more = false;
        for some in ready.chunks(CLAIMS_AT_ONCE_MAX) {
            if stop.is_cancelled() {
                break;
            }
            let calls: Vec<_> = some.iter().filter_map(|id| self.prepare(*id)).map(Call::make).collect();
            for (id, left) in join_all(calls).await {
                more |= left == Left::More;
                if left != Left::Nothing {
                    self.note(id, now);
                }
            }
        }
        more
    }

    /// A call on the store for what a subscription has due, if there is room for it.
    fn prepare(&mut self, id: SubscriptionId) -> Option<Call> {
        let Some(subscription) = self.shared.active(id) else {
            // When it is told again, a look at all that is due finds it.
            self.agenda.remove(&id);
            return None;
        };
        if self.shared.is_pressed() {
            return None;
        }
        let lane = self
            .lanes
            .entry(subscription.endpoint.to_string())
            .or_insert_with(|| Arc::new(Lane::new(self.shared.config.max_in_flight_per_endpoint)))
            .clone();
        if let Some(until) = lane.alone_until(self.shared.seams.now()) {
            self.agenda.insert(id, until);
            return None;
        }
        let limit = lane.reserve(CLAIM_MAX, self.shared.share());
        if limit == 0 {
            return None;
        }
        self.shared.held.fetch_add(limit, Ordering::Relaxed);
        self.agenda.remove(&id);
        let worker = Worker { shared: self.shared.clone(), lane, ended: self.ended.clone() };
        Some(Call { worker, subscription, limit })
    }

    /// Reads the subscriptions again, and forgets the lanes of endpoints that are gone.
    async fn refresh(&mut self) -> Result<(), StoreError> {
        self.shared.refresh().await.inspect_err(|error| {
            tracing::error!(error = error as &dyn Error, "the subscriptions could not be read");
        })?;
        let directory = self.shared.directory.read().unwrap_or_else(PoisonError::into_inner);
        let endpoints: HashSet<String> = directory.by_id.values().map(|one| one.endpoint.to_string()).collect();
        self.lanes.retain(|endpoint, lane| endpoints.contains(endpoint) || !lane.is_idle());
        Ok(())
    }
}

/// One call on the store: at most `limit` notifications, for which room is reserved.
struct Call {
    worker: Worker,
    subscription: Arc<Subscription>,
    limit: usize,
}

/// What may be due of a subscription after a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Nothing.
    Nothing,
    /// More than there is room for.
    NoRoom,
    /// More that could be claimed at once.
    More,
}

impl Call {
    /// Claims, and starts workers.
    async fn make(self) -> (SubscriptionId, Left) {
        let Self { worker, subscription, limit } = self;
        let Shared { store, seams, config, held, .. } = &*worker.shared;
        let now = seams.now();
        let start_before = now.after(config.timeout + LEASE_SPARE);
        let lease = 2 * (config.timeout + LEASE_SPARE);
        let claimed = store.claim(subscription.id, now, lease, u32::try_from(limit).unwrap_or(u32::MAX)).await;
        let claimed = claimed.unwrap_or_else(|error| {
            let error = &error as &dyn Error;
            tracing::error!(error, subscription.name = subscription.name, "what is due could not be claimed");
            Vec::new()
        });
        held.fetch_sub(limit.saturating_sub(claimed.len()), Ordering::Relaxed);
        let full = claimed.len() >= limit;
        let jobs = claimed.into_iter().map(|claimed| Job { claimed, start_before });
        worker.start(worker.lane.put(limit, jobs, full));
        let left = match full {
            true if limit == CLAIM_MAX => Left::More,
            true => Left::NoRoom,
            false => Left::Nothing,
        };
        (subscription.id, left)
    }
}

/// Sends what waits in a lane, one after the other.
#[derive(Clone)]
struct Worker {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    ended: mpsc::UnboundedSender<Settlement>,
}

impl Worker {
    fn start(&self, count: usize) {
        for _ in 0..count {
            self.shared.workers.spawn(self.clone().work());
        }
    }

    async fn work(self) {
        let shared = &self.shared;
        loop {
            // A place first, then the job: what is taken is sent at once.
            let place = shared.places.next(self.lane.lead()).await;
            if shared.stop.is_cancelled() {
                return self.lane.leave();
            }
            let now = shared.seams.now();
            let Some(taken) = self.lane.take(now) else {
                drop(place);
                return self.give_back(now).await;
            };
            if taken.refill {
                shared.room.notify_one();
            }
            let Some(subscription) = self.still_to_send(&taken.job) else {
                drop(place);
                shared.let_go(vec![taken.job.claimed]).await;
                continue;
            };
            let rest = self.attempt(taken.job.claimed, &subscription).await;
            drop(place);
            if !rest.is_zero() {
                tokio::select! { () = sleep(rest) => (), () = shared.stop.cancelled() => () }
            }
        }
    }

    /// Gives back what waits and is not to be sent.
    async fn give_back(&self, now: TimestampMs) {
        let surplus = self.lane.surplus(now);
        self.shared.let_go(surplus.into_iter().map(|job| job.claimed).collect()).await;
    }

    /// Whether a job that waited is still to be sent: its subscription may have been paused, its lease grown old.
    fn still_to_send(&self, job: &Job) -> Option<Arc<Subscription>> {
        if self.shared.seams.now() > job.start_before {
            return None;
        }
        self.shared.active(job.claimed.subscription)
    }

    /// One attempt, from the first byte to what follows; answers how long to rest.
    async fn attempt(&self, claimed: Claimed, subscription: &Subscription) -> Duration {
        let shared = &self.shared;
        let started_at = shared.seams.now();
        tracing::debug!(
            notification.id = %claimed.notification,
            notification.first_seq = claimed.after.seq.next().get(),
            notification.last_seq = claimed.last.seq.get(),
            subscription.name = subscription.name,
            attempt = claimed.attempts.saturating_add(1),
            "sending"
        );
        let body = letter::body(&claimed, subscription, &shared.public_url);
        let (print, exchange) = match letter::sign(body, claimed.notification, subscription, started_at) {
            Ok(request) => {
                let print = letter::print(&subscription.endpoint, &request);
                (Some(print), shared.egress.post(&subscription.endpoint, request, shared.config.timeout).await)
            }
            Err(error) => (None, Exchange::unanswered(error.to_string(), Duration::ZERO)),
        };
        let now = shared.seams.now();
        let Next { step, ring_at } =
            shared.config.follow(&claimed, subscription, exchange.outcome, shared.seams.chance(), now);
        if let Outcome::Refused { status: 429 | 503, .. } = exchange.outcome {
            self.lane.leave_alone(now.after(exchange.outcome.retry_after().min(ALONE_MAX)));
        }
        // Who answers 500 to what it takes in must not come last for it.
        let noted = self.lane.note(matches!(step, Step::Delivered | Step::Told), exchange.took);
        if step == Step::Disable {
            shared.with_directory(|directory| directory.gone.insert(subscription.id));
        }
        shared.onlookers.metrics.attempted(subscription.protocol.kind(), exchange.outcome, exchange.took);
        if step == Step::Delivered && claimed.rung.is_none() {
            shared.onlookers.metrics.delivered(subscription.protocol.kind(), now.since(claimed.oldest_at));
        }
        report(&claimed, subscription, step, &exchange, noted.first_failure);
        let Exchange { status, detail, took, timing, answer, .. } = exchange;
        let attempt = Attempt { started_at, took, status, detail, timing, answer, print };
        // Only what is sent again keeps its body; it is the same as before.
        let body = match step {
            Step::Delivered | Step::Told => Vec::new(),
            Step::Again(_) | Step::Disable | Step::Dead => letter::body(&claimed, subscription, &shared.public_url),
        };
        shared.unsettled.fetch_add(1, Ordering::Relaxed);
        shared.held.fetch_sub(1, Ordering::Relaxed);
        // The settler outlives all workers.
        let _ = self.ended.send(Settlement { claimed, step, body, ring_at, attempt });
        self.give_back(now).await;
        self.start(noted.start);
        noted.rest
    }
}

/// One log line for one attempt.
fn report(claimed: &Claimed, subscription: &Subscription, step: Step, exchange: &Exchange, first_failure: bool) {
    macro_rules! say {
        ($level:ident, $message:expr) => {
            tracing::$level!(
                notification.id = %claimed.notification,
                notification.first_seq = claimed.after.seq.next().get(),
                notification.last_seq = claimed.last.seq.get(),
                subscription.name = subscription.name,
                endpoint.host = subscription.endpoint.host(),
                attempt = claimed.attempts.saturating_add(1),
                status = exchange.status,
                detail = exchange.detail,
                $message
            )
        };
    }
    match step {
        Step::Delivered if claimed.rung.is_some() => say!(debug, "rung again, for nobody has fetched"),
        Step::Told if claimed.rung.is_some() => say!(debug, "rung again, and answered 500"),
        Step::Again(_) | Step::Dead if claimed.rung.is_some() => say!(info, "rung again in vain"),
        Step::Told => say!(info, "answered 500: rung again until it is fetched"),
        Step::Delivered if claimed.attempts == 0 => say!(debug, "delivered"),
        Step::Delivered => say!(info, "delivered at last"),
        Step::Again(_) if first_failure => say!(info, "not delivered; will try again"),
        Step::Again(_) => say!(debug, "not delivered; will try again"),
        Step::Dead => say!(warn, "given up; `filebell replay` makes it due again"),
        Step::Disable => say!(
            warn,
            "the endpoint says it is gone (410): the subscription is disabled and what it is owed is kept; \
             `filebell subscription resume NAME` starts it again"
        ),
    }
}
