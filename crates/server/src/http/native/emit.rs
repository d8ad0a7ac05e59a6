//! `POST /api/v1/emit`: a file is announced by hand.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::super::auth;
use super::super::problem::Problem;
use super::{Sent, body, changes};
use crate::ops::{Emitted, Ops};

/// How long it is waited for, if nothing is said.
const WAIT_SECS: u64 = 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmitBody {
    account: String,
    path: String,
    wait_seconds: Option<u64>,
}

#[derive(Serialize)]
struct Waits {
    waits_for: String,
}

/// Answers the event (201), or what it waits for (202); content that was told already is a conflict (409).
pub(super) async fn emit(State(ops): State<Ops>, request: Parts, Sent(bytes): Sent) -> Result<Response, Problem> {
    let caller = auth::caller(&ops, &request).await?;
    let EmitBody { account, path, wait_seconds } = body(&bytes)?;
    let wait = Duration::from_secs(wait_seconds.unwrap_or(WAIT_SECS));
    Ok(match ops.emit(&caller, &account, path.as_bytes(), wait).await? {
        Emitted::Told(event) => (StatusCode::CREATED, Json(changes::view(&event, account))).into_response(),
        Emitted::Waits(waits_for) => (StatusCode::ACCEPTED, Json(Waits { waits_for })).into_response(),
    })
}
