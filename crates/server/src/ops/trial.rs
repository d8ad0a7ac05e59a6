//! Test deliveries: a real POST to a receiver, that stands in no ledger.

use std::pin::Pin;

use filebell_core::id::NotificationId;
use filebell_core::plan::Mark;
use filebell_core::subscription::{ProtocolKind, Subscription, SubscriptionStatus};
use filebell_core::time::TimestampSecs;

use super::admin::random_uuid;
use super::{Caller, Ops, OpsError};
use crate::delivery::{Letter, Trial};

/// Test deliveries under way at once; each takes as long as its receiver, up to `delivery.timeout`.
pub(super) const TRIALS_AT_ONCE: usize = 4;

/// Delivers a test.
pub type SendTrial = Box<dyn Fn(Subscription, Letter) -> Sending + Send + Sync>;
type Sending = Pin<Box<dyn Future<Output = Trial> + Send>>;

impl Ops {
    /// From now on `send` delivers tests.
    pub fn trying(&self, send: SendTrial) {
        // A second call changes nothing; there is one app to call it.
        let _ = self.0.send_trial.set(send);
    }

    /// Delivers a test to a subscription that the caller may know of, also while it is paused. Nothing is recorded,
    /// and nothing that is owed changes: neither what was told, nor the interval, nor the `since` of the next
    /// notification.
    pub async fn try_subscription(&self, caller: &Caller, name: &str) -> Result<Trial, OpsError> {
        let missing = || OpsError::NotFound(format!("subscription `{name}`"));
        let subscription = self.subscription(name).await?;
        let theirs = match caller {
            Caller::Operator => true,
            Caller::Account(caller) => subscription.account == caller.account.id,
            Caller::Application(_) => false,
        };
        if !theirs {
            return Err(missing());
        }
        if subscription.status == SubscriptionStatus::Revoked {
            return Err(OpsError::Conflict(format!("the grant behind subscription `{name}` was taken back")));
        }
        let no_server = || OpsError::Conflict("no server is running here".to_owned());
        let send = self.0.send_trial.get().ok_or_else(no_server)?;
        let _permit = self.0.trials.try_acquire().map_err(|_| OpsError::Busy("other test deliveries"))?;
        let since = match subscription.protocol.kind() {
            ProtocolKind::Nextcloud => self.0.store.shown_until(subscription.id).await?,
            ProtocolKind::SageX3 | ProtocolKind::Standard => TimestampSecs::from_secs(0),
        };
        // It covers nothing: what comes after the newest event up to the newest event.
        let newest = Mark { seq: self.0.store.newest().await?.seq(), ordinal: 0 };
        let (notification, created_at) = (NotificationId::new(random_uuid()?), self.0.seams.now());
        Ok(send(subscription, Letter { notification, after: newest, last: newest, created_at, since }).await)
    }
}
