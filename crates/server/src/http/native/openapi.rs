//! `GET /api/openapi.json`: what our own API is, for programs; the page about it is made of the same document.
//!
//! The document is written by hand: it has words for people that no type carries, and a test holds it to the routes
//! and to real answers.

use std::sync::LazyLock;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::ops::Ops;

const TEXT: &str = include_str!("openapi.json");

/// The document, but for where the server is.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(TEXT).unwrap_or_default());

/// The document, as of this server.
pub(crate) fn openapi(ops: &Ops) -> Value {
    let mut document = DOCUMENT.clone();
    if let Some(members) = document.as_object_mut() {
        members.insert("servers".to_owned(), json!([{ "url": ops.public_url() }]));
    }
    if let Some(info) = document.get_mut("info").and_then(Value::as_object_mut) {
        info.insert("version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
    }
    document
}

/// `GET /api/openapi.json`, for whoever asks: it holds no secret.
pub(super) async fn document(State(ops): State<Ops>) -> Json<Value> {
    Json(openapi(&ops))
}
