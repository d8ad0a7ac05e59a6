//! Nextcloud's doors: OCS, and WebDAV for the bytes.

mod ocs;
mod webdav;

use axum::Router;
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use axum::routing::any;

use crate::ops::Ops;

pub(super) fn router() -> Router<Ops> {
    Router::new()
        .route("/ocs/v1.php/{*rest}", any(ocs::v1))
        .route("/ocs/v2.php/{*rest}", any(ocs::v2))
        .route("/remote.php/webdav/{*path}", any(webdav::own))
        .route("/remote.php/dav/files/{account}/{*path}", any(webdav::of_account))
        .layer(axum::middleware::map_response(security_headers))
}

/// What every answer of the original carries (protocol, section C7).
const SECURITY_HEADERS: [(&str, &str); 6] = [
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "SAMEORIGIN"),
    ("x-permitted-cross-domain-policies", "none"),
    ("x-robots-tag", "noindex, nofollow"),
    ("x-xss-protection", "1; mode=block"),
];

async fn security_headers(mut response: Response) -> Response {
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}
