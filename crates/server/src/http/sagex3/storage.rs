//! Signed URLs: the bytes of a file for whoever was given one, without a token.

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use axum::routing::get;
use filebell_core::wire::sagex3::Failure;

use super::super::file_body;
use super::super::path_names::PathNames;
use super::super::query::Query;
use super::{Refused, refuse};
use crate::ops::{Ops, OpsError, Signed};

pub(super) fn router() -> Router<Ops> {
    Router::new().route("/v1/storage/{grant}/{folder}/{name}", get(download))
}

/// `GET /v1/storage/...`: whole or in part.
async fn download(
    State(ops): State<Ops>,
    PathNames([grant, folder, _]): PathNames<3>,
    uri: Uri,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let query = Query::new(query.as_deref());
    // A name is bytes, which text does not keep.
    let name = uri.path().rsplit('/').next().unwrap_or_default();
    let name: Vec<u8> = percent_encoding::percent_decode_str(name).collect();
    let url = signed(&query, &grant, &folder, &name);
    let open = ops.open_signed_file(&url).await.map_err(|error| refused(&ops, error))?;
    file_body::answer(open, &method, &headers).await.map_err(refuse(&ops, Failure::FileNotFound))
}

/// A signed URL, as far as it can be read; what cannot be read does not fit.
pub(super) fn signed<'a>(query: &'a Query, grant: &str, folder: &'a str, name: &'a [u8]) -> Signed<'a> {
    let text = |name| query.one(name).ok().flatten().and_then(|value| std::str::from_utf8(value).ok());
    let expires = text("expires").and_then(|text| text.parse().ok()).unwrap_or_default();
    // No grant has the number 0.
    let grant = grant.parse().unwrap_or_default();
    Signed { grant, folder, name, expires, signature: text("signature").unwrap_or_default() }
}

/// Why a signed URL is refused. There is no token that could be renewed, so never 401.
pub(super) fn refused(ops: &Ops, error: OpsError) -> Refused {
    match error {
        OpsError::Credentials | OpsError::Expired => Refused::from(Failure::Forbidden),
        other => refuse(ops, Failure::FileNotFound)(other),
    }
}
