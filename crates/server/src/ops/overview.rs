//! How everything of a caller's stands, at one glance.

use std::time::Duration;

use filebell_core::time::TimestampMs;

use super::health::HealthReport;
use super::observe::{Served, StatusReport, SubscriptionReport, watches_allowed};
use super::{Caller, Ops, OpsError};

/// More watches in use than this part in ten of those allowed is near the limit.
const WATCHES_TENTHS: u64 = 9;

/// How everything of a caller's stands.
#[derive(Debug, Clone)]
pub struct Overview {
    /// Events recorded since midnight (UTC).
    pub arrivals_today: u64,
    /// Notifications accepted since midnight (UTC).
    pub told_today: u64,
    /// Notifications that wait.
    pub waiting: u64,
    /// Notifications that were given up and can be replayed.
    pub dead: u64,
    /// How old the oldest event is that somebody is still to be told of.
    pub oldest_untold: Option<Duration>,
    /// Whether anything ever arrived.
    pub any_event: bool,
    /// Whether there is any account.
    pub any_account: bool,
    /// The sources and the subscriptions.
    pub status: StatusReport,
    /// The watches of all roots together.
    pub watches: Watches,
    /// Whether all is well; only for the operator.
    pub health: Option<HealthReport>,
    /// Since when the server runs.
    pub since: Option<TimestampMs>,
}

/// Watches in use, of those that the user may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watches {
    /// In use by filebell.
    pub used: u64,
    /// Allowed; `None` if the system does not say.
    pub allowed: Option<u64>,
}

impl Watches {
    /// Whether they are nearly used up.
    pub fn near(&self) -> bool {
        self.allowed.is_some_and(|all| self.used.saturating_mul(10) >= all.saturating_mul(WATCHES_TENTHS))
    }
}

impl SubscriptionReport {
    /// Whether something is wrong with telling it.
    pub fn fails(&self) -> bool {
        // Both are written alike, so that the later one is the larger one.
        let failed_last = self.last_failure_at.is_some() && self.last_failure_at > self.last_success_at;
        failed_last || self.dead > 0 || self.unfetched_at.is_some() || self.status == "disabled"
    }
}

impl Ops {
    /// How everything of the caller's stands.
    pub async fn overview(&self, caller: &Caller) -> Result<Overview, OpsError> {
        let account = self.looked_at(caller)?;
        let status = self.status_of(account).await?;
        let newest = match account {
            None => status.store.newest_seq,
            Some(account) => self.0.store.newest_of(account).await?.get(),
        };
        let today = self.today(account).await?;
        let oldest = status.subscriptions.iter().filter_map(|one| one.oldest_untold_at.as_deref()).min();
        Ok(Overview {
            arrivals_today: today.arrivals,
            told_today: today.delivered,
            waiting: status.subscriptions.iter().map(|one| one.pending).sum(),
            dead: status.subscriptions.iter().map(|one| one.dead).sum(),
            oldest_untold: oldest.and_then(|at| at.parse().ok()).map(|at| self.0.seams.now().since(at)),
            any_event: newest > 0,
            any_account: account.is_some() || !self.directory().await?.accounts.is_empty(),
            watches: Watches {
                used: status.sources.iter().map(|source| source.watches).sum(),
                allowed: watches_allowed(),
            },
            health: account.is_none().then(|| self.health_with(&status)),
            since: self.0.served.get().map(Served::since),
            status,
        })
    }
}
