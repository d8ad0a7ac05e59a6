//! OCS: `recent`, and what a client needs to log in.
//!
//! The order of the checks is the original's (protocol, section C6): wrong credentials, unknown route, wrong method,
//! no credentials, the CSRF header, and only then format and parameters.

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use filebell_core::event::StoredFile;
use filebell_core::time::TimestampSecs;
use filebell_core::wire::ocs::{Failure, Format, Node, RecentRow, RecentWriter, Version, parse_since, success};

use super::super::auth::{self, Given};
use super::super::problem::log_failure;
use super::super::query::Query;
use crate::ops::{AccountCaller, Ops, OpsError};

/// A request body is read up to here; `since` may come in one.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// The Nextcloud version that clients are told; it decides what they expect.
const NEXTCLOUD: (i64, i64, i64, &str) = (31, 0, 6, "31.0.6");

/// Everything below `/ocs/v1.php/`.
pub(super) async fn v1(State(ops): State<Ops>, request: Request) -> Response {
    answer(&ops, Version::V1, request).await
}

/// Everything below `/ocs/v2.php/`.
pub(super) async fn v2(State(ops): State<Ops>, request: Request) -> Response {
    answer(&ops, Version::V2, request).await
}

/// What is served; all of it by GET.
#[derive(Clone, Copy)]
enum Route {
    Recent,
    Capabilities,
    User,
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        let (_, below) = path.split_once(".php/")?;
        match below {
            "apps/file_upload_notification/api/recent" => Some(Self::Recent),
            "cloud/capabilities" => Some(Self::Capabilities),
            "cloud/user" => Some(Self::User),
            _ => None,
        }
    }
}

async fn answer(ops: &Ops, version: Version, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let query = Query::new(parts.uri.query());
    let format = query.last_text("format");
    let early = Format::of_parameter(format.as_deref());
    let refuse = |failure: Failure, format| refused(version, format, &failure, &parts.headers);

    let caller = match caller(ops, &parts.headers).await {
        Ok(caller) => caller,
        Err(failure) => return refuse(failure, early),
    };
    let Some(route) = Route::of(parts.uri.path()) else { return refuse(Failure::UnknownRoute, early) };
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::CONTENT_TYPE, early.early_content_type())]).into_response();
    }
    let accept = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let format = Format::negotiate(format.as_deref(), accept);
    let caller = match (caller, route) {
        (Some(caller), _) => Some(caller),
        (None, Route::Capabilities) => None,
        (None, Route::Recent | Route::User) => {
            return refuse(Failure::NoCredentials, format.unwrap_or(Format::Xml));
        }
    };
    if parts.headers.get("ocs-apirequest").is_none_or(|value| value.is_empty()) {
        return csrf();
    }
    let format = match format {
        Ok(format) => format,
        Err(failure) => return refuse(failure, Format::Xml),
    };
    match (route, caller) {
        (Route::Recent, Some(caller)) => {
            let since = since(&query, &parts.headers, body).await;
            match recent(ops, version, format, &caller, since.as_deref()).await {
                Ok(body) => ok(format, body),
                Err(failure) => refuse(failure, format),
            }
        }
        (Route::User, Some(caller)) => ok(format, success(version, format, &user(&caller))),
        _ => ok(format, success(version, format, &capabilities())),
    }
}

/// Nobody, if nothing was given; whoever logs in, if their password is right.
async fn caller(ops: &Ops, headers: &HeaderMap) -> Result<Option<AccountCaller>, Failure> {
    match auth::given(headers) {
        Given::Nothing => Ok(None),
        Given::Password(basic) => match auth::login(ops, &basic).await {
            Ok(caller) => Ok(Some(caller)),
            Err(OpsError::Credentials) => Err(Failure::WrongPassword),
            Err(error) => Err(internal(&error)),
        },
        Given::Token(_) | Given::Unreadable => Err(Failure::WrongPassword),
    }
}

/// `since` from the query, or from a JSON body, also of a GET (section B1).
async fn since(query: &Query, headers: &HeaderMap, body: Body) -> Option<String> {
    if query.names().any(|name| name.starts_with(b"since[")) {
        return Some(String::new());
    }
    if let Some(since) = query.last_text("since") {
        return Some(since);
    }
    let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    if !content_type.starts_with("application/json") {
        return None;
    }
    let bytes = to_bytes(body, BODY_BYTES_MAX).await.ok()?;
    match serde_json::from_slice::<serde_json::Value>(&bytes).ok()?.get("since")? {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => Some(String::new()),
    }
}

async fn recent(
    ops: &Ops,
    version: Version,
    format: Format,
    caller: &AccountCaller,
    since: Option<&str>,
) -> Result<Vec<u8>, Failure> {
    let since = parse_since(since)?;
    let files = ops.recent(caller, since).await.map_err(|error| internal(&error))?;
    let mut writer = RecentWriter::new(version, format, files.len());
    for file in &files {
        writer.row(&RecentRow {
            id: file.id,
            time: file.arrived_at.to_secs(),
            name: &String::from_utf8_lossy(file.path.name()),
            path: &file.path.to_text(),
            modified_user: &file.user,
        });
    }
    if let Some(newest) = files.first().map(newest) {
        ops.recent_shown(caller, newest).await.map_err(|error| internal(&error))?;
    }
    Ok(writer.finish())
}

fn newest(file: &StoredFile) -> TimestampSecs {
    file.arrived_at.to_secs()
}

/// What a client asks for when it logs in: nothing is claimed that is not served.
fn capabilities() -> Node {
    let (major, minor, micro, text) = NEXTCLOUD;
    Node::map([
        (
            "version",
            Node::map([
                ("major", Node::Int(major)),
                ("minor", Node::Int(minor)),
                ("micro", Node::Int(micro)),
                ("string", Node::text(text)),
                ("edition", Node::text("")),
                ("extendedSupport", Node::Bool(false)),
            ]),
        ),
        (
            "capabilities",
            Node::map([(
                "core",
                Node::map([("pollinterval", Node::Int(60)), ("webdav-root", Node::text("remote.php/webdav"))]),
            )]),
        ),
    ])
}

fn user(caller: &AccountCaller) -> Node {
    let name = || Node::text(caller.account.name.clone());
    Node::map([("id", name()), ("display-name", name()), ("displayname", name()), ("enabled", Node::Bool(true))])
}

fn ok(format: Format, body: Vec<u8>) -> Response {
    controller_headers((StatusCode::OK, [(header::CONTENT_TYPE, format.content_type())], body).into_response())
}

fn refused(version: Version, format: Format, failure: &Failure, headers: &HeaderMap) -> Response {
    let answer = failure.answer(version, format);
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, [(header::CONTENT_TYPE, answer.content_type)], answer.body).into_response();
    if *failure == Failure::WrongPassword {
        let by_script = headers.get("x-requested-with").is_some_and(|value| value == "XMLHttpRequest");
        let challenge = if by_script { "DummyBasic" } else { "Basic" };
        if let Ok(value) = HeaderValue::try_from(format!("{challenge} realm=\"Authorisation Required\"")) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
    }
    controller_headers(response)
}

/// Section C5.
fn csrf() -> Response {
    let json = [(header::CONTENT_TYPE, Format::Json.content_type())];
    let body = r#"{"message":"CSRF check failed"}"#;
    controller_headers((StatusCode::PRECONDITION_FAILED, json, body).into_response())
}

fn controller_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let never = HeaderValue::from_static("no-cache, no-store, must-revalidate");
    headers.insert(header::CACHE_CONTROL, never);
    let policy =
        HeaderValue::from_static("default-src 'none';base-uri 'none';manifest-src 'self';frame-ancestors 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

fn internal(error: &OpsError) -> Failure {
    log_failure(error);
    Failure::Internal
}
