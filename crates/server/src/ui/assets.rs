//! The style sheet and the script, in the binary, under names that change with their content.

use std::sync::LazyLock;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

use crate::http::PathNames;
use crate::ops::Ops;

const STYLE: &str = include_str!("../../templates/pages/style.css");
const SCRIPT: &str = include_str!("../../templates/pages/script.js");
const ICON: &str = include_str!("../../templates/pages/icon.svg");

/// What the style sheet, the script and the icon are called.
pub(super) static STYLE_NAME: LazyLock<String> = LazyLock::new(|| name(STYLE, "css"));
pub(super) static SCRIPT_NAME: LazyLock<String> = LazyLock::new(|| name(SCRIPT, "js"));
pub(super) static ICON_NAME: LazyLock<String> = LazyLock::new(|| name(ICON, "svg"));

pub(super) fn router() -> Router<Ops> {
    Router::new().route("/assets/{name}", get(asset))
}

async fn asset(PathNames([name]): PathNames<1>) -> Response {
    let (content, content_type) = if name == *STYLE_NAME {
        (STYLE, "text/css; charset=utf-8")
    } else if name == *SCRIPT_NAME {
        (SCRIPT, "text/javascript; charset=utf-8")
    } else if name == *ICON_NAME {
        (ICON, "image/svg+xml")
    } else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
    ];
    (headers, content).into_response()
}

fn name(content: &str, ending: &str) -> String {
    let digest = hex::encode(Sha256::digest(content));
    format!("{}.{ending}", digest.get(..16).unwrap_or(&digest))
}
