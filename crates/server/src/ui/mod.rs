//! The pages: rendered here from what ops answers, usable without script; script only adds what is live.

mod accounts;
mod api;
mod applications;
mod assets;
mod connection;
mod deliveries;
mod files;
mod form;
mod frame;
mod list;
#[cfg(test)]
mod receiver;
#[cfg(test)]
mod scene;
mod sign_in;
mod subscriptions;
mod text;
mod trial;
mod visitor;

use axum::Router;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{Method, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};

use crate::http::Problem;
use crate::ops::Ops;
use frame::Refusal;

/// The pages, and what is answered where nothing is served.
pub fn router(ops: &Ops) -> Router<Ops> {
    Router::new()
        .merge(assets::router())
        .merge(sign_in::router())
        .merge(connection::router())
        .merge(applications::router())
        .merge(subscriptions::router())
        .merge(accounts::router())
        .merge(api::router())
        .merge(deliveries::router())
        .merge(files::router())
        .fallback(nothing_here)
        .layer(middleware::from_fn_with_state(ops.clone(), frame::show_refusals))
}

/// A page for a person, a problem for a program.
async fn nothing_here(State(_): State<Ops>, request: Parts) -> Response {
    let accept = request.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if request.method == Method::GET && accept.contains("text/html") {
        return Refusal::NotFound.into_response();
    }
    Problem::no_route().into_response()
}
