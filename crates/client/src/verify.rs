//! One call from headers and raw body to a notification that can be believed as far as its protocol goes.
//!
//! Give the body exactly as it came: a body that was parsed and written again has other bytes.

use std::time::Duration;

use filebell_core::secret::Secret;
use filebell_core::time::TimestampSecs;
use filebell_core::wire::standard::{Headers, ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER};
pub use filebell_core::wire::standard::{NotAStandardKey, StandardKey};
use filebell_core::wire::{nextcloud as nextcloud_wire, sagex3 as sagex3_wire, standard as standard_wire};
use http::HeaderMap;

pub use filebell_core::wire::VerifyError;

/// How far the time of signing of a Standard Webhooks message may be from now, as its specification suggests.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// The largest notification worth reading, in bytes. Real ones have a few hundred.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// The one value of a header; two lines of that name are refused, since others may have read the other one.
fn only<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, VerifyError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(VerifyError::MissingHeader(name))?;
    match (values.next(), value.to_str()) {
        (None, Ok(text)) => Ok(text),
        _ => Err(VerifyError::BadHeader(name)),
    }
}

/// Verifies a notification of Nextcloud's File Upload Notification.
pub fn nextcloud(key: &Secret, headers: &HeaderMap, body: &[u8]) -> Result<nextcloud_wire::Notification, VerifyError> {
    nextcloud_wire::verify(key, only(headers, nextcloud_wire::SIGNATURE_HEADER)?, body)
}

/// Verifies a notification of Sage X3.
///
/// Some proxies write the header's name with dashes; that is taken too, but not both with different values.
pub fn sagex3(client_id: &Secret, headers: &HeaderMap, body: &[u8]) -> Result<sagex3_wire::read::Pushed, VerifyError> {
    const DASHED: &str = "HMAC-SHA256";
    let signature = match (only(headers, sagex3_wire::SIGNATURE_HEADER), only(headers, DASHED)) {
        (Ok(signature), Err(VerifyError::MissingHeader(_))) => signature,
        (Err(VerifyError::MissingHeader(_)), Ok(signature)) => signature,
        (Ok(signature), Ok(dashed)) if signature == dashed => signature,
        (Err(missing @ VerifyError::MissingHeader(_)), Err(VerifyError::MissingHeader(_))) => return Err(missing),
        _ => return Err(VerifyError::BadHeader(sagex3_wire::SIGNATURE_HEADER)),
    };
    sagex3_wire::verify(client_id, signature, body)
}

/// Verifies a Standard Webhooks notification that was signed no further than `tolerance` from `now`.
pub fn standard(
    key: &StandardKey,
    headers: &HeaderMap,
    body: &[u8],
    now: TimestampSecs,
    tolerance: Duration,
) -> Result<standard_wire::Notification, VerifyError> {
    let headers = Headers {
        id: only(headers, ID_HEADER)?,
        timestamp: only(headers, TIMESTAMP_HEADER)?,
        signature: only(headers, SIGNATURE_HEADER)?,
    };
    standard_wire::verify(key, headers, body, now, tolerance)
}

/// A key that knows its protocol.
pub trait Verifier {
    /// What a notification of that protocol says.
    type Notification;

    /// Verifies and reads. Protocols without a time pay no attention to `now`.
    fn verify(&self, headers: &HeaderMap, body: &[u8], now: TimestampSecs) -> Result<Self::Notification, VerifyError>;
}

/// The common key of a Nextcloud connection, as the settings page shows it.
#[derive(Debug, Clone)]
pub struct NextcloudKey(Secret);

impl NextcloudKey {
    /// Takes the hex text.
    pub const fn new(key: Secret) -> Self {
        Self(key)
    }
}

/// The client id of a Sage X3 application: what its notifications are signed with.
#[derive(Debug, Clone)]
pub struct SageX3ClientId(Secret);

impl SageX3ClientId {
    /// Takes the client id as it was issued.
    pub const fn new(client_id: Secret) -> Self {
        Self(client_id)
    }
}

impl Verifier for NextcloudKey {
    type Notification = nextcloud_wire::Notification;

    fn verify(&self, headers: &HeaderMap, body: &[u8], _: TimestampSecs) -> Result<Self::Notification, VerifyError> {
        nextcloud(&self.0, headers, body)
    }
}

impl Verifier for SageX3ClientId {
    type Notification = sagex3_wire::read::Pushed;

    fn verify(&self, headers: &HeaderMap, body: &[u8], _: TimestampSecs) -> Result<Self::Notification, VerifyError> {
        sagex3(&self.0, headers, body)
    }
}

impl Verifier for StandardKey {
    type Notification = standard_wire::Notification;

    fn verify(&self, headers: &HeaderMap, body: &[u8], now: TimestampSecs) -> Result<Self::Notification, VerifyError> {
        standard(self, headers, body, now, TOLERANCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use filebell_core::wire::SignedRequest;
    use http::{HeaderName, HeaderValue};

    const CLIENT_ID: &str = "5b2f6f0e-2a41-4a0c-9d5e-7f3c1b8e9a10";
    const PUSH: &str = concat!(
        r#"{"notificationId":"0d9c1c6e-3f0b-4b52-8a53-6f1d2c7e4b11","source":"dataDeliveryApi","#,
        r#""customerUrl":"https://x3.acme.example","customerID":"9e0a7d54-6c1b-4d3f-8b2a-1f5e6c7d8a90","#,
        r#""datetime":"2024-03-05T08:09:10.111Z","#,
        r#""detailUrl":"https://api.eu-prod-sagex3.com/v1/notification/0d9c1c6e-3f0b-4b52-8a53-6f1d2c7e4b11"}"#
    );
    const PUSH_HEX: &str = "c176d8baf27d0019cc9f12588e75759d99141dedd478a1e8be63a13bd56d6ad9";

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn of(request: &SignedRequest) -> HeaderMap {
        headers(&request.headers.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>())
    }

    #[test]
    fn sage_takes_either_spelling_of_the_header_but_not_two_values() {
        let key = Secret::new(CLIENT_ID);
        let verify = |lines: &[(&str, &str)]| sagex3(&key, &headers(lines), PUSH.as_bytes());
        assert!(verify(&[("HMAC_SHA256", PUSH_HEX)]).is_ok());
        assert!(verify(&[("HMAC-SHA256", PUSH_HEX)]).is_ok());
        assert!(verify(&[("HMAC_SHA256", PUSH_HEX), ("HMAC-SHA256", PUSH_HEX)]).is_ok());
        for lines in [
            &[("HMAC_SHA256", PUSH_HEX), ("HMAC-SHA256", "other")] as &[_],
            &[("HMAC_SHA256", PUSH_HEX), ("HMAC_SHA256", PUSH_HEX)],
            &[("HMAC_SHA256", PUSH_HEX), ("HMAC-SHA256", "a"), ("HMAC-SHA256", "b")],
        ] {
            assert!(matches!(verify(lines), Err(VerifyError::BadHeader(_))), "{lines:?}");
        }
        assert!(matches!(verify(&[]), Err(VerifyError::MissingHeader(_))));
        assert!(matches!(verify(&[("HMAC_SHA256", "00")]), Err(VerifyError::Signature)));
    }

    #[test]
    fn nextcloud_needs_exactly_one_signature() {
        let key = Secret::new("4fda");
        let since = TimestampSecs::from_secs(7);
        let request = nextcloud_wire::notification("id", Duration::from_secs(10), since, &key);
        assert_eq!(nextcloud(&key, &of(&request), &request.body).unwrap().since, since);
        let mut twice = of(&request);
        twice.append(nextcloud_wire::SIGNATURE_HEADER, HeaderValue::from_static("00"));
        assert!(matches!(nextcloud(&key, &twice, &request.body), Err(VerifyError::BadHeader(_))));
        assert!(matches!(nextcloud(&key, &HeaderMap::new(), &request.body), Err(VerifyError::MissingHeader(_))));
    }

    #[test]
    fn a_standard_message_that_is_not_ours_is_malformed() {
        let key = StandardKey::from_bytes(vec![1; 24]).unwrap();
        let now = TimestampSecs::from_secs(1000);
        let id = filebell_core::id::NotificationId::new(uuid::Uuid::from_u128(1));
        let request = standard_wire::sign(br#"{"type":"invoice.paid"}"#.to_vec(), id, now, &key);
        assert!(standard(&key, &of(&request), &request.body, now, TOLERANCE).unwrap_err().is_malformed());
    }
}
