//! Our own API.

mod accounts;
mod applications;
mod changes;
mod emit;
mod notifications;
mod observe;
pub(super) mod openapi;
mod stream;
mod subscriptions;

use std::error::Error as _;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{get, post};
use http_body_util::LengthLimitError;
use serde::{Deserialize, Deserializer};

use super::auth;
use super::problem::Problem;
use crate::ops::{Caller, Ops, OpsError};

/// The longest body that is read.
const BODY_BYTES_MAX: usize = 2 << 20;

pub(super) fn router() -> Router<Ops> {
    Router::new()
        .route("/api/v1/changes", get(changes::changes))
        .route("/api/v1/emit", post(emit::emit))
        .route("/api/v1/examine", post(observe::examine))
        .route("/api/v1/scan", post(observe::scan))
        .route("/api/v1/status", get(observe::status))
        .route("/api/v1/stream", get(stream::stream))
        .route("/api/v1/why", get(observe::why))
        .route("/api/openapi.json", get(openapi::document))
        .merge(accounts::router())
        .merge(applications::router())
        .merge(notifications::router())
        .merge(subscriptions::router())
}

/// Goes on only for the operator.
async fn operator(ops: &Ops, request: &Parts) -> Result<(), Problem> {
    match auth::caller(ops, request).await? {
        Caller::Operator => Ok(()),
        Caller::Application(_) | Caller::Account(_) => {
            Err(OpsError::NotGranted("this to all but the operator".into()).into())
        }
    }
}

/// The body of a request, which is small.
struct Sent(Bytes);

impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let read = to_bytes(request.into_body(), BODY_BYTES_MAX).await;
        read.map(Self).map_err(|error| {
            if error.source().is_some_and(|cause| cause.is::<LengthLimitError>()) {
                let text = format!("the body has more than {BODY_BYTES_MAX} bytes, which is the most that is read");
                return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", text);
            }
            Problem::new(StatusCode::BAD_REQUEST, "bad-body", "the body broke off")
        })
    }
}

fn body<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad-body", error.to_string()))
}

/// Tells a member that is `null` from one that is not there.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
