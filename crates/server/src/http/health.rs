//! Whether filebell lives, and whether it can do its work.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use super::problem::{Problem, log_failure};
use crate::ops::Ops;

pub(super) fn router() -> Router<Ops> {
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready))
}

/// `GET /readyz`: the store answers.
async fn ready(State(ops): State<Ops>) -> Result<&'static str, Problem> {
    match ops.ready().await {
        Ok(()) => Ok("ready\n"),
        Err(error) => {
            log_failure(&error);
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "the store does not answer"))
        }
    }
}
