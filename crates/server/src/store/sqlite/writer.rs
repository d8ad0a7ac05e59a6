//! The one writer: what is to be written waits in a queue, and one thread at a time works it off, in order.
//!
//! Group commit: all that waits and can share a transaction does, so the cost of a commit falls as load grows. What can
//! wait a moment for others to share with is brought as such. A thread that blocks anyway works the queue off itself
//! where nobody else is at it: that saves it two changes of thread.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, OnceLock, TryLockError};
use std::time::{Duration, Instant};

use filebell_core::id::{AccountId, NotificationId, SubscriptionId};
use filebell_core::subscription::{Cadence, Subscription};
use filebell_core::time::TimestampMs;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{oneshot, watch};

use super::super::{Claimed, Group, LeaseToken, Rows, StoreError, StoreKey};
use super::checkpoint::Wrote;
use super::events::Numbers;
use super::leases::Leases;
use super::tally::Tally;
use super::{BUSY_TIMEOUT, claims, directory, lock};

/// At most this many rows are written in one transaction, or those of one who brings more.
const GROUP_ROWS_MAX: usize = 2048;
/// What can wait is written at the latest after this time.
const WAIT_MAX: Duration = Duration::from_millis(3);

/// How long another process may hold the write lock once it was waited for in vain, until it lets go: what stands in the
/// queue has waited too.
const BUSY_AGAIN: Duration = Duration::from_millis(100);

/// Who is told of every group.
type Observer = Box<dyn Fn(Group) + Send + Sync>;

/// The queue, and what writes. It ends when it is closed.
pub(super) struct Desk {
    queue: Mutex<Queue>,
    came: Condvar,
    writer: Mutex<Writer>,
    /// Who is told of every group.
    observer: OnceLock<Observer>,
    /// Changes whenever something was recorded.
    advance: watch::Sender<u64>,
    /// Is told of every transaction.
    pub(super) wrote: Arc<Wrote>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// When the first of them is to be done.
    due: Option<Instant>,
    closed: bool,
}

enum Job {
    /// Needs the connection for itself.
    Alone(Box<dyn FnOnce(&mut Writer) + Send>),
    /// Shares a transaction with its neighbours.
    Shared(Box<dyn Share>),
}

/// Work that shares a transaction. If the transaction fails, it is done again in one of its own.
trait Share: Send {
    fn rows(&self) -> (Rows, usize);
    fn work(&mut self, transaction: &Transaction<'_>, state: &mut WriterState<'_>) -> Result<(), StoreError>;
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Sharing<T, W> {
    rows: (Rows, usize),
    work: W,
    done: Option<T>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, W> Share for Sharing<T, W>
where
    W: FnMut(&Transaction<'_>, &mut WriterState<'_>) -> Result<T, StoreError> + Send,
{
    fn rows(&self) -> (Rows, usize) {
        self.rows
    }

    fn work(&mut self, transaction: &Transaction<'_>, state: &mut WriterState<'_>) -> Result<(), StoreError> {
        self.done = Some((self.work)(transaction, state)?);
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        // Whoever asked may have gone; what was done stands.
        let Self { done, answer, .. } = *self;
        let _ = answer.send(committed.and_then(|()| done.ok_or(StoreError::Closed)));
    }
}

/// What is to be answered.
pub(super) type Answer<T> = oneshot::Receiver<Result<T, StoreError>>;

impl Desk {
    /// Starts the thread that works the queue off.
    pub(super) fn open(
        connection: Connection,
        key: StoreKey,
        leases: Arc<Mutex<Leases>>,
    ) -> Result<Arc<Self>, StoreError> {
        let wrote = Arc::new(Wrote::default());
        let desk = Arc::new(Self {
            queue: Mutex::default(),
            came: Condvar::new(),
            writer: Mutex::new(Writer {
                connection,
                key,
                leases,
                wrote: wrote.clone(),
                numbers: Numbers::default(),
                subscribed: Subscribed::default(),
                synced: Synced::Yes,
                in_vain: false,
                impatient: false,
            }),
            observer: OnceLock::new(),
            advance: watch::Sender::new(0),
            wrote,
        });
        let working = desk.clone();
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                while working.wait() {
                    working.work_off(&mut lock(&working.writer), || false);
                }
            })
            .map_err(|error| StoreError::Engine(Box::new(error)))?;
        Ok(desk)
    }

    /// What comes is answered as closed.
    pub(super) fn close(&self) {
        lock(&self.queue).closed = true;
        self.came.notify_all();
        self.wrote.close();
    }

    /// Changes whenever something was recorded.
    pub(super) fn advanced(&self) -> watch::Receiver<u64> {
        self.advance.subscribe()
    }

    /// Lets somebody know of every group; the first who asks is the one.
    pub(super) fn observe(&self, observer: Observer) {
        // Another one is there already.
        let _ = self.observer.set(observer);
    }

    /// As [`Self::write`], but a crash may take it back, with all that was written after it in the same way. What is
    /// written durably afterwards makes it durable.
    pub(super) fn write_unsynced<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>, &mut WriterState<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<T> {
        self.alone(move |writer| Ok(writer.transact(Synced::No, work)?.0))
    }

    /// Runs one transaction of its own; it is on disk if and only if `work` succeeds.
    pub(super) fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>, &mut WriterState<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<T> {
        let advance = self.advance.clone();
        self.alone(move |writer| {
            let (done, news) = writer.transact(Synced::Yes, work)?;
            if news {
                advance.send_modify(|turn| *turn = turn.wrapping_add(1));
            }
            Ok(done)
        })
    }

    /// Runs `work` after everything asked before and before everything asked later.
    pub(super) fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<T> {
        let (answer, answered) = oneshot::channel();
        let job = Job::Alone(Box::new(move |writer| {
            // Whoever asked may have gone; what was done stands.
            let _ = answer.send(work(writer));
        }));
        self.put(job, Duration::ZERO);
        self.came.notify_one();
        answered
    }

    /// Runs `work`, which writes so many rows, in a transaction with what else waits; it is on disk if and only if
    /// `work` succeeds. `can_wait` lets it wait a moment for others.
    pub(super) fn share<T: Send + 'static>(
        &self,
        rows: (Rows, usize),
        can_wait: bool,
        work: impl FnMut(&Transaction<'_>, &mut WriterState<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<T> {
        let (answer, answered) = oneshot::channel();
        let job = Job::Shared(Box::new(Sharing { rows, work, done: None, answer }));
        self.put(job, if can_wait { WAIT_MAX } else { Duration::ZERO });
        self.came.notify_one();
        answered
    }

    /// As [`Self::share`], for a thread that may block: it works the queue off, or waits, when it calls what this
    /// answers with.
    pub(super) fn share_here<T: Send + 'static, W>(
        self: &Arc<Self>,
        rows: (Rows, usize),
        work: W,
    ) -> impl FnOnce() -> Result<T, StoreError> + use<T, W>
    where
        W: FnMut(&Transaction<'_>, &mut WriterState<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (answer, mut answered) = oneshot::channel();
        self.put(Job::Shared(Box::new(Sharing { rows, work, done: None, answer })), Duration::ZERO);
        let desk = self.clone();
        move || {
            let mut early = None;
            if let Some(mut writer) = desk.try_writer() {
                desk.work_off(&mut writer, || {
                    early = answered.try_recv().ok();
                    early.is_some()
                });
            }
            // For what is left, or for all.
            desk.came.notify_one();
            early.unwrap_or_else(|| answered.blocking_recv().unwrap_or(Err(StoreError::Closed)))
        }
    }

    /// Runs `work` now on the calling thread if nobody is writing.
    pub(super) fn try_now<T>(&self, work: impl FnOnce(&mut Writer) -> T) -> Option<T> {
        self.try_writer().map(|mut writer| work(&mut writer))
    }

    fn try_writer(&self) -> Option<std::sync::MutexGuard<'_, Writer>> {
        match self.writer.try_lock() {
            Ok(writer) => Some(writer),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn put(&self, job: Job, wait: Duration) {
        let mut queue = lock(&self.queue);
        if !queue.closed {
            let due = Instant::now() + wait;
            queue.due = Some(queue.due.map_or(due, |before| before.min(due)));
            queue.jobs.push_back(job);
        }
    }

    /// Waits until something is to be done; `false` when nothing more will be.
    fn wait(&self) -> bool {
        let mut queue = lock(&self.queue);
        loop {
            let left = queue.due.map(|due| due.saturating_duration_since(Instant::now()));
            queue = match left {
                Some(Duration::ZERO) => return true,
                Some(_) if queue.closed => return true,
                None if queue.closed => return false,
                Some(left) => self
                    .came
                    .wait_timeout(queue, left)
                    .map_or_else(|poisoned| poisoned.into_inner().0, |(queue, _)| queue),
                None => self.came.wait(queue).unwrap_or_else(std::sync::PoisonError::into_inner),
            };
        }
    }

    /// Works off what waits, until there is nothing more or `enough` says so.
    fn work_off(&self, writer: &mut Writer, mut enough: impl FnMut() -> bool) {
        while let Some((group, alone)) = self.next() {
            if !group.is_empty() {
                self.write_group(writer, group);
            }
            if let Some(alone) = alone {
                alone(writer);
            }
            if enough() {
                return;
            }
        }
    }

    /// What is to be done next: what shares a transaction, and after that what stands alone.
    #[expect(clippy::type_complexity, reason = "two things that are taken from one queue")]
    fn next(&self) -> Option<(Vec<Box<dyn Share>>, Option<Box<dyn FnOnce(&mut Writer) + Send>>)> {
        let mut queue = lock(&self.queue);
        let (mut group, mut rows) = (Vec::new(), 0_usize);
        let alone = loop {
            match queue.jobs.pop_front() {
                None => break None,
                Some(Job::Alone(job)) => break Some(job),
                Some(Job::Shared(job)) => {
                    rows = rows.saturating_add(job.rows().1);
                    if rows > GROUP_ROWS_MAX && !group.is_empty() {
                        queue.jobs.push_front(Job::Shared(job));
                        break None;
                    }
                    group.push(job);
                }
            }
        };
        if queue.jobs.is_empty() {
            queue.due = None;
        }
        (alone.is_some() || !group.is_empty()).then_some((group, alone))
    }

    fn write_group(&self, writer: &mut Writer, mut group: Vec<Box<dyn Share>>) {
        let began = Instant::now();
        let written = writer.transact(Synced::Yes, |transaction, state| {
            group.iter_mut().try_for_each(|one| one.work(transaction, state))
        });
        match written {
            Ok(((), news)) => {
                self.tell(news, &group, began);
                group.into_iter().for_each(|one| one.answer(Ok(())));
            }
            // Another process holds the lock, and was waited for: for each of the others it would be so long again.
            Err(Failed::ToBegin(error)) => {
                let error = Arc::new(error);
                group.into_iter().for_each(|one| one.answer(Err(StoreError::Engine(Box::new(error.clone())))));
            }
            // What fails must not take the others with it.
            Err(Failed::Later(_)) if group.len() > 1 => {
                group.into_iter().for_each(|one| self.write_group(writer, vec![one]));
            }
            Err(Failed::Later(error)) => {
                if let Some(one) = group.pop() {
                    one.answer(Err(error));
                }
            }
        }
    }

    /// Tells of a group that is on disk, first those who wait for news.
    fn tell(&self, news: bool, group: &[Box<dyn Share>], began: Instant) {
        if news {
            self.advance.send_modify(|turn| *turn = turn.wrapping_add(1));
        }
        let Some(observer) = self.observer.get() else { return };
        let took = began.elapsed();
        for of in [Rows::Arrivals, Rows::Attempts] {
            let rows = group.iter().map(|one| one.rows()).filter(|(kind, _)| *kind == of).map(|(_, count)| count).sum();
            if rows > 0 {
                observer(Group { of, rows, took });
            }
        }
    }
}

/// What writes.
pub(super) struct Writer {
    pub(super) connection: Connection,
    key: StoreKey,
    /// Shared with the looks at what is due.
    pub(super) leases: Arc<Mutex<Leases>>,
    wrote: Arc<Wrote>,
    /// As of the last transaction, if that did not fail; so with the next.
    numbers: Numbers,
    subscribed: Subscribed,
    /// How the connection commits now.
    synced: Synced,
    /// Whether the lock was last waited for in vain, and whether the connection waits shorter for it.
    in_vain: bool,
    impatient: bool,
}

/// Who wants to be told, as of a revision.
#[derive(Default)]
struct Subscribed {
    revision: Option<i64>,
    by_account: HashMap<AccountId, Vec<Arc<Subscription>>>,
    cadences: HashMap<SubscriptionId, Cadence>,
    /// Those that are told at once.
    active: HashSet<SubscriptionId>,
}

/// Where a transaction failed.
enum Failed {
    /// Nothing was done yet.
    ToBegin(rusqlite::Error),
    /// What was done is undone.
    Later(StoreError),
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::ToBegin(error) => error.into(),
            Failed::Later(error) => error,
        }
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Later(error)
    }
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Later(error.into())
    }
}

/// Whether a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Synced {
    Yes,
    No,
}

impl Writer {
    /// Runs one transaction; answers too whether something was recorded.
    fn transact<T>(
        &mut self,
        synced: Synced,
        work: impl FnOnce(&Transaction<'_>, &mut WriterState<'_>) -> Result<T, StoreError>,
    ) -> Result<(T, bool), Failed> {
        if self.synced != synced {
            let level = if synced == Synced::Yes { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.synced = synced;
        }
        if self.impatient != self.in_vain {
            self.connection.busy_timeout(if self.in_vain { BUSY_AGAIN } else { BUSY_TIMEOUT })?;
            self.impatient = self.in_vain;
        }
        let begun = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        self.in_vain = begun.is_err();
        let transaction = begun.map_err(Failed::ToBegin)?;
        let mut state = WriterState {
            key: &self.key,
            leases: &self.leases,
            tally: Tally::default(),
            settled: Vec::new(),
            fresh: Vec::new(),
            due: Vec::new(),
            numbers: std::mem::take(&mut self.numbers),
            asked: false,
            news: false,
            subscribed: std::mem::take(&mut self.subscribed),
        };
        let result = work(&transaction, &mut state)?;
        state.tally.write(&transaction)?;
        let revision = directory::revision(&transaction)?;
        transaction.commit()?;
        self.wrote.note();
        (self.numbers, self.subscribed) = (state.numbers, state.subscribed);
        let mut leases = lock(&self.leases);
        leases.as_of(revision);
        state.settled.into_iter().for_each(|(subscription, id, token)| leases.release(subscription, id, token));
        state.due.into_iter().for_each(|(subscription, due_at)| leases.pull_back(subscription, due_at));
        leases.add_fresh(state.fresh);
        Ok((result, state.news || leases.has_news()))
    }
}

/// What a transaction may use besides the connection.
pub(super) struct WriterState<'a> {
    pub(super) key: &'a StoreKey,
    pub(super) leases: &'a Mutex<Leases>,
    /// How many notifications changed how, written at the end of the transaction.
    pub(super) tally: Tally,
    /// Whose leases end with the transaction: not before, and before anything else is claimed.
    pub(super) settled: Vec<(SubscriptionId, NotificationId, LeaseToken)>,
    /// The newest numbers given out.
    pub(super) numbers: Numbers,
    /// What was made and can be claimed as it is here, as soon as it is on disk.
    pub(super) fresh: Vec<Claimed>,
    /// What else was made due when, found in the table as soon as it is on disk.
    pub(super) due: Vec<(SubscriptionId, TimestampMs)>,
    /// Whether something was recorded.
    pub(super) news: bool,
    /// Whether `subscribed` is as of this transaction.
    asked: bool,
    subscribed: Subscribed,
}

impl WriterState<'_> {
    /// An account's subscriptions as this transaction sees them.
    pub(super) fn subscriptions_of(
        &mut self,
        transaction: &Transaction<'_>,
        account: AccountId,
    ) -> Result<Vec<Arc<Subscription>>, StoreError> {
        Ok(self.subscribed(transaction)?.by_account.get(&account).cloned().unwrap_or_default())
    }

    /// How a subscription gathers its events; `None` if there is no such subscription.
    pub(super) fn cadence_of(
        &mut self,
        transaction: &Transaction<'_>,
        subscription: SubscriptionId,
    ) -> Result<Option<Cadence>, StoreError> {
        Ok(self.subscribed(transaction)?.cadences.get(&subscription).copied())
    }

    /// The subscriptions as this transaction saw them when it first asked.
    fn subscribed(&mut self, transaction: &Transaction<'_>) -> Result<&Subscribed, StoreError> {
        if !self.asked {
            let revision = directory::revision(transaction)?;
            if self.subscribed.revision != Some(revision) {
                let (mut by_account, mut cadences): (HashMap<_, Vec<_>>, _) = (HashMap::new(), HashMap::new());
                for subscription in directory::subscriptions(transaction, self.key)? {
                    cadences.insert(subscription.id, subscription.cadence());
                    by_account.entry(subscription.account).or_default().push(Arc::new(subscription));
                }
                let active = claims::active(transaction)?;
                self.subscribed = Subscribed { revision: Some(revision), by_account, cadences, active };
            }
            self.asked = true;
        }
        Ok(&self.subscribed)
    }

    /// Whether somebody holds a notification, and goes on holding it after this transaction: what was settled in it may
    /// be planned anew in it, and its lease only ends with the commit.
    pub(super) fn is_held(&self, subscription: SubscriptionId, id: NotificationId) -> bool {
        let token = lock(self.leases).token(subscription, id);
        token.is_some_and(|token| !self.settled.contains(&(subscription, id, token)))
    }

    /// Whether a subscription that [`Self::subscriptions_of`] answered with is told at once.
    pub(super) fn is_active(&self, subscription: SubscriptionId) -> bool {
        self.subscribed.active.contains(&subscription)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{connect, migrate};
    use super::*;

    const BUSY: Duration = Duration::from_millis(400);

    /// A desk on a store whose lock another process holds.
    fn locked() -> (tempfile::TempDir, Arc<Desk>, Connection) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("filebell.db");
        let mut connection = connect(&path).unwrap();
        migrate(&mut connection).unwrap();
        connection.busy_timeout(BUSY).unwrap();
        let desk = Desk::open(connection, StoreKey::generate().unwrap(), Arc::default()).unwrap();
        let other = connect(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        (dir, desk, other)
    }

    #[test]
    fn all_that_waits_for_a_lock_that_another_process_holds_is_answered_at_once() {
        let (_dir, desk, other) = locked();
        let began = Instant::now();
        let share = || desk.share((Rows::Attempts, 1), true, |transaction, _| directory::touch(transaction));
        // The first may be alone, the others wait for it and are a group.
        let answers: Vec<_> = (0..8).map(|_| share()).collect();
        for answer in answers {
            assert!(matches!(answer.blocking_recv().unwrap(), Err(StoreError::Engine(_))));
        }
        let took = began.elapsed();
        assert!(took < BUSY * 4, "{took:?}");
        other.execute_batch("COMMIT").unwrap();
        share().blocking_recv().unwrap().unwrap();
        desk.close();
    }

    #[test]
    fn what_stands_alone_does_not_wait_as_long_again_for_the_same_lock() {
        let (_dir, desk, other) = locked();
        let began = Instant::now();
        let write = || desk.write(|transaction, _| directory::touch(transaction));
        let answers: Vec<_> = (0..8).map(|_| write()).collect();
        for answer in answers {
            assert!(matches!(answer.blocking_recv().unwrap(), Err(StoreError::Engine(_))));
        }
        let took = began.elapsed();
        assert!(took < BUSY * 5, "{took:?}");
        other.execute_batch("COMMIT").unwrap();
        write().blocking_recv().unwrap().unwrap();
        desk.close();
    }
}
