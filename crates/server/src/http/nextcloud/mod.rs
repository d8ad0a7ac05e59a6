//! Nextcloud's doors: OCS, the app's settings, and WebDAV.

mod dav;
mod ocs;
mod settings;
#[cfg(test)]
mod tests;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};

use crate::ops::Ops;

pub(super) fn router() -> Router<Ops> {
    Router::new()
        .route("/status.php", get(ocs::status))
        .route("/ocs/v1.php", any(ocs::v1))
        .route("/ocs/v1.php/{*rest}", any(ocs::v1))
        .route("/ocs/v2.php", any(ocs::v2))
        .route("/ocs/v2.php/{*rest}", any(ocs::v2))
        .route("/apps/file_upload_notification/secret", any(settings::secret))
        .route("/apps/file_upload_notification/config", any(settings::config))
        .route("/index.php/apps/file_upload_notification/secret", any(settings::secret))
        .route("/index.php/apps/file_upload_notification/config", any(settings::config))
        .route("/remote.php/webdav", any(dav::own))
        .route("/remote.php/webdav/", any(dav::own))
        .route("/remote.php/webdav/{*path}", any(dav::own))
        .route("/remote.php/dav/files/{account}", any(dav::of_account))
        .route("/remote.php/dav/files/{account}/", any(dav::of_account))
        .route("/remote.php/dav/files/{account}/{*path}", any(dav::of_account))
        .route("/remote.php/dav/uploads/{account}/{*path}", any(dav::pieces))
        .layer(Extension(dav::Locks::default()))
        // An upload is as long as the disk has room for; everything else is bounded where it is read.
        .layer(DefaultBodyLimit::disable())
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

/// Sends a browser to the page where one logs in, and back (protocol, section C5).
fn login_page(from: &Uri) -> Response {
    let back = from.path_and_query().map_or("/", |path| path.as_str()).replace('=', "%3D").replace('&', "%26");
    let location = format!("/index.php/login?redirect_url={back}");
    let headers = [(header::LOCATION, location.as_str()), (header::CONTENT_TYPE, "text/html; charset=UTF-8")];
    ocs::controller_headers((StatusCode::SEE_OTHER, headers).into_response())
}
