//! The settings of the File Upload Notification app: `secret` and `config` (protocol, section D).

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use filebell_core::secret::Secret;
use filebell_core::wire::nextcloud::settings::{Settings, secret_length};
use filebell_core::wire::ocs::{Failure, Format, Node, Version};
use serde_json::{Map, Value};

use super::super::auth::{self, Given};
use super::super::browser::{self, SESSION_COOKIE};
use super::super::problem::log_failure;
use super::super::query::Query;
use super::ocs::{self, BODY_BYTES_MAX, JSON};
use crate::ops::{AccountCaller, Ops, OpsError, SignedIn};

/// The longest secret that is made: the original knows no bound.
const SECRET_BYTES_MAX: usize = 1024;
/// What the original answers a wrong method with.
const HTML: &str = "text/html; charset=UTF-8";

/// `GET /apps/file_upload_notification/secret`
pub(super) async fn secret(State(ops): State<Ops>, request: Request) -> Response {
    let parts = request.into_parts().0;
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return wrong_method();
    }
    match caller(&ops, &parts).await {
        Ok(_) => (),
        Err(response) => return response,
    }
    let length = Query::new(parts.uri.query()).last_text("length");
    match ops.connection_secret(secret_length(length.as_deref(), SECRET_BYTES_MAX)) {
        Ok(secret) => {
            let body = Node::map([("secret", Node::text(secret.expose().to_owned()))]).to_json();
            json(StatusCode::OK, body)
        }
        Err(error) => failed(&error),
    }
}

/// `GET` and `POST /apps/file_upload_notification/config`
pub(super) async fn config(State(ops): State<Ops>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if !matches!(parts.method, Method::GET | Method::HEAD | Method::POST) {
        return wrong_method();
    }
    let caller = match caller(&ops, &parts).await {
        Ok(caller) => caller,
        Err(response) => return response,
    };
    if parts.method == Method::POST {
        return post(&ops, &caller, &parts, body).await;
    }
    match ops.connection(&caller).await {
        Ok(settings) => json(StatusCode::OK, settings.map_or_else(|| "null".to_owned(), |settings| settings.to_json())),
        Err(error) => failed(&error),
    }
}

async fn post(ops: &Ops, caller: &AccountCaller, parts: &Parts, body: Body) -> Response {
    let mut posted = form(&Query::new(parts.uri.query()));
    posted.extend(read(&parts.headers, body).await);
    let settings = match Settings::check(posted) {
        Ok(settings) => settings,
        Err(error) => {
            let body = Node::map([("error", Node::text(error.to_string()))]).to_json();
            return json(StatusCode::BAD_REQUEST, body);
        }
    };
    match ops.set_connection(caller, &settings).await {
        Ok(()) => json(StatusCode::OK, settings.to_json()),
        Err(error) => failed(&error),
    }
}

/// What cannot be read is as good as not posted.
async fn read(headers: &HeaderMap, body: Body) -> Map<String, Value> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Ok(bytes) = to_bytes(body, BODY_BYTES_MAX).await else { return Map::new() };
    if content_type.starts_with("application/json") {
        return serde_json::from_slice(&bytes).unwrap_or_default();
    }
    form(&Query::new(std::str::from_utf8(&bytes).ok()))
}

/// Parameters as PHP takes them: the last of a name, and a list of those whose name ends in `[]`.
fn form(query: &Query) -> Map<String, Value> {
    let mut posted = Map::new();
    for name in ["id", "url", "interval", "secret"] {
        let items = format!("{name}[]");
        let items: Vec<Value> = query.all(&items).map(|item| String::from_utf8_lossy(item).into()).collect();
        let value = if items.is_empty() { query.last_text(name).map(Value::from) } else { Some(Value::from(items)) };
        posted.extend(value.map(|value| (name.to_owned(), value)));
    }
    posted
}

/// The account that asks, past the check against forged requests.
async fn caller(ops: &Ops, parts: &Parts) -> Result<AccountCaller, Response> {
    let refuse = |failure| ocs::refused(Version::V1, Format::Xml, &failure, parts);
    if matches!(auth::given(&parts.headers), Given::Nothing)
        && let Some(cookie) = browser::cookie(&parts.headers, SESSION_COOKIE)
    {
        return match ops.signed_in(&cookie).await {
            Ok(Some(SignedIn::Account(caller))) if sent_by_page(ops, &cookie, parts) => Ok(caller),
            Ok(Some(SignedIn::Account(_))) => Err(ocs::csrf(&parts.headers)),
            Ok(Some(SignedIn::Operator) | None) => Err(refuse(Failure::NoCredentials)),
            Err(error) => Err(failed(&error)),
        };
    }
    match ocs::caller(ops, parts).await {
        Ok(Some(caller)) if ocs::passes_csrf(parts) => Ok(caller),
        Ok(Some(_)) => Err(ocs::csrf(&parts.headers)),
        Ok(None) => Err(refuse(Failure::NoCredentials)),
        Err(failure) => Err(refuse(failure)),
    }
}

/// Whether a page of this session sent the request: a browser lets no other site set these headers.
fn sent_by_page(ops: &Ops, cookie: &Secret, parts: &Parts) -> bool {
    let token = parts.headers.get("requesttoken").and_then(|value| value.to_str().ok());
    token.is_some_and(|token| ops.form_fits(cookie, token)) || ocs::passes_csrf(parts)
}

fn wrong_method() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, [(header::CONTENT_TYPE, HTML)]).into_response()
}

fn failed(error: &OpsError) -> Response {
    log_failure(error);
    json(StatusCode::SERVICE_UNAVAILABLE, r#"{"message":"try again"}"#.to_owned())
}

fn json(status: StatusCode, body: String) -> Response {
    ocs::controller_headers((status, [(header::CONTENT_TYPE, JSON)], body).into_response())
}
