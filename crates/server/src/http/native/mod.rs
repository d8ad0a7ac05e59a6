//! Our own API.

mod accounts;
mod applications;
mod changes;
mod emit;
mod notifications;
mod observe;
pub(super) mod openapi;
mod subscriptions;

use axum::Router;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{get, post};
use serde::{Deserialize, Deserializer};

use super::auth;
use super::problem::Problem;
use crate::ops::{Caller, Ops, OpsError};

pub(super) fn router() -> Router<Ops> {
    Router::new()
        .route("/api/v1/changes", get(changes::changes))
        .route("/api/v1/emit", post(emit::emit))
        .route("/api/v1/scan", post(observe::scan))
        .route("/api/v1/status", get(observe::status))
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

fn body<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad-body", error.to_string()))
}

/// Tells a member that is `null` from one that is not there.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
