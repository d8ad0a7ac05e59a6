//! The doors: HTTP in, one room a protocol. A handler parses, asks ops, and shows the answer.

mod auth;
pub(crate) mod browser;
mod file_body;
mod health;
mod native;
mod nextcloud;
mod path_names;
mod problem;
mod query;
mod sagex3;
mod serve;

use axum::{Router, middleware};
use tower_http::catch_panic::CatchPanicLayer;

use crate::ops::Ops;
pub(crate) use auth::{Peer, retry_after};
pub(crate) use native::openapi::openapi;
pub(crate) use path_names::PathNames;
pub(crate) use problem::{Problem, log_failure};
pub(crate) use query::Query;
pub use serve::serve;

/// Every route of the server. `pages` are those for people; they also answer where nothing is served.
pub fn router(ops: Ops, pages: Router<Ops>) -> Router {
    Router::new()
        .merge(health::router())
        .merge(native::router())
        .merge(nextcloud::router())
        .merge(sagex3::router())
        .merge(pages)
        .method_not_allowed_fallback(async || Problem::wrong_method())
        .layer(middleware::from_fn_with_state(ops.clone(), auth::tell_when))
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            axum::response::IntoResponse::into_response(Problem::internal())
        }))
        .with_state(ops)
}
