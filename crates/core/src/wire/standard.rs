//! Standard Webhooks, version 1 (HMAC): signing, checking, and a thin notification that says where to look.
//!
//! Signed is `id.timestamp.body`; the time is that of the attempt, so a receiver can refuse what is replayed late.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{SignedRequest, VerifyError, base, json, percent_encode, sign};
use crate::id::{Cursor, NotificationId, SubscriptionId};
use crate::secret::Secret;
use crate::time::{TimestampMs, TimestampSecs};

/// The header with the id of the message: the same over all attempts.
pub const ID_HEADER: &str = "webhook-id";
/// The header with the time of the attempt, seconds since the Unix epoch.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The header with the signatures, separated by blanks.
pub const SIGNATURE_HEADER: &str = "webhook-signature";
/// The `type` of the notification written here.
pub const FILES_CHANGED: &str = "files.changed";

const PREFIX: &str = "whsec_";
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A signing key. Prints nothing and is wiped when dropped.
#[derive(Clone)]
pub struct StandardKey(Zeroizing<Vec<u8>>);

/// The text or the bytes are not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key is `whsec_` and the base64 of {min} to {max} bytes", min = StandardKey::BYTES_MIN, max = StandardKey::BYTES_MAX)]
pub struct NotAStandardKey;

impl StandardKey {
    /// The fewest bytes a key may have.
    pub const BYTES_MIN: usize = 24;
    /// The most bytes a key may have.
    pub const BYTES_MAX: usize = 64;

    /// Takes fresh random bytes.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, NotAStandardKey> {
        let bytes = Zeroizing::new(bytes);
        if (Self::BYTES_MIN..=Self::BYTES_MAX).contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(NotAStandardKey) }
    }

    /// Reads the text of a key; the prefix and the padding may be missing.
    pub fn parse(text: &Secret) -> Result<Self, NotAStandardKey> {
        let text = text.expose().trim();
        let bytes = LENIENT.decode(text.strip_prefix(PREFIX).unwrap_or(text)).map_err(|_| NotAStandardKey)?;
        Self::from_bytes(bytes)
    }

    /// The text of the key, to be shown once: `whsec_` and base64.
    pub fn to_text(&self) -> Secret {
        Secret::new(format!("{PREFIX}{}", sign::base64(&self.0)))
    }
}

impl std::fmt::Debug for StandardKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StandardKey(..)")
    }
}

/// What a thin notification says.
#[derive(Debug, Clone, Copy)]
pub struct Thin<'a> {
    /// Whose endpoint it is sent to.
    pub subscription: SubscriptionId,
    /// The name of the account in which something changed.
    pub account: &'a str,
    /// The position just before the first event it covers.
    pub after: Cursor,
    /// The position of the last event it covers.
    pub last: Cursor,
    /// How many events it covers.
    pub count: u64,
    /// When the notification came to be owed.
    pub created_at: TimestampMs,
    /// The base of the URLs handed out.
    pub public_url: &'a str,
}

#[derive(Serialize, Deserialize)]
struct Body {
    r#type: String,
    timestamp: String,
    data: Changed,
}

/// The `data` of a `files.changed` notification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Changed {
    /// The subscription that is told, `sub_<n>`.
    #[serde(default)]
    pub subscription: String,
    /// The name of the account.
    pub account: String,
    /// Ask for the changes after this cursor.
    pub after: String,
    /// The cursor of the last change this notification covers.
    #[serde(default)]
    pub last: String,
    /// How many changes it covers.
    #[serde(default)]
    pub count: u64,
    /// Where to ask. Data, not a promise: compare it with the server you know before sending a token there.
    pub changes_url: String,
}

/// The body: compact JSON, fixed at the first attempt and kept over retries.
pub fn body(thin: &Thin<'_>) -> Vec<u8> {
    json(&Body {
        r#type: FILES_CHANGED.to_owned(),
        timestamp: thin.created_at.to_string(),
        data: Changed {
            subscription: thin.subscription.to_string(),
            account: thin.account.to_owned(),
            after: thin.after.to_string(),
            last: thin.last.to_string(),
            count: thin.count,
            changes_url: format!(
                "{}/api/v1/changes?account={}&after={}",
                base(thin.public_url),
                percent_encode(thin.account.as_bytes()),
                thin.after
            ),
        },
    })
}

/// The id of a notification as this protocol carries it: `msg_` and 32 hex digits.
pub fn message_id(id: NotificationId) -> String {
    format!("msg_{}", id.uuid().simple())
}

/// The value of `webhook-signature` for one key: `v1,` and base64.
pub fn signature(key: &StandardKey, message_id: &str, sent_at: TimestampSecs, body: &[u8]) -> String {
    format!("v1,{}", sign::base64(&tag(key, message_id, &sent_at.to_string(), body)))
}

fn tag(key: &StandardKey, message_id: &str, timestamp: &str, body: &[u8]) -> sign::Tag {
    sign::hmac_sha256(&key.0, &[message_id.as_bytes(), b".", timestamp.as_bytes(), b".", body])
}

/// Signs a body for an attempt made at `sent_at`.
pub fn sign(body: Vec<u8>, id: NotificationId, sent_at: TimestampSecs, key: &StandardKey) -> SignedRequest {
    let id = message_id(id);
    let signature = signature(key, &id, sent_at, &body);
    SignedRequest {
        headers: vec![
            ("content-type", "application/json".to_owned()),
            (ID_HEADER, id),
            (TIMESTAMP_HEADER, sent_at.to_string()),
            (SIGNATURE_HEADER, signature),
        ],
        body,
    }
}

/// A whole notification: [`body`], then [`sign()`].
pub fn notification(thin: &Thin<'_>, id: NotificationId, sent_at: TimestampSecs, key: &StandardKey) -> SignedRequest {
    sign(body(thin), id, sent_at, key)
}

/// The three headers of a received message, as text.
#[derive(Debug, Clone, Copy)]
pub struct Headers<'a> {
    /// `webhook-id`.
    pub id: &'a str,
    /// `webhook-timestamp`.
    pub timestamp: &'a str,
    /// `webhook-signature`: one or more, separated by blanks, each a version, a comma and a value.
    pub signature: &'a str,
}

/// Checks the signature and the time of any Standard Webhooks message, whatever its body says.
///
/// One `v1` signature that fits is enough; other versions are passed over. The message may have been signed up to
/// `tolerance` before or after `now`; five minutes is usual.
pub fn check(
    key: &StandardKey,
    headers: Headers<'_>,
    body: &[u8],
    now: TimestampSecs,
    tolerance: Duration,
) -> Result<(), VerifyError> {
    let expected = tag(key, headers.id, headers.timestamp, body);
    // Every signature is compared, so that the time taken does not tell which one fitted.
    let fits = headers
        .signature
        .split_ascii_whitespace()
        .filter_map(|signature| signature.strip_prefix("v1,").and_then(sign::unbase64))
        .fold(false, |fits, given| fits | sign::same(&given, &expected));
    if !fits {
        return Err(VerifyError::Signature);
    }
    let sent_at: i64 = headers.timestamp.parse().map_err(|_| VerifyError::BadHeader(TIMESTAMP_HEADER))?;
    let away_secs = sent_at.abs_diff(now.as_secs());
    if away_secs > tolerance.as_secs() {
        return Err(VerifyError::Stale(away_secs));
    }
    Ok(())
}

/// A notification as a receiver reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notification {
    /// The message's id: remember it, a repeated one is the same notification.
    pub id: String,
    /// When it came to be owed.
    pub created_at: TimestampMs,
    /// What to do about it.
    pub data: Changed,
}

/// Checks as [`check`] does, then reads a `files.changed` notification.
pub fn verify(
    key: &StandardKey,
    headers: Headers<'_>,
    body: &[u8],
    now: TimestampSecs,
    tolerance: Duration,
) -> Result<Notification, VerifyError> {
    check(key, headers, body, now, tolerance)?;
    let read: Body = serde_json::from_slice(body)?;
    if read.r#type != FILES_CHANGED {
        return Err(VerifyError::Malformed(format!("type is not {FILES_CHANGED}")));
    }
    let created_at =
        read.timestamp.parse().map_err(|_| VerifyError::Malformed("timestamp is not a time".to_owned()))?;
    Ok(Notification { id: headers.id.to_owned(), created_at, data: read.data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const NOW: TimestampSecs = TimestampSecs::from_secs(1_795_366_190);
    const TOLERANCE: Duration = Duration::from_secs(300);

    fn key() -> StandardKey {
        StandardKey::from_bytes(vec![7; 24]).unwrap()
    }

    fn thin() -> Thin<'static> {
        Thin {
            subscription: SubscriptionId::new(1),
            account: "in box",
            after: "cur_3".parse().unwrap(),
            last: "cur_7".parse().unwrap(),
            count: 4,
            created_at: TimestampMs::from_millis(1_709_626_150_111),
            public_url: "https://files.example.org/",
        }
    }

    fn verified(request: &SignedRequest, signature: &str, now: TimestampSecs) -> Result<Notification, VerifyError> {
        let headers = Headers { id: &request.headers[1].1, timestamp: &request.headers[2].1, signature };
        verify(&key(), headers, &request.body, now, TOLERANCE)
    }

    #[test]
    fn a_thin_notification_has_exactly_these_members() {
        let expected = concat!(
            r#"{"type":"files.changed","timestamp":"2024-03-05T08:09:10.111Z","data":{"subscription":"sub_1","#,
            r#""account":"in box","after":"cur_3","last":"cur_7","count":4,"#,
            r#""changes_url":"https://files.example.org/api/v1/changes?account=in%20box&after=cur_3"}}"#
        );
        assert_eq!(String::from_utf8(body(&thin())).unwrap(), expected);
    }

    #[test]
    fn one_fitting_signature_among_several_is_enough() {
        let request = notification(&thin(), NotificationId::new(Uuid::from_u128(5)), NOW, &key());
        assert_eq!(request.headers[1], ("webhook-id", "msg_00000000000000000000000000000005".to_owned()));
        let good = &request.headers[3].1;
        let read = verified(&request, &format!("v1a,AAAA v1,AAAA  {good} v2,x"), NOW).unwrap();
        assert_eq!((read.data.after.as_str(), read.data.count), ("cur_3", 4));
        for wrong in ["", "v1,", &good.replace("v1,", "v2,"), &good[3..]] {
            assert!(matches!(verified(&request, wrong, NOW), Err(VerifyError::Signature)), "{wrong}");
        }
    }

    #[test]
    fn a_message_from_another_time_is_refused() {
        let request = notification(&thin(), NotificationId::new(Uuid::from_u128(5)), NOW, &key());
        for (now, ok) in [(-300, true), (300, true), (-301, false), (301, false)] {
            let now = TimestampSecs::from_secs(NOW.as_secs() + now);
            assert_eq!(verified(&request, &request.headers[3].1, now).is_ok(), ok);
        }
    }

    #[test]
    fn a_key_has_24_to_64_bytes() {
        let text = key().to_text();
        assert!(text.expose().starts_with("whsec_"));
        assert_eq!(StandardKey::parse(&text).unwrap().0, key().0);
        for wrong in ["", "whsec_", "whsec_AAAA", "not base64 at all!", &"A".repeat(88)] {
            assert!(StandardKey::parse(&Secret::new(wrong)).is_err(), "{wrong}");
        }
        assert_eq!(format!("{:?}", key()), "StandardKey(..)");
    }
}
