//! The notification of Nextcloud's File Upload Notification app: `{id, min_interval, since}` and a keyed hash.
//!
//! It carries no file names; the receiver asks `recent` ([`super::ocs`]) for them.

pub mod settings;

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;

use super::ocs::{JsonTags, push_json_string};
use super::{SignedRequest, VerifyError, sign};
use crate::secret::Secret;
use crate::time::TimestampSecs;

/// The header that carries the signature (specification A1).
pub const SIGNATURE_HEADER: &str = "X-Nextcloud-File-Upload-Notification-Signature";

/// The common key is not what the app stores (specification D).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a common key is an even number of hex digits, at least two")]
pub struct NotACommonKey;

/// Reads a common key. Its case is kept, because the text itself is the key.
pub fn common_key(text: &str) -> Result<Secret, NotACommonKey> {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if text.is_empty() || !text.len().is_multiple_of(2) || !is_hex {
        return Err(NotACommonKey);
    }
    Ok(Secret::new(text))
}

/// The body, byte for byte as PHP's `json_encode` writes it (specification A1): every member is a string.
///
/// `since` is the upload time from which on the receiver has not been shown everything, inclusive. `min_interval`
/// is written in whole seconds, rounded up: a receiver that waits that long never asks too early.
pub fn body(connection_id: &str, min_interval: Duration, since: TimestampSecs) -> Vec<u8> {
    let min_interval_secs = min_interval.as_secs().saturating_add(u64::from(min_interval.subsec_nanos() > 0));
    let mut text = String::from(r#"{"id":"#);
    push_json_string(&mut text, connection_id, JsonTags::Raw);
    text.push_str(&format!(r#","min_interval":"{min_interval_secs}","since":"{since}"}}"#));
    text.into_bytes()
}

/// Signs a body. The key is the ASCII text of the hex digits, not what they stand for (specification A1).
pub fn sign(body: Vec<u8>, key: &Secret) -> SignedRequest {
    let signature = sign::hex(&tag(key, &body));
    SignedRequest {
        headers: vec![("Content-type", "application/json".to_owned()), (SIGNATURE_HEADER, signature)],
        body,
    }
}

/// A whole notification: [`body`], then [`sign()`].
pub fn notification(connection_id: &str, min_interval: Duration, since: TimestampSecs, key: &Secret) -> SignedRequest {
    sign(body(connection_id, min_interval, since), key)
}

fn tag(key: &Secret, body: &[u8]) -> sign::Tag {
    sign::hmac_sha256(key.expose().as_bytes(), &[body])
}

/// A notification as a receiver reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Which connection rings.
    pub id: String,
    /// The least time between two notifications.
    pub min_interval: Duration,
    /// Ask `recent` from here on, inclusive; the receiver's own later position is just as good.
    pub since: TimestampSecs,
}

/// Checks the signature in constant time, then reads the body.
///
/// A Nextcloud whose settings were posted as JSON sends numbers in place of strings; both are read.
pub fn verify(key: &Secret, signature_header: &str, body: &[u8]) -> Result<Notification, VerifyError> {
    let expected = sign::hex(&tag(key, body));
    if !sign::same(expected.as_bytes(), signature_header.trim().as_bytes()) {
        return Err(VerifyError::Signature);
    }
    let received: Received<'_> = serde_json::from_slice(body)?;
    let min_interval = received
        .min_interval
        .text()
        .trim()
        .parse()
        .ok()
        .and_then(|secs| Duration::try_from_secs_f64(secs).ok())
        .ok_or_else(|| VerifyError::Malformed("min_interval is not a number of seconds".to_owned()))?;
    let since = received
        .since
        .text()
        .parse()
        .map_err(|_| VerifyError::Malformed("since is not a number of seconds".to_owned()))?;
    Ok(Notification { id: received.id.into_owned(), min_interval, since: TimestampSecs::from_secs(since) })
}

#[derive(Deserialize)]
struct Received<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    min_interval: Number,
    since: Number,
}

/// A number that may come as a string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Text(String),
    Number(serde_json::Number),
}

impl Number {
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Number(number) => Cow::Owned(number.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(body: &str) -> Result<Notification, VerifyError> {
        let key = Secret::new("4f4f");
        let request = sign(body.as_bytes().to_vec(), &key);
        verify(&key, &request.headers[1].1, &request.body)
    }

    #[test]
    fn a_receiver_takes_numbers_and_texts() {
        for (interval, millis) in
            [("1", 1000), ("\"10\"", 10_000), ("\" 5 \"", 5000), ("\"1e1\"", 10_000), ("1.5", 1500)]
        {
            let read = reads(&format!(r#"{{"since":"7","id":"x","min_interval":{interval},"more":[]}}"#)).unwrap();
            assert_eq!(read.min_interval, Duration::from_millis(millis), "{interval}");
            assert_eq!(read.since, TimestampSecs::from_secs(7));
        }
    }

    #[test]
    fn a_signed_body_that_is_no_notification_is_malformed() {
        for body in [
            "",
            "[]",
            r#"{"id":[],"min_interval":"1","since":"0"}"#,
            r#"{"id":"x","min_interval":"-1","since":"0"}"#,
            r#"{"id":"x","min_interval":"1","since":"soon"}"#,
            r#"{"id":"x","min_interval":"1"}"#,
        ] {
            assert!(matches!(reads(body), Err(VerifyError::Malformed(_))), "{body}");
        }
    }

    #[test]
    fn the_case_of_the_signature_counts() {
        let key = Secret::new("4f4f");
        let request = notification("x", Duration::from_secs(1), TimestampSecs::from_secs(0), &key);
        assert!(verify(&key, &request.headers[1].1.to_uppercase(), &request.body).is_err());
        assert!(verify(&Secret::new("4F4F"), &request.headers[1].1, &request.body).is_err(), "so does the key's");
    }

    #[test]
    fn an_interval_is_rounded_up() {
        let body = body("x", Duration::from_millis(1001), TimestampSecs::from_secs(0));
        assert_eq!(body, br#"{"id":"x","min_interval":"2","since":"0"}"#);
    }

    #[test]
    fn a_common_key_is_even_hex() {
        assert!(common_key("4fDA").is_ok());
        for wrong in ["", "4", "4g", "4f4", "ü"] {
            assert_eq!(common_key(wrong), Err(NotACommonKey), "{wrong}");
        }
    }
}
