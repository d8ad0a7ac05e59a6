//! From a claimed notification to the request that tells it: the one place that knows which protocol writes what.

use filebell_core::endpoint::EndpointUrl;
use filebell_core::id::Cursor;
use filebell_core::subscription::{Protocol, Subscription};
use filebell_core::time::TimestampMs;
use filebell_core::wire::{SignedRequest, nextcloud, sagex3, standard};
use sha2::{Digest, Sha256};

use crate::store::Claimed;

/// The body of a notification: the one of its first attempt, else a new one.
pub(super) fn body(claimed: &Claimed, subscription: &Subscription, public_url: &str) -> Vec<u8> {
    if let Some(body) = &claimed.body {
        return body.clone();
    }
    match &subscription.protocol {
        Protocol::Nextcloud { connection_id } => {
            nextcloud::body(connection_id, subscription.min_interval, claimed.since)
        }
        Protocol::SageX3 { customer, .. } => {
            sagex3::body(public_url, claimed.notification, customer, claimed.created_at)
        }
        Protocol::Standard => standard::body(&standard::Thin {
            subscription: subscription.id,
            account: &subscription.account_name,
            after: Cursor::after(claimed.after.seq),
            last: Cursor::after(claimed.last.seq),
            count: claimed.last.ordinal.saturating_sub(claimed.after.ordinal),
            created_at: claimed.created_at,
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
    claimed: &Claimed,
    subscription: &Subscription,
    now: TimestampMs,
) -> Result<SignedRequest, standard::NotAStandardKey> {
    match &subscription.protocol {
        Protocol::Nextcloud { .. } => Ok(nextcloud::sign(body, &subscription.key)),
        Protocol::SageX3 { signature_encoding, .. } => Ok(sagex3::sign(body, &subscription.key, *signature_encoding)),
        Protocol::Standard => {
            let key = standard::StandardKey::parse(&subscription.key)?;
            Ok(standard::sign(body, claimed.notification, now.to_secs(), &key))
        }
    }
}
