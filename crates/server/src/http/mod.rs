//! The doors: HTTP in, one room a protocol. A handler parses, asks ops, and shows the answer.

mod auth;
mod file_body;
mod health;
mod native;
mod nextcloud;
mod problem;
mod query;
mod sagex3;
mod serve;

use axum::Router;
use tower_http::catch_panic::CatchPanicLayer;

use crate::ops::Ops;
use problem::Problem;

pub use serve::serve;

/// Every route of the server.
pub fn router(ops: Ops) -> Router {
    Router::new()
        .merge(health::router())
        .merge(native::router())
        .merge(nextcloud::router())
        .merge(sagex3::router())
        .fallback(async || Problem::no_route())
        .method_not_allowed_fallback(async || Problem::wrong_method())
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            axum::response::IntoResponse::into_response(Problem::internal())
        }))
        .with_state(ops)
}
