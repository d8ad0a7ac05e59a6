//! What browsers carry: cookies.

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use filebell_core::secret::Secret;
use url::Url;

/// The cookie that holds a session of the pages.
pub(crate) const SESSION_COOKIE: &str = "filebell-session";

/// The value of a cookie, if it is not empty.
pub(crate) fn cookie(headers: &HeaderMap, name: &str) -> Option<Secret> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(one, value)| *one == name && !value.is_empty()).map(|(_, value)| Secret::new(value))
}

/// Has the browser send a cookie to `path` and below for so long; a life of nothing takes it away.
pub(crate) fn set_cookie(
    public_url: &str,
    response: &mut Response,
    name: &str,
    value: &str,
    path: &str,
    life_secs: u64,
) {
    let public = Url::parse(public_url);
    let below = public.as_ref().map_or("", |url| url.path().trim_end_matches('/'));
    let secure = if public.as_ref().is_ok_and(|url| url.scheme() == "https") { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path={below}{path}; Max-Age={life_secs}; HttpOnly; SameSite=Lax{secure}");
    if let Ok(value) = HeaderValue::try_from(text) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}
