//! Who is asking: read from the `Authorization` header, decided by ops.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use filebell_core::secret::Secret;
use headers::authorization::{Authorization, Basic, Bearer};
use headers::{Header, HeaderMapExt};
use tokio_util::sync::CancellationToken;

use super::browser;
use crate::ops::{AccountCaller, ApplicationCaller, Caller, Ops, OpsError};

/// What the header holds.
pub(super) enum Given {
    /// No credentials at all.
    Nothing,
    /// A name and a password.
    Password(Authorization<Basic>),
    /// A token.
    Token(Secret),
    /// Something that cannot be read.
    Unreadable,
}

/// Reads the header.
pub(super) fn given(headers: &HeaderMap) -> Given {
    if headers.get(Authorization::<Bearer>::name()).is_none() {
        return Given::Nothing;
    }
    if let Some(basic) = headers.typed_get::<Authorization<Basic>>() {
        return Given::Password(basic);
    }
    match headers.typed_get::<Authorization<Bearer>>() {
        Some(bearer) => Given::Token(Secret::new(bearer.token())),
        None => Given::Unreadable,
    }
}

/// The address at the other end of the connection; `serve` puts it on every request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// The connection a request came by, for answers that have no end of their own; `serve` puts it on every request.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// The server stops.
    pub(super) stopping: CancellationToken,
    /// Cuts the connection.
    pub(super) cut: CancellationToken,
}

/// The account whose name and password these are.
pub(super) async fn login(
    ops: &Ops,
    basic: &Authorization<Basic>,
    extensions: &Extensions,
) -> Result<AccountCaller, OpsError> {
    let from = extensions.get().map(|Peer(address)| *address);
    ops.login(basic.username(), Secret::new(basic.password()), from).await
}

/// Tells whoever guesses a password when another one is looked at.
pub(super) async fn tell_when(State(ops): State<Ops>, request: Request, next: Next) -> Response {
    let guess = match given(request.headers()) {
        Given::Password(basic) => Some((basic, request.extensions().get().map(|Peer(address)| *address))),
        Given::Nothing | Given::Token(_) | Given::Unreadable => None,
    };
    let mut response = next.run(request).await;
    if response.status() == StatusCode::TOO_MANY_REQUESTS
        && let Some(wait) = guess.and_then(|(basic, from)| ops.throttled_for(basic.username(), from))
    {
        retry_after(&mut response, wait);
    }
    response
}

/// Says when to come again: in whole seconds, none too few.
pub(crate) fn retry_after(response: &mut Response, wait: Duration) {
    response.headers_mut().insert(header::RETRY_AFTER, wait.as_secs().saturating_add(1).into());
}

/// Whoever asks our own API.
pub(super) async fn caller(ops: &Ops, request: &Parts) -> Result<Caller, OpsError> {
    match given(&request.headers) {
        Given::Password(basic) => login(ops, &basic, &request.extensions).await.map(Caller::Account),
        Given::Token(token) => ops.bearer(&token).await,
        Given::Nothing | Given::Unreadable => Err(OpsError::Credentials),
    }
}

/// The same, or whoever is signed in to the pages. Only for what changes nothing: another site can have a browser ask.
pub(super) async fn caller_or_session(ops: &Ops, request: &Parts) -> Result<Caller, OpsError> {
    if let Given::Nothing = given(&request.headers)
        && let Some(cookie) = browser::cookie(&request.headers, browser::SESSION_COOKIE)
    {
        return ops.signed_in(&cookie).await?.map(Caller::from).ok_or(OpsError::Credentials);
    }
    caller(ops, request).await
}

/// The application that asks, by its access token.
pub(super) async fn application(ops: &Ops, headers: &HeaderMap) -> Result<ApplicationCaller, OpsError> {
    match given(headers) {
        Given::Token(token) => match ops.bearer(&token).await? {
            Caller::Application(caller) => Ok(*caller),
            Caller::Operator | Caller::Account(_) => Err(OpsError::Credentials),
        },
        Given::Nothing | Given::Password(_) | Given::Unreadable => Err(OpsError::Credentials),
    }
}
