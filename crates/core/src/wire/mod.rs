//! The exact bytes of each protocol, both ways: written for a receiver, verified and read as a receiver.

pub mod nextcloud;
pub mod ocs;
pub mod sagex3;
pub mod sign;
pub mod standard;

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
