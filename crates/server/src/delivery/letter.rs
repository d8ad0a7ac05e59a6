//! From a claimed notification to the request that tells it: the one place that knows which protocol writes what.

use filebell_core::endpoint::EndpointUrl;
use filebell_core::id::{Cursor, NotificationId};
use filebell_core::plan::Mark;
use filebell_core::subscription::{Protocol, Subscription};
use filebell_core::time::{TimestampMs, TimestampSecs};
use filebell_core::wire::{SignedRequest, nextcloud, sagex3, standard};
use sha2::{Digest, Sha256};

use super::egress;
use crate::store::Claimed;

/// The body of a notification: the one of its first attempt, else a new one.
pub(super) fn body(claimed: &Claimed, subscription: &Subscription, public_url: &str) -> Vec<u8> {
    if let Some(body) = &claimed.body {
        return body.clone();
    }
    let Claimed { notification, after, last, created_at, since, .. } = *claimed;
    Letter { notification, after, last, created_at, since }.body(subscription, public_url)
}

/// What a notification says.
#[derive(Debug, Clone, Copy)]
pub struct Letter {
    /// Its id.
    pub notification: NotificationId,
    /// The last event it does not cover.
    pub after: Mark,
    /// The last event it covers.
    pub last: Mark,
    /// When it was made.
    pub created_at: TimestampMs,
    /// What `since` of the Nextcloud protocol says.
    pub since: TimestampSecs,
}

/// A request as it goes out, for a person to read.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The request line and the headers; what a query carries is not shown.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
    /// The same as the attempt's own if it was sent like this, see [`crate::store::Attempt::print`].
    pub print: u32,
}

impl Letter {
    /// A new body.
    pub(super) fn body(&self, subscription: &Subscription, public_url: &str) -> Vec<u8> {
        match &subscription.protocol {
            Protocol::Nextcloud { connection_id } => {
                nextcloud::body(connection_id, subscription.min_interval, self.since)
            }
            Protocol::SageX3 { customer, .. } => sagex3::body(public_url, self.notification, customer, self.created_at),
            Protocol::Standard => standard::body(&standard::Thin {
                subscription: subscription.id,
                account: &subscription.account_name,
                after: Cursor::after(self.after.seq),
                last: Cursor::after(self.last.seq),
                count: self.last.ordinal.saturating_sub(self.after.ordinal),
                created_at: self.created_at,
                public_url,
            }),
        }
    }

    /// The request of an attempt that began at `at`, as it would be sent now. `body` is the one that was kept.
    pub fn shown(
        &self,
        body: Option<Vec<u8>>,
        subscription: &Subscription,
        public_url: &str,
        at: TimestampMs,
    ) -> Result<Shown, standard::NotAStandardKey> {
        let body = body.unwrap_or_else(|| self.body(subscription, public_url));
        let request = sign(body, self.notification, subscription, at)?;
        let (head, print) = (egress::head(&subscription.endpoint, &request), print(&subscription.endpoint, &request));
        Ok(Shown { head, body: request.body, print })
    }
}

/// 32 bits that tell whether a request that is built again comes out as it was sent: a hash over the URL, the signed
/// headers and the body.
pub(super) fn print(endpoint: &EndpointUrl, request: &SignedRequest) -> u32 {
    let mut hash = Sha256::new();
    hash.update(endpoint.url().as_str());
    for (name, value) in &request.headers {
        hash.update(["\n", name, ":", value].concat());
    }
    hash.update("\n\n");
    hash.update(&request.body);
    hash.finalize().iter().take(4).fold(0, |print, byte| print << 8 | u32::from(*byte))
}

/// Signs a body for an attempt made now.
pub(super) fn sign(
    body: Vec<u8>,
    notification: NotificationId,
    subscription: &Subscription,
    now: TimestampMs,
) -> Result<SignedRequest, standard::NotAStandardKey> {
    match &subscription.protocol {
        Protocol::Nextcloud { .. } => Ok(nextcloud::sign(body, &subscription.key)),
        Protocol::SageX3 { signature_encoding, .. } => Ok(sagex3::sign(body, &subscription.key, *signature_encoding)),
        Protocol::Standard => {
            let key = standard::StandardKey::parse(&subscription.key)?;
            Ok(standard::sign(body, notification, now.to_secs(), &key))
        }
    }
}
