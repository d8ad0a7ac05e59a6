//! OCS: `recent`, the deletion of a connection, and what a client needs to log in.
//!
//! The order of the checks is the original's (protocol, section C6): wrong credentials, unknown route, wrong method,
//! no credentials, the CSRF header, and only then format and parameters.

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use filebell_core::event::StoredFile;
use filebell_core::time::TimestampSecs;
use filebell_core::wire::ocs::{Failure, Format, Node, RecentRow, RecentWriter, Version, parse_since, success};
use futures_util::stream::{self, StreamExt};
use sha2::{Digest, Sha256};

use super::super::auth::{self, Given};
use super::super::problem::log_failure;
use super::super::query::Query;
use super::login_page;
use crate::ops::{AccountCaller, Caller, Ops, OpsError};

/// A request body is read up to here; `since` may come in one.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;
/// The content type of an answer that is JSON whatever was asked for.
pub(super) const JSON: &str = Format::Json.content_type();
/// The Nextcloud version that clients are told; it decides what they expect.
const NEXTCLOUD: (i64, i64, i64, &str) = (31, 0, 6, "31.0.6");
/// Files of `recent` that are held at once; a longer answer is sent in pieces.
const PAGE_FILES: u32 = 1000;
/// The largest piece of a chunked upload that clients are asked to send.
const CHUNK_BYTES: i64 = 100 * 1024 * 1024;

/// Everything below `/ocs/v1.php/`.
pub(super) async fn v1(State(ops): State<Ops>, request: Request) -> Response {
    answer(&ops, Version::V1, request).await
}

/// Everything below `/ocs/v2.php/`.
pub(super) async fn v2(State(ops): State<Ops>, request: Request) -> Response {
    answer(&ops, Version::V2, request).await
}

/// `/status.php`: the first thing a desktop client asks.
pub(super) async fn status() -> Response {
    let (major, minor, micro, text) = NEXTCLOUD;
    let body = Node::map([
        ("installed", Node::Bool(true)),
        ("maintenance", Node::Bool(false)),
        ("needsDbUpgrade", Node::Bool(false)),
        ("version", Node::text(format!("{major}.{minor}.{micro}.2"))),
        ("versionstring", Node::text(text)),
        ("edition", Node::text("")),
        ("productname", Node::text("Nextcloud")),
        ("extendedSupport", Node::Bool(false)),
    ]);
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")];
    (headers, body.to_json()).into_response()
}

/// What is served.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    Recent,
    RemoveConnection,
    Capabilities,
    User,
    Config,
    /// The webhooks of Nextcloud itself: an administrator's business, and no account of ours is one.
    Webhooks,
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        let (_, below) = path.split_once(".php/")?;
        match below {
            "apps/file_upload_notification/api/recent" => Some(Self::Recent),
            "apps/file_upload_notification/api/config" => Some(Self::RemoveConnection),
            "cloud/capabilities" => Some(Self::Capabilities),
            "cloud/user" => Some(Self::User),
            "config" => Some(Self::Config),
            "apps/webhook_listeners/api/v1/webhooks" => Some(Self::Webhooks),
            _ => None,
        }
    }

    fn takes(self, method: &Method) -> bool {
        match self {
            Self::RemoveConnection => method == Method::DELETE,
            Self::Webhooks => matches!(*method, Method::GET | Method::HEAD | Method::POST),
            Self::Recent | Self::Capabilities | Self::User | Self::Config => {
                matches!(*method, Method::GET | Method::HEAD)
            }
        }
    }

    const fn is_public(self) -> bool {
        matches!(self, Self::Capabilities | Self::Config)
    }
}

async fn answer(ops: &Ops, version: Version, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let query = Query::new(parts.uri.query());
    let format = query.last_text("format");
    let early = Format::of_parameter(format.as_deref());
    let refuse = |failure: Failure, format| refused(version, format, &failure, &parts);

    let caller = match caller(ops, &parts).await {
        Ok(caller) => caller,
        Err(failure) => return refuse(failure, early),
    };
    let Some(route) = Route::of(parts.uri.path()) else { return refuse(Failure::UnknownRoute, early) };
    if !route.takes(&parts.method) {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::CONTENT_TYPE, early.early_content_type())]).into_response();
    }
    let format = Format::negotiate(format.as_deref(), accept(&parts.headers));
    if caller.is_none() && !route.is_public() {
        return refuse(Failure::NoCredentials, format.unwrap_or(Format::Xml));
    }
    if !passes_csrf(&parts) {
        return csrf(&parts.headers);
    }
    let format = match format {
        Ok(format) => format,
        Err(failure) => return refuse(failure, Format::Xml),
    };
    let answered = match (route, caller) {
        (Route::Recent, Some(caller)) => {
            let since = since(&query, &parts.headers, body).await;
            let asked = Asked { ops: ops.clone(), caller, version, format, shown: parts.method != Method::HEAD };
            asked.recent(since.as_deref()).await.map(|body| ok(format, body))
        }
        (Route::RemoveConnection, Some(caller)) => match ops.remove_connection(&caller).await {
            Ok(()) => Ok(ok(Format::Json, "[]".into())),
            Err(error) => Err(internal(&error)),
        },
        (Route::User, Some(caller)) => match quota(ops, &caller).await {
            Ok(quota) => Ok(ok(format, success(version, format, &user(&caller, quota)).into())),
            Err(error) => Err(internal(&error)),
        },
        (Route::Webhooks, _) => Err(Failure::NotAdmin),
        (Route::Config, _) => Ok(ok(format, success(version, format, &config(&parts)).into())),
        (_, caller) => Ok(tagged(
            format,
            success(version, format, &capabilities(caller.is_some(), ops.public_url())),
            &parts.headers,
        )),
    };
    answered.unwrap_or_else(|failure| refuse(failure, format))
}

fn accept(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::ACCEPT).and_then(|value| value.to_str().ok())
}

/// Nobody, if nothing was given; whoever logs in, if their password is right.
pub(super) async fn caller(ops: &Ops, parts: &Parts) -> Result<Option<AccountCaller>, Failure> {
    let found = match auth::given(&parts.headers) {
        Given::Nothing => return Ok(None),
        Given::Password(basic) => auth::login(ops, &basic, &parts.extensions).await,
        Given::Token(token) => match ops.bearer(&token).await {
            Ok(Caller::Account(caller)) => Ok(caller),
            Ok(Caller::Operator | Caller::Application(_)) | Err(OpsError::Expired) => Err(OpsError::Credentials),
            Err(error) => Err(error),
        },
        Given::Unreadable => Err(OpsError::Credentials),
    };
    found.map(Some).map_err(|error| match error {
        OpsError::Credentials => Failure::WrongPassword,
        OpsError::Throttled => Failure::TooManyLogins,
        error => internal(&error),
    })
}

/// Whether the request cannot have been made by a page in somebody's browser (section C5).
pub(super) fn passes_csrf(parts: &Parts) -> bool {
    let named = parts.headers.get("ocs-apirequest").is_some_and(|value| !value.is_empty());
    named || matches!(auth::given(&parts.headers), Given::Token(_))
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

/// A request for `recent`.
struct Asked {
    ops: Ops,
    caller: AccountCaller,
    version: Version,
    format: Format,
    /// Whether the answer's body will be seen: a HEAD shows nobody anything.
    shown: bool,
}

/// What is still to be sent of a long answer.
struct Rest {
    asked: Asked,
    since: TimestampSecs,
    writer: RecentWriter,
    newest: StoredFile,
    last: StoredFile,
}

impl Asked {
    async fn recent(self, since: Option<&str>) -> Result<Body, Failure> {
        let since = parse_since(since)?;
        let page = self.page(since, None).await.map_err(|error| internal(&error))?;
        let (Some(first), Some(last)) = (page.first(), page.last()) else {
            return Ok(RecentWriter::new(self.version, self.format, 0).finish().into());
        };
        let (newest, last) = (first.clone(), last.clone());
        let whole = page.len() < usize::try_from(PAGE_FILES).unwrap_or(usize::MAX);
        let count = if whole { page.len() } else { self.count(since).await?.max(page.len()) };
        let mut writer = RecentWriter::new(self.version, self.format, count);
        rows(&mut writer, &page);
        if whole {
            self.shown(since, &newest).await.map_err(|error| internal(&error))?;
            return Ok(writer.finish().into());
        }
        let begin = writer.take();
        let rest = Rest { asked: self, since, writer, newest, last };
        let pieces = stream::try_unfold(Some(rest), |rest| async {
            match rest {
                Some(rest) => rest.next().await.map(Some),
                None => Ok(None),
            }
        });
        Ok(Body::from_stream(stream::iter([Ok(begin)]).chain(pieces)))
    }

    async fn page(&self, since: TimestampSecs, before: Option<&StoredFile>) -> Result<Vec<StoredFile>, OpsError> {
        self.ops.recent(&self.caller, since, before, PAGE_FILES).await
    }

    async fn count(&self, since: TimestampSecs) -> Result<usize, Failure> {
        let count = self.ops.recent_count(&self.caller, since).await.map_err(|error| internal(&error))?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    async fn shown(&self, since: TimestampSecs, newest: &StoredFile) -> Result<(), OpsError> {
        if self.shown { self.ops.recent_shown(&self.caller, since, newest).await } else { Ok(()) }
    }
}

impl Rest {
    /// The next piece, and what comes after it. Only who was sent all of it has been shown it.
    async fn next(mut self) -> Result<(Vec<u8>, Option<Self>), OpsError> {
        let page = self.asked.page(self.since, Some(&self.last)).await?;
        let Some(last) = page.last() else {
            self.asked.shown(self.since, &self.newest).await?;
            return Ok((self.writer.finish(), None));
        };
        rows(&mut self.writer, &page);
        self.last = last.clone();
        Ok((self.writer.take(), Some(self)))
    }
}

fn rows(writer: &mut RecentWriter, files: &[StoredFile]) {
    for file in files {
        writer.row(&RecentRow {
            id: file.id,
            time: file.arrived_at.to_secs(),
            name: &String::from_utf8_lossy(file.path.name()),
            path: &file.path.to_text(),
            modified_user: &file.user,
        });
    }
}

/// What a client asks for when it logs in: nothing is claimed that is not served.
fn capabilities(logged_in: bool, base: &str) -> Node {
    let (major, minor, micro, text) = NEXTCLOUD;
    let version = Node::map([
        ("major", Node::Int(major)),
        ("minor", Node::Int(minor)),
        ("micro", Node::Int(micro)),
        ("string", Node::text(text)),
        ("edition", Node::text("")),
        ("extendedSupport", Node::Bool(false)),
    ]);
    let guessing = ("bruteforce", Node::map([("delay", Node::Int(0)), ("allow-listed", Node::Bool(false))]));
    let all = if logged_in {
        let chunked = Node::map([("max_size", Node::Int(CHUNK_BYTES)), ("max_parallel_count", Node::Int(5))]);
        Node::map([
            (
                "core",
                Node::map([
                    ("pollinterval", Node::Int(60)),
                    ("webdav-root", Node::text("remote.php/webdav")),
                    ("mod-rewrite-working", Node::Bool(true)),
                ]),
            ),
            guessing,
            ("files", Node::map([("bigfilechunking", Node::Bool(true)), ("chunked_upload", chunked)])),
            (
                "checksums",
                Node::map([
                    ("supportedTypes", Node::List(["SHA1", "MD5", "SHA256", "ADLER32"].map(Node::text).into())),
                    ("preferredUploadType", Node::text("SHA1")),
                ]),
            ),
            ("dav", Node::map([("chunking", Node::text("1.0"))])),
            ("theming", theming(base)),
        ])
    } else {
        Node::map([guessing, ("theming", theming(base))])
    };
    Node::map([("version", version), ("capabilities", all)])
}

/// How clients are to look: as they do where nobody has changed anything.
fn theming(base: &str) -> Node {
    let (blue, white) = (|| Node::text("#00679e"), || Node::text("#ffffff"));
    let logo = || Node::text(format!("{base}/core/img/logo/logo.svg?v=0"));
    Node::map([
        ("name", Node::text("Nextcloud")),
        ("url", Node::text("https://nextcloud.com")),
        ("slogan", Node::text("a safe home for all your data")),
        ("color", blue()),
        ("color-text", white()),
        ("color-element", blue()),
        ("color-element-bright", blue()),
        ("color-element-dark", blue()),
        ("logo", logo()),
        ("background", Node::text(format!("{base}/apps/theming/img/background/jenna-kim-the-globe.webp"))),
        ("background-text", white()),
        ("background-plain", Node::Bool(false)),
        ("background-default", Node::Bool(true)),
        ("logoheader", logo()),
        ("favicon", logo()),
    ])
}

fn config(parts: &Parts) -> Node {
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    Node::map([
        ("version", Node::text("1.7")),
        ("website", Node::text("Nextcloud")),
        ("host", Node::text(host)),
        ("contact", Node::text("")),
        ("ssl", Node::text("false")),
    ])
}

/// What an account holds and may hold; -3 is no bound.
async fn quota(ops: &Ops, caller: &AccountCaller) -> Result<Node, OpsError> {
    let (usage, free) = (ops.usage(&caller.account).await?, ops.available(caller).await?);
    let int = |bytes| Node::Int(i64::try_from(bytes).unwrap_or(i64::MAX));
    let (free, total, relative, quota) = match (free, usage.quota) {
        (Some(free), Some(quota)) => {
            let total = match usage.used.saturating_add(free) {
                total if quota > 0 => total.min(quota),
                total => total,
            };
            // Hundredths of a hundredth, rounded.
            let part =
                (u128::from(usage.used) * 20_000).checked_div(u128::from(total)).map_or(0, |twice| twice.div_ceil(2));
            (int(free), int(total), Node::Hundredths(u64::try_from(part).unwrap_or(u64::MAX)), int(quota))
        }
        _ => (Node::Int(-3), Node::Int(-3), Node::Int(0), Node::Int(-3)),
    };
    Ok(Node::map([
        ("free", free),
        ("used", int(usage.used)),
        ("total", total),
        ("relative", relative),
        ("quota", quota),
    ]))
}

/// The members of the original, in its order; what is not known here is empty, as in a fresh account there.
fn user(caller: &AccountCaller, quota: Node) -> Node {
    let (name, empty) = (|| Node::text(caller.account.name.clone()), || Node::text(""));
    let (local, federated) = (|| Node::text("v2-local"), || Node::text("v2-federated"));
    let mut members = vec![
        ("enabled", Node::Bool(true)),
        ("id", name()),
        ("firstLoginTimestamp", Node::Int(0)),
        ("lastLoginTimestamp", Node::Int(0)),
        ("lastLogin", Node::Int(0)),
        ("backend", Node::text("Database")),
        ("subadmin", Node::List(Vec::new())),
        ("quota", quota),
        ("manager", empty()),
        ("avatarScope", federated()),
        ("email", Node::Null),
        ("emailScope", federated()),
        ("additional_mail", Node::List(Vec::new())),
        ("additional_mailScope", Node::List(Vec::new())),
        ("displayname", name()),
        ("display-name", name()),
        ("displaynameScope", federated()),
    ];
    members.extend(
        [
            ("phone", "phoneScope"),
            ("address", "addressScope"),
            ("website", "websiteScope"),
            ("twitter", "twitterScope"),
            ("fediverse", "fediverseScope"),
            ("organisation", "organisationScope"),
            ("role", "roleScope"),
            ("headline", "headlineScope"),
            ("biography", "biographyScope"),
        ]
        .into_iter()
        .flat_map(|(member, scope)| [(member, empty()), (scope, local())]),
    );
    members.extend([
        ("profile_enabled", Node::text("1")),
        ("profile_enabledScope", local()),
        ("pronouns", empty()),
        ("pronounsScope", federated()),
        ("groups", Node::List(Vec::new())),
        ("language", Node::text("en")),
        ("locale", empty()),
        ("notify_email", Node::Null),
        ("backendCapabilities", Node::map([("setDisplayName", Node::Bool(true)), ("setPassword", Node::Bool(true))])),
    ]);
    Node::Map(members.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

fn ok(format: Format, body: Body) -> Response {
    controller_headers((StatusCode::OK, [(header::CONTENT_TYPE, format.content_type())], body).into_response())
}

/// An answer that need not be sent again to who has it.
fn tagged(format: Format, body: Vec<u8>, asked: &HeaderMap) -> Response {
    let digest = Sha256::digest(&body);
    let tag = format!("\"{}\"", hex::encode(digest.get(..16).unwrap_or_default()));
    let known = asked.get_all(header::IF_NONE_MATCH).iter().any(|value| value.as_bytes() == tag.as_bytes());
    let mut response = ok(format, if known { Body::empty() } else { body.into() });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    if let Ok(value) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

pub(super) fn refused(version: Version, format: Format, failure: &Failure, asked: &Parts) -> Response {
    if *failure == Failure::NoCredentials && accept(&asked.headers).is_some_and(|accept| accept.contains("html")) {
        return login_page(&asked.uri);
    }
    let answer = failure.answer(version, format);
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, [(header::CONTENT_TYPE, answer.content_type)], answer.body).into_response();
    if *failure == Failure::WrongPassword {
        let by_script = asked.headers.get("x-requested-with").is_some_and(|value| value == "XMLHttpRequest");
        let challenge = if by_script { "DummyBasic" } else { "Basic" };
        if let Ok(value) = HeaderValue::try_from(format!("{challenge} realm=\"Authorisation Required\"")) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
    }
    controller_headers(response)
}

/// Section C5.
pub(super) fn csrf(headers: &HeaderMap) -> Response {
    let (content_type, body) = if accept(headers).is_some_and(|accept| accept.contains("html")) {
        let page = "<!DOCTYPE html>\n<html><head><title>Access forbidden</title></head>\n\
                    <body><h1>Access forbidden</h1><p>CSRF check failed</p></body></html>\n";
        ("text/html; charset=UTF-8", page)
    } else {
        (JSON, r#"{"message":"CSRF check failed"}"#)
    };
    controller_headers((StatusCode::PRECONDITION_FAILED, [(header::CONTENT_TYPE, content_type)], body).into_response())
}

pub(super) fn controller_headers(mut response: Response) -> Response {
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
