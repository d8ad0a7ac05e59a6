//! Our own API.

mod applications;
mod changes;

use axum::Router;
use axum::routing::get;

use crate::ops::Ops;

pub(super) fn router() -> Router<Ops> {
    Router::new().route("/api/v1/changes", get(changes::changes)).merge(applications::router())
}
