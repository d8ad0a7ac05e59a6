//! The exact bytes of each protocol, both ways: written for a receiver, verified and read as a receiver.
//!
//! Building a body and signing it are two steps everywhere. The body is fixed when the notification is first sent
//! and kept over its retries; what is signed beside it (a time, a new key) may change from attempt to attempt.

pub mod nextcloud;
pub mod ocs;
pub mod sagex3;
pub mod sign;
pub mod standard;
pub mod xml;

use std::fmt;

/// One signed request, ready to be posted: these headers and exactly these bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedRequest {
    /// Header names and values in the order they are to be sent; `Host` and `Content-Length` are the sender's own.
    pub headers: Vec<(&'static str, String)>,
    /// The body that was signed.
    pub body: Vec<u8>,
}

impl fmt::Debug for SignedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedRequest")
            .field("headers", &self.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>())
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

/// Why a received notification is refused.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A header that carries the signature, or what is signed with it, is missing.
    #[error("the header `{0}` is missing; a proxy may have dropped it")]
    MissingHeader(&'static str),
    /// Such a header came more than once, or holds what no such header can hold.
    #[error("the header `{0}` came twice or cannot be read")]
    BadHeader(&'static str),
    /// The signature does not fit these bytes and this key.
    #[error("the signature does not match the body")]
    Signature,
    /// The time of signing is too far from now.
    #[error("the notification was signed {0} s away from now")]
    Stale(u64),
    /// The signature fits, but the body is not a notification of this protocol.
    #[error("the body is not a notification: {0}")]
    Malformed(String),
}

impl VerifyError {
    /// Whether the sender proved who it is and only the body is wrong.
    pub const fn is_malformed(&self) -> bool {
        matches!(self, Self::Malformed(_))
    }
}

impl From<serde_json::Error> for VerifyError {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Percent-encodes everything but the unreserved characters of RFC 3986, section 2.3.
pub fn percent_encode(bytes: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| char::from(HEX.get(usize::from(nibble)).copied().unwrap_or(b'0'));
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(byte));
        } else {
            text.extend(['%', digit(byte >> 4), digit(byte & 0x0f)]);
        }
    }
    text
}

/// Compact JSON of a value made of strings, numbers and booleans, which cannot fail to be written.
fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// A base URL without a slash at its end.
fn base(url: &str) -> &str {
    url.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_unreserved_stay() {
        assert_eq!(percent_encode(b"aZ09-._~"), "aZ09-._~");
        assert_eq!(percent_encode("ü +/\u{0}\u{7f}".as_bytes()), "%C3%BC%20%2B%2F%00%7F");
    }

    #[test]
    fn a_signed_request_prints_no_signature() {
        let request = SignedRequest { headers: vec![("x", "secret".into())], body: vec![1, 2] };
        assert!(!format!("{request:?}").contains("secret"));
    }
}
