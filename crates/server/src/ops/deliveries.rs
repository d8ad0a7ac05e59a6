//! Notifications as people look for them: which there are, what was sent, and telling again.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use filebell_core::id::{NotificationId, Seq, SubscriptionId};
use filebell_core::subscription::{Cadence, Subscription};
use filebell_core::time::TimestampMs;

use super::{Caller, Ops, OpsError};
use crate::delivery::{Letter, Shown};
use crate::store::{Attempt, Covered, Full, Listed, NotificationState, Position, Replayed, Wanted};

/// At most so many notifications are told again in one go.
const REPLAY_MAX: usize = 10_000;
/// So many are made due in one commit, so that new events need not wait for all.
const REPLAY_BATCH: usize = 500;

/// Which notifications are looked for, as it was typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// A subscription's name.
    pub subscription: Option<String>,
    /// In this state.
    pub state: Option<NotificationState>,
    /// Made at this time or later.
    pub from: Option<TimestampMs>,
    /// Made before this time.
    pub until: Option<TimestampMs>,
    /// A path, or a part of one; empty is any.
    pub file: Vec<u8>,
}

/// A page of notifications.
#[derive(Debug, Clone)]
pub struct Deliveries {
    /// Newest first, each with its subscription.
    pub rows: Vec<(Listed, Arc<Subscription>)>,
    /// Where to go on; `None` at the end.
    pub next: Option<Position>,
    /// The search stopped there because it had looked at enough.
    pub searched_to: Option<TimestampMs>,
}

/// All about one notification.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// As it stands.
    pub full: Full,
    /// Who is told.
    pub subscription: Arc<Subscription>,
    /// First to last.
    pub attempts: Vec<AttemptShown>,
}

/// One attempt, with the request built again.
#[derive(Debug, Clone)]
pub struct AttemptShown {
    /// Its number.
    pub number: u32,
    /// How it went.
    pub attempt: Attempt,
    /// The request as it would be sent now; `None` if the key cannot sign.
    pub request: Option<Shown>,
    /// It was sent exactly so. Else the key, the URL or what the body is made of has changed since; `None` if that is
    /// not known.
    pub exact: Option<bool>,
}

/// What would be told again.
#[derive(Debug, Clone)]
pub struct ReplayPlan {
    /// How many, by subscription's name.
    pub by_subscription: Vec<(Arc<Subscription>, u64)>,
    /// In all.
    pub count: u64,
    /// There are more: they come with the next replay.
    pub more: bool,
    ids: Vec<NotificationId>,
}

/// What one notification's replay came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// It is due.
    Due,
    /// It waits already.
    Waits,
    /// Another of its subscription waits, and tells all that is new.
    AnotherWaits,
    /// Its grant was taken back.
    Revoked,
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Due => "it is due again",
            Self::Waits => "it waits already",
            Self::AnotherWaits => "another notification of its subscription waits; try again when that is told",
            Self::Revoked => "the grant behind it was taken back",
        })
    }
}

impl Ops {
    /// The subscriptions a caller may see: the operator all, an account its own.
    pub async fn own_subscriptions(&self, caller: &Caller) -> Result<Vec<Arc<Subscription>>, OpsError> {
        let all = self.subscriptions().await?.into_iter().map(Arc::new);
        match caller {
            Caller::Operator => Ok(all.collect()),
            Caller::Account(caller) => Ok(all.filter(|one| one.account == caller.account.id).collect()),
            Caller::Application(_) => Err(OpsError::NotGranted("what is the account's own".to_owned())),
        }
    }

    /// At most `limit` of the notifications a caller may see, newest first, from a position on.
    pub async fn deliveries(
        &self,
        caller: &Caller,
        search: Search,
        from: Option<Position>,
        limit: usize,
    ) -> Result<Deliveries, OpsError> {
        let wanted = self.wanted(caller, search).await?;
        let by_id: HashMap<_, _> = wanted.subscriptions.iter().map(|one| (one.id, one.clone())).collect();
        let listing = self.0.store.list(wanted, from, limit).await?;
        let with_subscription = |row: Listed| Some((by_id.get(&row.notification.subscription)?.clone(), row));
        Ok(Deliveries {
            rows: listing.rows.into_iter().filter_map(with_subscription).map(|(of, row)| (row, of)).collect(),
            next: listing.next,
            searched_to: listing.searched_to,
        })
    }

    /// All about a notification that the caller may see.
    pub async fn delivery(&self, caller: &Caller, id: NotificationId) -> Result<Delivery, OpsError> {
        let missing = || OpsError::NotFound(format!("notification {id}"));
        let mut full = self.0.store.full(id).await?.ok_or_else(missing)?;
        let subscription = self.own_subscription(caller, full.notification.subscription).await?.ok_or_else(missing)?;
        let notification = &full.notification;
        let attempts = std::mem::take(&mut full.attempts);
        let attempts = attempts.into_iter().map(|(number, attempt, since)| {
            let (after, last, created_at) = (notification.after, notification.last, notification.created_at);
            let letter = Letter { notification: id, after, last, created_at, since };
            let shown = letter.shown(full.body.clone(), &subscription, self.0.public_url.as_str(), attempt.started_at);
            let request = shown.ok();
            let exact = request.as_ref().zip(attempt.print).map(|(request, print)| request.print == print);
            AttemptShown { number, attempt, request, exact }
        });
        let attempts = attempts.collect();
        Ok(Delivery { full, subscription, attempts })
    }

    /// At most `limit` events that a notification tells of, after `after`.
    pub async fn delivery_events(
        &self,
        delivery: &Delivery,
        after: Option<Seq>,
        limit: usize,
    ) -> Result<Covered, OpsError> {
        let notification = delivery.full.notification.clone();
        Ok(self.0.store.covered(notification, delivery.subscription.clone(), after, limit).await?)
    }

    /// Tells a notification again, under the same id.
    pub async fn replay(&self, caller: &Caller, id: NotificationId) -> Result<Replay, OpsError> {
        let missing = || OpsError::NotFound(format!("notification {id}"));
        let notification = self.0.store.notification(id).await?.ok_or_else(missing)?;
        let subscription = self.own_subscription(caller, notification.subscription).await?.ok_or_else(missing)?;
        let Replayed { due, .. } = self.0.store.replay(vec![id], self.0.seams.now()).await?;
        if due > 0 {
            tracing::info!(notification.id = %id, subscription.name = subscription.name, "told again by hand");
        }
        Ok(match notification.state {
            _ if due > 0 => Replay::Due,
            NotificationState::Pending | NotificationState::Told => Replay::Waits,
            NotificationState::Revoked => Replay::Revoked,
            NotificationState::Delivered | NotificationState::Dead | NotificationState::Superseded => {
                match subscription.cadence() {
                    Cadence::PerEvent => Replay::Revoked,
                    Cadence::Coalesced { .. } => Replay::AnotherWaits,
                }
            }
        })
    }

    /// What a replay of all that a search finds would tell again. `until` keeps out what is made later.
    pub async fn plan_replay(&self, caller: &Caller, search: Search) -> Result<ReplayPlan, OpsError> {
        let wanted = self.wanted(caller, search).await?;
        let by_id: HashMap<_, _> = wanted.subscriptions.iter().map(|one| (one.id, one.clone())).collect();
        let (found, next) = self.0.store.replayable(wanted, None, REPLAY_MAX).await?;
        let mut counts: HashMap<SubscriptionId, u64> = HashMap::new();
        for (_, subscription) in &found {
            *counts.entry(*subscription).or_default() += 1;
        }
        let with_subscription = |(id, count)| Some((by_id.get(&id)?.clone(), count));
        let mut by_subscription: Vec<(Arc<Subscription>, u64)> =
            counts.into_iter().filter_map(with_subscription).collect();
        by_subscription.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        let ids: Vec<NotificationId> = found.into_iter().map(|(id, _)| id).collect();
        Ok(ReplayPlan { by_subscription, count: ids.len() as u64, more: next.is_some(), ids })
    }

    /// Tells all of a plan again.
    pub async fn replay_planned(&self, plan: &ReplayPlan) -> Result<Replayed, OpsError> {
        let mut all = Replayed::default();
        for batch in plan.ids.chunks(REPLAY_BATCH) {
            let replayed = self.0.store.replay(batch.to_vec(), self.0.seams.now()).await?;
            all = Replayed { due: all.due + replayed.due, left: all.left + replayed.left };
        }
        tracing::info!(notifications = all.due, "told again by hand");
        Ok(all)
    }

    /// The time, for a search that is to find the same later.
    pub fn now(&self) -> TimestampMs {
        self.0.seams.now()
    }

    async fn own_subscription(
        &self,
        caller: &Caller,
        id: SubscriptionId,
    ) -> Result<Option<Arc<Subscription>>, OpsError> {
        Ok(self.own_subscriptions(caller).await?.into_iter().find(|one| one.id == id))
    }

    async fn wanted(&self, caller: &Caller, search: Search) -> Result<Wanted, OpsError> {
        let mut subscriptions = self.own_subscriptions(caller).await?;
        let mut all = matches!(caller, Caller::Operator);
        if let Some(name) = search.subscription {
            subscriptions.retain(|one| one.name == name);
            all = false;
            if subscriptions.is_empty() {
                return Err(OpsError::NotFound(format!("subscription `{name}`")));
            }
        }
        let Search { state, from, until, file, .. } = search;
        Ok(Wanted { subscriptions, all, state, from, until, file })
    }
}
