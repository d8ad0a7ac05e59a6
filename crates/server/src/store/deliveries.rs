//! The verbs about notifications as people look for them, and about telling again.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use filebell_core::event::Event;
use filebell_core::id::{NotAnId, NotificationId, Seq, SubscriptionId};
use filebell_core::subscription::Subscription;
use filebell_core::time::{TimestampMs, TimestampSecs};

use super::{Attempt, Notification, NotificationState, Store, StoreError, dispatch};

/// Which notifications are looked for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Those of these subscriptions.
    pub subscriptions: Vec<Arc<Subscription>>,
    /// These are all there are.
    pub all: bool,
    /// In this state.
    pub state: Option<NotificationState>,
    /// Made at this time or later.
    pub from: Option<TimestampMs>,
    /// Made before this time.
    pub until: Option<TimestampMs>,
    /// Telling of a file at this path; or, without a slash at its beginning, of one whose path holds this text, in
    /// whatever case. Empty is any.
    pub file: Vec<u8>,
}

/// A place in the list of notifications, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// What follows is older than this one.
    pub before: NotificationId,
    /// Or is this one itself, looked through up to here.
    pub seen: Option<Seq>,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seen {
            None => write!(f, "{}", self.before),
            Some(seq) => write!(f, "{}.{seq}", self.before),
        }
    }
}

impl FromStr for Position {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (id, seen) = text.split_once('.').map_or((text, None), |(id, seq)| (id, Some(seq)));
        let wrong = || text.parse::<NotificationId>().err();
        let seen = match seen.map(str::parse) {
            None => None,
            Some(Ok(seq)) => Some(Seq::new(seq)),
            // The whole text is no id, and says so.
            Some(Err(_)) => return wrong().map_or_else(|| Ok(Self { before: id.parse()?, seen: None }), Err),
        };
        Ok(Self { before: id.parse()?, seen })
    }
}

/// A page of notifications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Newest first.
    pub rows: Vec<Listed>,
    /// Where to go on; `None` at the end.
    pub next: Option<Position>,
    /// The search stopped there because it had looked at enough; there may be more behind `next`.
    pub searched_to: Option<TimestampMs>,
}

/// One notification of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// As it stands.
    pub notification: Notification,
    /// How many attempts were made in all, also before it was replayed.
    pub attempts: u32,
    /// How many events it covers.
    pub count: u64,
    /// The first of them; `None` if it was not found soon.
    pub first: Option<Event>,
    /// How the last attempt went.
    pub last: Option<Attempt>,
}

/// All about one notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// As it stands.
    pub notification: Notification,
    /// When it came to its end.
    pub settled_at: Option<TimestampMs>,
    /// When its detail was read, where that can be done once.
    pub consumed_at: Option<TimestampMs>,
    /// The body that is kept while it is not delivered.
    pub body: Option<Vec<u8>>,
    /// Its attempts from first to last, each with what `since` of the Nextcloud protocol said.
    pub attempts: Vec<(u32, Attempt, TimestampSecs)>,
    /// There were more, in between.
    pub left_out: u64,
}

/// The events of a notification, page by page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covered {
    /// In order.
    pub events: Vec<Event>,
    /// Where to go on; `None` at the end.
    pub next: Option<Seq>,
}

/// What came of a replay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    /// So many are due.
    pub due: u64,
    /// So many stay as they are: they wait already, or one of their subscription does that goes first.
    pub left: u64,
}

impl Store {
    /// At most `limit` notifications, newest first, from a position on. Looks at a bounded number of rows and says
    /// where it stopped.
    pub async fn list(&self, wanted: Wanted, from: Option<Position>, limit: usize) -> Result<Listing, StoreError> {
        dispatch!(self, list(wanted, from, limit))
    }

    /// At most `limit` of the wanted notifications that can be told again, newest first, each with its subscription.
    /// Where one notification stands for many events, only the newest, and only if none of its subscription waits.
    pub async fn replayable(
        &self,
        wanted: Wanted,
        from: Option<Position>,
        limit: usize,
    ) -> Result<(Vec<(NotificationId, SubscriptionId)>, Option<Position>), StoreError> {
        dispatch!(self, replayable(wanted, from, limit))
    }

    /// All about a notification.
    pub async fn full(&self, id: NotificationId) -> Result<Option<Full>, StoreError> {
        dispatch!(self, full(id))
    }

    /// At most `limit` events that a notification of `subscription` tells of, after `after`.
    pub async fn covered(
        &self,
        notification: Notification,
        subscription: Arc<Subscription>,
        after: Option<Seq>,
        limit: usize,
    ) -> Result<Covered, StoreError> {
        dispatch!(self, covered(notification, subscription, after, limit))
    }

    /// Makes notifications that ended due at `now` or when their interval allows: those that died, and those that were
    /// delivered, again under the same id.
    pub async fn replay(&self, ids: Vec<NotificationId>, now: TimestampMs) -> Result<Replayed, StoreError> {
        dispatch!(self, replay(ids, now))
    }
}
