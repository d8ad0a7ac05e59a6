//! From a claimed notification to the request that tells it: the one place that knows which protocol writes what.

use filebell_core::endpoint::EndpointUrl;
use filebell_core::id::{Cursor, NotificationId};
use filebell_core::subscription::{Protocol, Subscription};
use filebell_core::time::{TimestampMs, TimestampSecs};
use filebell_core::wire::{SignedRequest, nextcloud, sagex3, standard};
use sha2::{Digest, Sha256};

use super::trial::About;
use crate::store::Claimed;

/// What is told by a body.
struct Told {
    id: NotificationId,
    after: Cursor,
    last: Cursor,
    count: u64,
    created_at: TimestampMs,
    since: TimestampSecs,
}

/// The body of a notification: the one of its first attempt, else a new one.
pub(super) fn body(claimed: &Claimed, subscription: &Subscription, public_url: &str) -> Vec<u8> {
    if let Some(body) = &claimed.body {
        return body.clone();
    }
    let told = Told {
        id: claimed.notification,
        after: Cursor::after(claimed.after.seq),
        last: Cursor::after(claimed.last.seq),
        count: claimed.last.ordinal.saturating_sub(claimed.after.ordinal),
        created_at: claimed.created_at,
        since: claimed.since,
    };
    write(&told, subscription, public_url)
}

/// The body of a trial: of the form that the receiver knows, about nothing.
pub(super) fn trial_body(about: &About, subscription: &Subscription, public_url: &str) -> Vec<u8> {
    let About { id, at, since, now } = *about;
    write(&Told { id, after: at, last: at, count: 0, created_at: now, since }, subscription, public_url)
}

fn write(told: &Told, subscription: &Subscription, public_url: &str) -> Vec<u8> {
    match &subscription.protocol {
        Protocol::Nextcloud { connection_id } => nextcloud::body(connection_id, subscription.min_interval, told.since),
        Protocol::SageX3 { customer, .. } => sagex3::body(public_url, told.id, customer, told.created_at),
        Protocol::Standard => standard::body(&standard::Thin {
            subscription: subscription.id,
            account: &subscription.account_name,
            after: told.after,
            last: told.last,
            count: told.count,
            created_at: told.created_at,
            public_url,
        }),
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
    id: NotificationId,
    subscription: &Subscription,
    now: TimestampMs,
) -> Result<SignedRequest, standard::NotAStandardKey> {
    match &subscription.protocol {
        Protocol::Nextcloud { .. } => Ok(nextcloud::sign(body, &subscription.key)),
        Protocol::SageX3 { signature_encoding, .. } => Ok(sagex3::sign(body, &subscription.key, *signature_encoding)),
        Protocol::Standard => {
            let key = standard::StandardKey::parse(&subscription.key)?;
            Ok(standard::sign(body, id, now.to_secs(), &key))
        }
    }
}
