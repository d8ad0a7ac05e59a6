//! Our own API.

mod applications;
mod changes;
mod observe;
mod stream;

use axum::Router;
use axum::routing::{get, post};

use crate::ops::Ops;

pub(super) fn router() -> Router<Ops> {
    Router::new()
        .route("/api/v1/changes", get(changes::changes))
        .route("/api/v1/scan", post(observe::scan))
        .route("/api/v1/status", get(observe::status))
        .route("/api/v1/stream", get(stream::stream))
        .route("/api/v1/why", get(observe::why))
        .merge(applications::router())
}
