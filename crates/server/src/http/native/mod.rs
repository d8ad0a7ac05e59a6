//! Our own API.

mod changes;

use axum::Router;
use axum::routing::get;

use crate::ops::Ops;

pub(super) fn router() -> Router<Ops> {
    Router::new().route("/api/v1/changes", get(changes::changes))
}
