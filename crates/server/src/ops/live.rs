//! What happens, as it happens: arrivals from the journal, and attempts that have ended.
//!
//! Arrivals are read from the journal, so that none is missed whatever becomes of the listener or the server. Attempts
//! are kept in memory only; who was away for too long, or while the server started anew, is told that some are missing.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use filebell_core::event::{Event, EventKind};
use filebell_core::id::{AccountId, Cursor, Seq, SubscriptionId};
use filebell_core::subscription::{Protocol, Subscription};
use tokio::sync::watch;

use super::{Caller, Ops, OpsError};
pub use crate::delivery::Ended;
use crate::delivery::{Feed, Since};
use crate::store::ChangesOf;

/// Listeners at most, of all callers together.
const LISTENERS_MAX: usize = 512;
/// Listeners of one caller at most.
const LISTENERS_OF_ONE_MAX: usize = 32;
/// Arrivals given at once at most.
const ARRIVALS_MAX: u32 = 500;
/// After something was given, what comes next is gathered for so long.
const GATHER: Duration = Duration::from_millis(100);
/// Journal rows that are looked through for the newest arrivals of a kind.
const SEARCHED_EVENTS_MAX: u32 = 5000;

/// Where a listener is: it has everything up to here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LivePosition {
    /// The newest event.
    seq: Seq,
    /// The number of the newest attempt.
    ended: u64,
}

/// The text is no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no position in the stream")]
pub struct NotAPosition(String);

impl fmt::Display for LivePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pos_{}_{}", self.seq, self.ended)
    }
}

impl FromStr for LivePosition {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        text.strip_prefix("pos_")
            .and_then(|rest| rest.split_once('_'))
            .filter(|(seq, ended)| digits(seq) && digits(ended))
            .and_then(|(seq, ended)| Some(Self { seq: Seq::new(seq.parse().ok()?), ended: ended.parse().ok()? }))
            .ok_or_else(|| NotAPosition(text.to_owned()))
    }
}

/// What a listener wants.
#[derive(Debug, Clone, Default)]
pub struct LiveRequest {
    /// Only this account's.
    pub account: Option<String>,
    /// Only this; nothing means all.
    pub kinds: Vec<LiveKind>,
    /// Only this subscription's deliveries, and the arrivals that it wants.
    pub subscription: Option<String>,
    /// What came after this; `None` for what comes from now on.
    pub after: Option<LivePosition>,
}

/// A kind of happening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveKind {
    /// An arrival of this kind.
    Arrival(EventKind),
    /// An attempt that ended.
    Delivery,
}

impl FromStr for LiveKind {
    type Err = <EventKind as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "delivery" { Ok(Self::Delivery) } else { text.parse().map(Self::Arrival) }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// An event was recorded.
    Arrival(Event),
    /// An attempt ended.
    Delivery(Told, Arc<Ended>),
    /// Some attempts between are not known any more.
    Missed,
}

/// Who was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The subscription's name.
    pub subscription: String,
    /// Whose events.
    pub account: AccountId,
    /// In which format.
    pub protocol: &'static str,
}

/// What happened last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    /// Where to listen on from.
    pub position: LivePosition,
    /// The newest arrivals, newest first.
    pub arrivals: Vec<Event>,
    /// The last attempts of the newest notifications, newest first.
    pub deliveries: Vec<(Told, Ended)>,
}

/// What a listener may see, and wants to.
struct Scope {
    of: ChangesOf,
    kinds: Vec<LiveKind>,
    /// Only what this one wants.
    only: Option<Subscription>,
    told: HashMap<SubscriptionId, Told>,
    /// The revision of who is who that all this holds for.
    revision: i64,
}

/// Somebody who listens.
pub struct Live {
    ops: Ops,
    scope: Scope,
    position: LivePosition,
    feed: Feed,
    ended: watch::Receiver<u64>,
    advanced: watch::Receiver<u64>,
    gather: bool,
    _seat: Seat,
}

/// How many listen, by who they are: the operator, an account, an application's grant.
#[derive(Default)]
pub(super) struct Listeners(Mutex<HashMap<Listener, usize>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Listener {
    Operator,
    Account(i64),
    Grant(i64),
}

/// A place among the listeners, until it is dropped.
struct Seat {
    ops: Ops,
    who: Listener,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut listeners = self.ops.0.listeners.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = listeners.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                listeners.remove(&self.who);
            }
        }
    }
}

impl Ops {
    /// Begins to listen. A bounded number may.
    pub async fn live(&self, caller: &Caller, request: LiveRequest) -> Result<Live, OpsError> {
        let feed = self.ended()?;
        let scope = self.scope(caller, &request).await?;
        let seat = self.seat(caller)?;
        let position = match request.after {
            Some(after) => {
                self.must_have_been(after.seq).await?;
                after
            }
            None => self.position(&feed).await?,
        };
        let (ended, advanced) = (feed.advanced(), self.0.journal.advanced());
        Ok(Live { ops: self.clone(), scope, position, feed, ended, advanced, gather: false, _seat: seat })
    }

    /// The newest that a listener would have heard, at most `limit` arrivals and as many notifications.
    pub async fn newest(&self, caller: &Caller, request: LiveRequest, limit: u32) -> Result<Newest, OpsError> {
        let feed = self.ended()?;
        let scope = self.scope(caller, &request).await?;
        let position = self.position(&feed).await?;
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut arrivals = Vec::new();
        if scope.wants_arrivals() {
            let search = if scope.is_plain() { limit } else { SEARCHED_EVENTS_MAX };
            arrivals = self.0.store.newest_events(scope.of.account, search).await?;
            arrivals.retain(|event| scope.wants(event));
            arrivals.truncate(wanted);
        }
        let mut deliveries = Vec::new();
        if scope.wants_deliveries() {
            let all = matches!(caller, Caller::Operator) && request.account.is_none() && scope.only.is_none();
            let of = (!all).then(|| scope.told.keys().copied().collect());
            for (notification, attempt) in self.0.store.newest_notifications(of, limit).await? {
                let told = scope.told.get(&notification.subscription);
                if let Some((told, attempt)) = told.zip(attempt) {
                    deliveries.push((told.clone(), Ended::last(&notification, &attempt)));
                }
            }
        }
        Ok(Newest { position, arrivals, deliveries })
    }

    /// The names of the subscriptions that a caller may listen to.
    pub async fn subscription_names(&self, caller: &Caller) -> Result<Vec<String>, OpsError> {
        let of = self.changes_of(caller, None).await?.account;
        let all = self.subscriptions().await?.into_iter();
        let own = all.filter(|one| of.is_none_or(|account| account == one.account) && may_see(caller, one));
        Ok(own.map(|one| one.name).collect())
    }

    fn ended(&self) -> Result<Feed, OpsError> {
        let served = self.0.served.get().ok_or_else(|| OpsError::NotFound("running server".to_owned()))?;
        Ok(served.feed().clone())
    }

    async fn position(&self, feed: &Feed) -> Result<LivePosition, OpsError> {
        // In this order: what is told of an event has a larger number than the event is known by.
        let ended = feed.newest();
        Ok(LivePosition { seq: self.0.store.newest().await?.seq(), ended })
    }

    fn seat(&self, caller: &Caller) -> Result<Seat, OpsError> {
        let who = match caller {
            Caller::Operator => Listener::Operator,
            Caller::Account(caller) => Listener::Account(caller.account.id.get()),
            Caller::Application(caller) => Listener::Grant(caller.grant.id.get()),
        };
        let mut listeners = self.0.listeners.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = listeners.values().sum();
        let own = listeners.entry(who).or_default();
        if all >= LISTENERS_MAX || *own >= LISTENERS_OF_ONE_MAX {
            return Err(OpsError::TooManyListeners);
        }
        *own += 1;
        Ok(Seat { ops: self.clone(), who })
    }

    async fn scope(&self, caller: &Caller, request: &LiveRequest) -> Result<Scope, OpsError> {
        // First: what is read below is at least as new.
        let revision = self.0.store.revision().await?;
        let mut of = self.changes_of(caller, request.account.as_deref()).await?;
        let mut subscriptions = self.subscriptions().await?;
        subscriptions.retain(|one| of.account.is_none_or(|account| account == one.account) && may_see(caller, one));
        let only = match &request.subscription {
            None => None,
            Some(name) => {
                subscriptions.retain(|one| one.name == *name);
                let only = subscriptions.first().cloned();
                Some(only.ok_or_else(|| OpsError::NotFound(format!("subscription `{name}`")))?)
            }
        };
        of.account = only.as_ref().map(|one| one.account).or(of.account);
        let told = subscriptions.into_iter().map(|one| {
            let protocol = one.protocol.kind().as_str();
            (one.id, Told { subscription: one.name, account: one.account, protocol })
        });
        Ok(Scope { of, kinds: request.kinds.clone(), only, told: told.collect(), revision })
    }
}

/// An application sees how its own grant is told, and no other.
fn may_see(caller: &Caller, subscription: &Subscription) -> bool {
    match (caller, &subscription.protocol) {
        (Caller::Operator | Caller::Account(_), _) => true,
        (Caller::Application(caller), Protocol::SageX3 { application, .. }) => *application == caller.application.id,
        (Caller::Application(_), Protocol::Nextcloud { .. } | Protocol::Standard) => false,
    }
}

impl Scope {
    fn wants_arrivals(&self) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|kind| *kind != LiveKind::Delivery)
    }

    fn wants_deliveries(&self) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&LiveKind::Delivery)
    }

    /// Whether every arrival of the account is wanted.
    fn is_plain(&self) -> bool {
        self.kinds.is_empty() && self.only.is_none()
    }

    fn wants(&self, event: &Event) -> bool {
        let kind = self.kinds.is_empty() || self.kinds.contains(&LiveKind::Arrival(event.kind));
        kind && self.only.as_ref().is_none_or(|one| one.filter.wants(event.kind, &event.path))
    }
}

impl Live {
    /// Where the listener is.
    pub fn position(&self) -> LivePosition {
        self.position
    }

    /// What happened since, each with where the listener is when it has it; nothing if nothing did for so long.
    /// `None` if who is who has changed: whoever listens has to ask anew.
    pub async fn next(&mut self, patience: Duration) -> Result<Option<Vec<(LivePosition, Happening)>>, OpsError> {
        let deadline = tokio::time::Instant::now() + patience;
        if std::mem::take(&mut self.gather) {
            tokio::time::sleep(GATHER).await;
        }
        loop {
            self.ended.mark_unchanged();
            self.advanced.mark_unchanged();
            let Some(happened) = self.read().await? else { return Ok(None) };
            if !happened.is_empty() {
                self.gather = true;
                return Ok(Some(happened));
            }
            tokio::select! {
                _ = self.ended.changed() => (),
                _ = self.advanced.changed() => (),
                () = tokio::time::sleep_until(deadline) => return Ok(Some(Vec::new())),
            }
        }
    }

    async fn read(&mut self) -> Result<Option<Vec<(LivePosition, Happening)>>, OpsError> {
        // Before the journal: what is told of an event comes after it.
        let since = self.feed.since(self.position.ended);
        let after = Cursor::after(self.position.seq);
        let page = self.ops.0.store.changes(self.scope.of.clone(), after, ARRIVALS_MAX).await?;
        // After both: by what was granted and subscribed while they were read, they are not judged.
        if self.ops.0.store.revision().await? != self.scope.revision {
            return Ok(None);
        }
        let mut happened = Vec::new();
        for event in page.events {
            self.position.seq = event.seq;
            if self.scope.wants(&event) {
                happened.push((self.position, Happening::Arrival(event)));
            }
        }
        self.position.seq = self.position.seq.max(page.next.seq());
        if !page.more {
            self.take(since, &mut happened);
        }
        Ok(Some(happened))
    }

    fn take(&mut self, since: Since, happened: &mut Vec<(LivePosition, Happening)>) {
        if since.missed && self.scope.wants_deliveries() {
            self.position.ended = since.ended.first().map_or(since.newest, |oldest| oldest.number - 1);
            happened.push((self.position, Happening::Missed));
        }
        for ended in since.ended {
            self.position.ended = ended.number;
            if let Some(told) = self.scope.told.get(&ended.subscription).filter(|_| self.scope.wants_deliveries()) {
                happened.push((self.position, Happening::Delivery(told.clone(), ended)));
            }
        }
        self.position.ended = since.newest;
    }
}
