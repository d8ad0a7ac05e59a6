//! How each subscription stands, and what each account holds: gathered while a transaction runs, and written once at
//! its end.

use std::collections::BTreeMap;

use filebell_core::id::{AccountId, SubscriptionId};
use rusqlite::{Transaction, params};

use super::super::{Attempt, NotificationState, StoreError};
use super::rows::signed;

/// What a transaction changed. Whoever writes a notification's state, or a file's size, says so here.
#[derive(Default)]
pub(super) struct Tally {
    subscriptions: BTreeMap<SubscriptionId, Change>,
    /// By how many bytes more an account holds.
    bytes: BTreeMap<AccountId, i64>,
}

#[derive(Default)]
struct Change {
    pending: i64,
    delivered: i64,
    dead: i64,
    superseded: i64,
    /// When the newest attempt ended that ended well, in ms.
    success_at: Option<i64>,
    /// When the newest attempt ended that ended badly, in ms, and what was wrong.
    failure: Option<(i64, String)>,
}

impl Tally {
    /// So many pending notifications were made.
    pub(super) fn made(&mut self, subscription: SubscriptionId, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.subscriptions.entry(subscription).or_default().add(NotificationState::Pending, count);
    }

    /// So many notifications went from one state to another.
    pub(super) fn went(
        &mut self,
        subscription: SubscriptionId,
        from: NotificationState,
        to: NotificationState,
        count: usize,
    ) {
        if from != to && count > 0 {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            let change = self.subscriptions.entry(subscription).or_default();
            change.add(from, -count);
            change.add(to, count);
        }
    }

    /// An attempt has ended; the last one told of counts as the newest.
    pub(super) fn attempted(&mut self, subscription: SubscriptionId, accepted: bool, attempt: &Attempt) {
        let change = self.subscriptions.entry(subscription).or_default();
        let ended_at = attempt.started_at.after(attempt.took).as_millis();
        if accepted {
            change.success_at = Some(ended_at);
            return;
        }
        let why = match (&attempt.detail, attempt.status) {
            (Some(detail), Some(status)) => format!("{status}: {detail}"),
            (Some(detail), None) => detail.clone(),
            (None, Some(status)) => status.to_string(),
            (None, None) => String::new(),
        };
        change.failure = Some((ended_at, why));
    }

    /// An account holds so many bytes where it held `before`.
    pub(super) fn holds(&mut self, account: AccountId, before: u64, now: u64) {
        if before != now {
            *self.bytes.entry(account).or_default() += signed(now).wrapping_sub(signed(before));
        }
    }

    /// Writes what was gathered.
    pub(super) fn write(self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        for (account, bytes) in self.bytes {
            transaction
                .prepare_cached("UPDATE account SET used_bytes = used_bytes + ?2 WHERE id = ?1")?
                .execute(params![account.get(), bytes])?;
        }
        for (subscription, change) in self.subscriptions {
            let (failure_at, failure) = change.failure.unzip();
            transaction
                .prepare_cached(
                    "UPDATE tally SET pending = pending + ?2, delivered = delivered + ?3, dead = dead + ?4,
                         superseded = superseded + ?5, last_success_at = coalesce(?6, last_success_at),
                         last_failure_at = coalesce(?7, last_failure_at), last_failure = coalesce(?8, last_failure)
                     WHERE subscription = ?1",
                )?
                .execute(params![
                    subscription.get(),
                    change.pending,
                    change.delivered,
                    change.dead,
                    change.superseded,
                    change.success_at,
                    failure_at,
                    failure
                ])?;
        }
        Ok(())
    }
}

impl Change {
    fn add(&mut self, state: NotificationState, count: i64) {
        match state {
            NotificationState::Pending => self.pending += count,
            NotificationState::Delivered => self.delivered += count,
            NotificationState::Dead => self.dead += count,
            NotificationState::Superseded => self.superseded += count,
            // Are not counted.
            NotificationState::Told | NotificationState::Revoked => (),
        }
    }
}
