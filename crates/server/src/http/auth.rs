//! Who is asking: read from the `Authorization` header, decided by ops.

use axum::http::HeaderMap;
use filebell_core::secret::Secret;
use headers::authorization::{Authorization, Basic, Bearer};
use headers::{Header, HeaderMapExt};

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

/// The account whose name and password these are.
pub(super) async fn login(ops: &Ops, basic: &Authorization<Basic>) -> Result<AccountCaller, OpsError> {
    ops.login(basic.username(), Secret::new(basic.password())).await
}

/// Whoever asks our own API.
pub(super) async fn caller(ops: &Ops, headers: &HeaderMap) -> Result<Caller, OpsError> {
    match given(headers) {
        Given::Password(basic) => login(ops, &basic).await.map(Caller::Account),
        Given::Token(token) => ops.bearer(&token).await,
        Given::Nothing | Given::Unreadable => Err(OpsError::Credentials),
    }
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
