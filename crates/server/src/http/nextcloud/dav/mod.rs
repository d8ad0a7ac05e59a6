//! WebDAV as a Nextcloud speaks it, under both of its addresses.
//!
//! GET, PROPFIND, PROPPATCH and uploads in pieces are answered here. For the rest the conditions, the locks and the
//! order of things are a library's, above a file system of our own.

mod fs;
mod props;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, to_bytes};
use axum::extract::{Extension, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dav_server::davpath::DavPath;
use dav_server::ls::{DavLock, DavLockSystem};
use dav_server::memls::MemLs;
use dav_server::{DavConfig, DavHandler};
use filebell_core::id::AccountId;
use filebell_core::path::FilePath;
use filebell_core::wire::{percent_encode, xml};
use futures_util::StreamExt;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::super::auth::{self, Given};
use super::super::file_body;
use super::super::problem::log_failure;
use crate::ops::{AccountCaller, ApplicationCaller, Caller, Checksum, Entry, Mtime, OpenFile, Ops, OpsError};
use fs::{About, Tree};

/// The longest body of a request that is not an upload.
const BODY_BYTES_MAX: usize = 1 << 20;
/// The address of the caller's own tree, and of what precedes an account's name.
const OWN_TREE: &str = "/remote.php/webdav";
const ACCOUNT_TREES: &str = "/remote.php/dav/files/";
const HTML: &str = "text/html; charset=UTF-8";
const METHODS: &str = "OPTIONS, GET, HEAD, DELETE, PROPFIND, PUT, PROPPATCH, COPY, MOVE, MKCOL, LOCK, UNLOCK";
const CLASSES: &str = "1, 2, 3, extended-mkcol, nextcloud-checksum-update";

/// Every number of a file is followed by it, as if by the id of an installation.
const fn instance_id() -> &'static str {
    "ocfilebell01"
}

/// The locks of each account, in memory: they end with the process.
#[derive(Clone, Default)]
pub(super) struct Locks(Arc<Mutex<HashMap<AccountId, Box<MemLs>>>>);

impl Locks {
    fn of(&self, account: AccountId) -> Box<MemLs> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.entry(account).or_insert_with(MemLs::new).clone()
    }
}

/// Where a request came in: an account's tree under one of its addresses.
#[derive(Clone)]
struct Site {
    ops: Ops,
    caller: AccountCaller,
    locks: Box<MemLs>,
    /// The tree's address, percent-encoded, without a slash at its end.
    base: String,
    /// The same, decoded.
    prefix: String,
}

impl Site {
    /// The address of a path, percent-encoded, without its host.
    fn address(&self, path: Option<&FilePath>) -> String {
        let path = path.map(FilePath::as_bytes).unwrap_or(b"/");
        let encoded = percent_encoding::percent_encode(path, NON_ALPHANUMERIC).to_string().replace("%2F", "/");
        format!("{}{encoded}", self.base)
    }

    async fn locks_on(&self, path: Option<&FilePath>) -> Vec<DavLock> {
        let Ok(mut path) = DavPath::new(&self.address(path)) else { return Vec::new() };
        match path.set_prefix(&self.prefix) {
            Ok(()) => self.locks.discover(&path).await,
            Err(_) => Vec::new(),
        }
    }
}

/// Why a request is refused, in the original's words where there are any.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    message: String,
    header: Option<&'static str>,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), header: None }
    }

    fn bad_request(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "File could not be located")
    }

    /// No room at a path, in the original's words.
    fn no_room(path: Option<&FilePath>, error: OpsError) -> Self {
        let path = path.map_or("/".into(), FilePath::to_text);
        match error {
            OpsError::NoRoom { required, available } => {
                let text = format!("Insufficient space in {path}, {required} required, {available} available");
                Self::new(StatusCode::INSUFFICIENT_STORAGE, text)
            }
            other => other.into(),
        }
    }

    /// The class of the exception that the original would have thrown.
    fn exception(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED => "NotAuthenticated",
            StatusCode::FORBIDDEN => "Forbidden",
            StatusCode::NOT_FOUND => "NotFound",
            StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
            StatusCode::CONFLICT => "Conflict",
            StatusCode::PRECONDITION_FAILED => "PreconditionFailed",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "UnsupportedMediaType",
            StatusCode::LOCKED => "Locked",
            StatusCode::INSUFFICIENT_STORAGE => "InsufficientStorage",
            StatusCode::NOT_IMPLEMENTED => "NotImplemented",
            StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
            status if status.is_server_error() => "ServiceUnavailable",
            _ => "BadRequest",
        }
    }
}

impl From<OpsError> for Refusal {
    fn from(error: OpsError) -> Self {
        use StatusCode as S;
        match &error {
            OpsError::NotFound(_) => Self::not_found(),
            OpsError::NotGranted(_) | OpsError::Path(_) => Self::new(S::FORBIDDEN, "This is not allowed"),
            OpsError::Exists(_) => Self::new(S::METHOD_NOT_ALLOWED, "The resource you tried to create already exists"),
            OpsError::Upload(why) => Self::new(S::BAD_REQUEST, why.to_string()),
            OpsError::Throttled => Self::new(S::TOO_MANY_REQUESTS, "Too many requests"),
            OpsError::NoRoom { .. } => Self::no_room(None, error),
            OpsError::File(why) if matches!(why.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                log_failure(&error);
                Self::new(S::INSUFFICIENT_STORAGE, "The disk is full")
            }
            OpsError::File(why) if why.kind() == io::ErrorKind::PermissionDenied => {
                Self::new(S::FORBIDDEN, "This is not allowed")
            }
            _ => {
                log_failure(&error);
                Self::new(S::SERVICE_UNAVAILABLE, "This cannot be done now")
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut message = String::new();
        filebell_core::wire::ocs::push_xml_text(&mut message, &self.message);
        let header = self.header.map(|name| format!("  <s:header>{name}</s:header>\n")).unwrap_or_default();
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<d:error xmlns:d=\"DAV:\" \
             xmlns:s=\"http://sabredav.org/ns\">\n  <s:exception>Sabre\\DAV\\Exception\\{}</s:exception>\n  \
             <s:message>{message}</s:message>\n{header}</d:error>\n",
            self.exception()
        );
        let mut response = answer_xml(self.status, body.into());
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                let challenge = HeaderValue::from_static("Basic realm=\"Nextcloud\", charset=\"UTF-8\"");
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(header::ALLOW, HeaderValue::from_static(METHODS));
            }
            _ => (),
        }
        response
    }
}

fn answer_xml(status: StatusCode, body: Body) -> Response {
    finished((status, [(header::CONTENT_TYPE, "application/xml; charset=utf-8")], body).into_response())
}

fn empty(status: StatusCode) -> Response {
    finished((status, [(header::CONTENT_TYPE, HTML)]).into_response())
}

fn finished(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none';"));
    if response.status() == StatusCode::MULTI_STATUS {
        response.headers_mut().insert("dav", HeaderValue::from_static(CLASSES));
    }
    response
}

/// `/remote.php/webdav/PATH`: the caller's own tree.
pub(super) async fn own(State(ops): State<Ops>, Extension(locks): Extension<Locks>, request: Request) -> Response {
    let find = |path: &str, _: &str| Some(path.strip_prefix(OWN_TREE)?.to_owned());
    let answered = serve(ops, locks, request, find, |_| OWN_TREE.to_owned()).await;
    answered.unwrap_or_else(IntoResponse::into_response)
}

/// `/remote.php/dav/files/ACCOUNT/PATH`: the same tree under its account's name.
pub(super) async fn of_account(
    State(ops): State<Ops>,
    Extension(locks): Extension<Locks>,
    request: Request,
) -> Response {
    let find = |path: &str, own: &str| below_account(path, ACCOUNT_TREES, own);
    let answered = serve(ops, locks, request, find, |own| format!("{ACCOUNT_TREES}{own}")).await;
    answered.unwrap_or_else(IntoResponse::into_response)
}

/// What stands in a URL's path after the name of its own account; another account's is not even known to exist.
fn below_account(path: &str, tree: &str, own: &str) -> Option<String> {
    let below = path.strip_prefix(tree)?;
    let account = below.split('/').next()?;
    let rest = below.get(account.len()..)?;
    percent_decode_str(account).eq(own.bytes()).then(|| rest.to_owned())
}

/// The account in whose tree a URL's path lies.
fn account_named(path: &str) -> Option<String> {
    let name = path.strip_prefix(ACCOUNT_TREES)?.split('/').next()?;
    Some(percent_decode_str(name).decode_utf8().ok()?.into_owned())
}

/// The path of a file in a tree; `None` for the tree's root.
fn file_path(encoded: &str) -> Result<Option<FilePath>, Refusal> {
    let bytes: Vec<u8> = percent_decode_str(encoded).collect();
    let names: Vec<&[u8]> = bytes.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return Ok(None);
    }
    let path = [b"/".as_slice(), &names.join(&b'/')].concat();
    Ok(Some(FilePath::from_bytes(&path).map_err(OpsError::Path)?))
}

enum Who {
    Account(AccountCaller),
    Application(Box<ApplicationCaller>),
    Operator,
}

async fn who(ops: &Ops, request: &Parts) -> Result<Who, Refusal> {
    let found = match auth::given(&request.headers) {
        Given::Password(basic) => auth::login(ops, &basic, &request.extensions).await.map(Who::Account),
        Given::Token(token) => match ops.bearer(&token).await {
            Ok(Caller::Account(caller)) => Ok(Who::Account(caller)),
            Ok(Caller::Application(caller)) => Ok(Who::Application(caller)),
            Ok(Caller::Operator) => Ok(Who::Operator),
            Err(error) => Err(error),
        },
        Given::Nothing | Given::Unreadable => Err(OpsError::Credentials),
    };
    found.map_err(|error| match error {
        OpsError::Credentials | OpsError::Expired => {
            let text = "No public access to this resource., Username or password was incorrect, No 'Authorization: \
                        Bearer' header found. Either the client didn't send one, or the server is mis-configured, \
                        Username or password was incorrect";
            Refusal::new(StatusCode::UNAUTHORIZED, text)
        }
        error => error.into(),
    })
}

async fn serve(
    ops: Ops,
    locks: Locks,
    request: Request,
    find: impl Fn(&str, &str) -> Option<String>,
    prefix: impl Fn(&str) -> String,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    let path = |own: &str| file_path(&find(parts.uri.path(), own).ok_or_else(Refusal::not_found)?);
    let (caller, path) = match who(&ops, &parts).await? {
        Who::Account(caller) => {
            let path = path(&caller.account.name)?;
            (caller, path)
        }
        // An application reads what it was granted, and nothing else.
        Who::Application(caller) if reads => {
            let path = path(&caller.account.name)?.ok_or_else(Refusal::not_found)?;
            let open = ops.open_granted_path(&caller, path).await?;
            return Ok(file(open, None, &parts).await?);
        }
        // The operator reads any account's, by its name.
        Who::Operator if reads => {
            let name = account_named(parts.uri.path()).ok_or_else(Refusal::not_found)?;
            let path = path(&name)?.ok_or_else(Refusal::not_found)?;
            let open = ops.open_any_file(&name, path).await?;
            return Ok(file(open, None, &parts).await?);
        }
        Who::Application(_) | Who::Operator => {
            return Err(Refusal::new(StatusCode::FORBIDDEN, "This is not allowed"));
        }
    };
    let locks = locks.of(caller.account.id);
    let encoded = utf8_percent_encode(&caller.account.name, NON_ALPHANUMERIC).to_string();
    let encoded = encoded.replace("%2E", ".").replace("%2D", "-").replace("%5F", "_");
    let (base, prefix) = (prefix(&encoded), prefix(&caller.account.name));
    let site = Site { ops, caller, locks, base, prefix };
    match parts.method.as_str() {
        "GET" | "HEAD" => get(&site, path, &parts).await,
        "OPTIONS" => Ok(options()),
        "PROPFIND" => {
            let body = small(body).await?;
            props::find(site, path, &parts.headers, &body).await
        }
        "PROPPATCH" => {
            let body = small(body).await?;
            unlocked(&site, path.as_ref(), &parts).await?;
            props::patch(&site, path, &body).await
        }
        "PUT" | "MKCOL" | "DELETE" | "COPY" | "MOVE" | "LOCK" | "UNLOCK" => change(&site, path, parts, body).await,
        method => {
            let text = format!("There was no plugin in the system that was willing to handle this {method} method.");
            Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, text))
        }
    }
}

async fn small(body: Body) -> Result<Vec<u8>, Refusal> {
    let read = to_bytes(body, BODY_BYTES_MAX).await;
    read.map(Into::into).map_err(|_| Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "The request is too large"))
}

/// Properties of a locked file are changed only by who names the lock.
async fn unlocked(site: &Site, path: Option<&FilePath>, parts: &Parts) -> Result<(), Refusal> {
    let locks = site.locks_on(path).await;
    let named = parts.headers.get("if").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if locks.iter().all(|lock| named.contains(&lock.token)) {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::LOCKED, "The resource is locked"))
}

fn options() -> Response {
    let mut response = empty(StatusCode::OK);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(METHODS));
    response.headers_mut().insert("dav", HeaderValue::from_static(CLASSES));
    response
}

async fn get(site: &Site, path: Option<FilePath>, parts: &Parts) -> Result<Response, Refusal> {
    let entry = site.ops.entry(&site.caller, path.clone()).await?;
    let (Some(path), false) = (path, entry.is_directory()) else { return Ok(empty(StatusCode::OK)) };
    let open = site.ops.open_own_file(&site.caller, path).await?;
    Ok(file(open, Some(&entry), parts).await?)
}

async fn file(open: OpenFile, entry: Option<&Entry>, parts: &Parts) -> Result<Response, OpsError> {
    let name = percent_encode(open.path.name());
    let mut response = file_body::answer(open, &parts.method, &parts.headers).await?;
    let headers = response.headers_mut();
    let text = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()?.strip_prefix("text/"));
    if let Some(kind) = text.and_then(|kind| HeaderValue::try_from(format!("text/{kind};charset=UTF-8")).ok()) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    let named = format!("attachment; filename*=UTF-8''{name}; filename=\"{name}\"");
    if let Ok(named) = HeaderValue::try_from(named) {
        headers.insert(header::CONTENT_DISPOSITION, named);
    }
    if let Some(tag) = headers.get(header::ETAG).cloned() {
        headers.insert("oc-etag", tag);
    }
    if let Some(Ok(checksum)) = entry.and_then(Entry::checksum).map(HeaderValue::try_from) {
        headers.insert("oc-checksum", checksum);
    }
    Ok(finished(response))
}

/// What the original asks a directory to have room for.
const DIRECTORY_BYTES: u64 = 4096;

/// A directory is copied file by file; if not all of them fit, none is.
async fn room_for_copy(site: &Site, from: Option<FilePath>, to: Option<FilePath>) -> Result<(), Refusal> {
    let (Some(to), Ok(entry)) = (to, site.ops.entry(&site.caller, from.clone()).await) else { return Ok(()) };
    let bytes = match entry.is_directory() {
        true => site.ops.bytes_below(&site.caller, from).await?,
        false => entry.look.print.size,
    };
    let fits = site.ops.must_fit(&site.caller.account, &to, bytes).await;
    // The original names what is there: the file, or the directory that it would come into.
    let named = match site.ops.entry(&site.caller, Some(to.clone())).await {
        Ok(_) => Some(to),
        Err(_) => to.parent(),
    };
    fits.map_err(|error| Refusal::no_room(named.as_ref(), error))
}

async fn room_for_directory(site: &Site, path: Option<&FilePath>) -> Result<(), Refusal> {
    let left = site.ops.usage(&site.caller.account).await?.left();
    match left.filter(|left| *left < DIRECTORY_BYTES) {
        None => Ok(()),
        Some(left) => {
            let parent = path.and_then(FilePath::parent).map_or_else(|| "/".to_owned(), |path| path.to_text().into());
            let text = format!("Insufficient space in {parent}. {left} available. Cannot create directory");
            Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, text))
        }
    }
}

/// Hands a change to the protocol layer, and says what came of it as the original would.
async fn change(site: &Site, path: Option<FilePath>, mut parts: Parts, body: Body) -> Result<Response, Refusal> {
    let method = parts.method.clone();
    if method == Method::PUT && parts.headers.contains_key(header::CONTENT_RANGE) {
        return Err(Refusal::bad_request("Content-Range on PUT requests are forbidden."));
    }
    let body = if method == Method::PUT {
        body
    } else {
        let body = small(body).await?;
        // The protocol layer reads XML without bounds: it gets what we can read.
        if method.as_str() == "LOCK" && !body.is_empty() && xml::read(&body).is_err() {
            return Err(Refusal::bad_request("The request body is not XML"));
        }
        body.into()
    };
    let mtime = mtime(&parts.headers)?;
    let target = match method.as_str() {
        "MOVE" | "COPY" => destination(site, &parts.headers)?,
        _ => path.clone(),
    };
    possible(&method, path.as_ref(), target.as_ref())?;
    if let Some(value) = parts.headers.get_mut("destination") {
        // Under the address the request came by, for the protocol layer knows no other.
        *value = HeaderValue::try_from(site.address(target.as_ref()))
            .map_err(|_| Refusal::bad_request("The destination header cannot be read"))?;
    }
    let replaced = match method.as_str() {
        "MOVE" | "COPY" => replaced(site, path.clone(), target.clone()).await,
        _ => None,
    };
    match method.as_str() {
        "COPY" => room_for_copy(site, path.clone(), target.clone()).await?,
        "MKCOL" => room_for_directory(site, path.as_ref()).await?,
        _ => (),
    }
    let about = Arc::new(About { mtime, writes: method == Method::PUT, replaced, ..About::default() });
    let tree = Tree { ops: site.ops.clone(), caller: site.caller.clone(), about: about.clone() };
    let handler: DavHandler = DavConfig::new()
        .filesystem(Box::new(tree))
        .locksystem(site.locks.clone())
        .strip_prefix(site.prefix.clone())
        .principal(site.caller.account.name.clone())
        .build_handler();
    let headers = parts.headers.clone();
    let uri = parts.uri.clone();
    let response = handler.handle(Request::from_parts(parts, body)).await;
    if let Some(refusal) = about.refusal() {
        return Err(refusal);
    }
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        return Err(refused(site, &method, status, path, &headers).await);
    }
    if status == StatusCode::MULTI_STATUS || method.as_str() == "LOCK" {
        return Ok(finished(response.map(Body::new)));
    }
    tracing::debug!(%method, uri = uri.path(), status = status.as_u16(), "changed");
    let mut answer = empty(status);
    if matches!(method.as_str(), "PUT" | "MOVE" | "COPY") {
        told(site, target, &method, mtime, answer.headers_mut()).await?;
    }
    Ok(answer)
}

/// Refuses what the protocol layer would begin with removing and could not end: a change that takes the root away, or
/// one that takes its own source or destination away.
fn possible(method: &Method, path: Option<&FilePath>, target: Option<&FilePath>) -> Result<(), Refusal> {
    let refuse = |status, message: &str| Err(Refusal::new(status, message));
    match (method.as_str(), path, target) {
        ("DELETE" | "MOVE", None, _) | ("MOVE" | "COPY", _, None) => {
            refuse(StatusCode::FORBIDDEN, "The root of a tree stays where it is")
        }
        ("MOVE" | "COPY", Some(from), Some(to)) if from == to => {
            refuse(StatusCode::FORBIDDEN, "Source and destination uri are identical.")
        }
        ("MOVE" | "COPY", from, Some(to)) if from.is_none_or(|from| to.is_below(from) || from.is_below(to)) => {
            refuse(StatusCode::CONFLICT, "The destination may not be part of the same subtree as the source path.")
        }
        _ => Ok(()),
    }
}

/// What clients are told of a file they have written.
async fn told(
    site: &Site,
    target: Option<FilePath>,
    method: &Method,
    mtime: Option<Mtime>,
    headers: &mut HeaderMap,
) -> Result<(), Refusal> {
    let entry = site.ops.entry(&site.caller, target).await?;
    let mut insert = |name: &'static str, value: String| {
        headers.extend(HeaderValue::try_from(value).ok().map(|value| (header::HeaderName::from_static(name), value)));
    };
    insert("oc-fileid", format!("{:08}{}", entry.file_id(), instance_id()));
    if method.as_str() != "COPY" {
        let tag = format!("\"{}\"", entry.tag());
        insert("etag", tag.clone());
        insert("oc-etag", tag);
    }
    if mtime.is_some() && method == Method::PUT {
        insert("x-oc-mtime", "accepted".to_owned());
    }
    Ok(())
}

/// A refusal of the protocol layer in the original's words.
async fn refused(
    site: &Site,
    method: &Method,
    status: StatusCode,
    path: Option<FilePath>,
    headers: &HeaderMap,
) -> Refusal {
    let mut refusal = Refusal::new(status, status.canonical_reason().unwrap_or_default());
    match (method.as_str(), status) {
        ("PUT", StatusCode::CONFLICT) => {
            let missing = first_missing(site, path.as_ref()).await;
            match missing {
                // The original names the first directory that is missing, below its root `/`.
                Some(missing) => {
                    refusal.status = StatusCode::NOT_FOUND;
                    refusal.message = format!("File with name /{} could not be located", missing.to_text());
                }
                None => refusal.message = "PUT is not allowed on non-files.".to_owned(),
            }
        }
        // So the protocol layer calls a body that cannot be read to its end.
        ("PUT", StatusCode::BAD_GATEWAY) => refusal = Refusal::bad_request("The upload broke off"),
        ("MKCOL", StatusCode::METHOD_NOT_ALLOWED) => {
            refusal.message = "The resource you tried to create already exists".to_owned();
        }
        ("MKCOL", StatusCode::CONFLICT) => refusal.message = "Parent node does not exist".to_owned(),
        (_, StatusCode::NOT_FOUND) => refusal = Refusal::not_found(),
        (_, StatusCode::PRECONDITION_FAILED) if headers.contains_key(header::IF_MATCH) => {
            refusal.header = Some("If-Match");
            refusal.message = "An If-Match header was specified, but none of the specified ETags matched.".to_owned();
        }
        (_, StatusCode::PRECONDITION_FAILED) if headers.contains_key(header::IF_NONE_MATCH) => {
            refusal.header = Some("If-None-Match");
            refusal.message =
                "An If-None-Match header was specified, but the ETag matched (or * was specified).".to_owned();
        }
        _ => (),
    }
    refusal
}

async fn first_missing(site: &Site, path: Option<&FilePath>) -> Option<FilePath> {
    let mut above: Vec<FilePath> = std::iter::successors(path?.parent(), FilePath::parent).collect();
    above.reverse();
    for directory in above {
        if site.ops.entry(&site.caller, Some(directory.clone())).await.is_err() {
            return Some(directory);
        }
    }
    None
}

/// A file that goes under another file's name writes over it in one step.
async fn replaced(site: &Site, from: Option<FilePath>, to: Option<FilePath>) -> Option<FilePath> {
    let is_file = async |path: Option<FilePath>| {
        site.ops.entry(&site.caller, path).await.is_ok_and(|entry| !entry.is_directory())
    };
    if is_file(from).await && is_file(to.clone()).await { to } else { None }
}

/// Where a MOVE or COPY goes, under either address of the tree.
fn destination(site: &Site, headers: &HeaderMap) -> Result<Option<FilePath>, Refusal> {
    let wrong = || Refusal::bad_request("The destination header was not supplied");
    let text = headers.get("destination").and_then(|value| value.to_str().ok()).ok_or_else(wrong)?;
    let path = match text.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => text,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let below = path.strip_prefix(OWN_TREE).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    match below.map(str::to_owned).or_else(|| below_account(path, ACCOUNT_TREES, &site.caller.account.name)) {
        Some(below) => file_path(&below),
        None => Err(Refusal::new(StatusCode::BAD_GATEWAY, "The destination is another server's")),
    }
}

/// `X-OC-MTime`: seconds since the epoch; some clients send a fraction.
fn mtime(headers: &HeaderMap) -> Result<Option<Mtime>, Refusal> {
    let Some(value) = headers.get("x-oc-mtime") else { return Ok(None) };
    let wrong = || Refusal::bad_request("X-OC-MTime header must be an integer (unix timestamp).");
    value.to_str().ok().and_then(unix_time).map(Some).ok_or_else(wrong)
}

fn unix_time(text: &str) -> Option<Mtime> {
    let (secs, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let secs: i64 = secs.parse().ok()?;
    let good = fraction.bytes().all(|byte| byte.is_ascii_digit()) && (-(1 << 31)..1 << 33).contains(&secs);
    good.then_some(Mtime { secs, nanos: 0 })
}

/// `/remote.php/dav/uploads/ACCOUNT/TRANSFER/NAME`: uploads in pieces, the second way.
pub(super) async fn pieces(State(ops): State<Ops>, request: Request) -> Response {
    let answered = serve_pieces(&ops, request).await;
    answered.unwrap_or_else(IntoResponse::into_response)
}

async fn serve_pieces(ops: &Ops, request: Request) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let Who::Account(caller) = who(ops, &parts).await? else {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "This is not allowed"));
    };
    let below = below_account(parts.uri.path(), "/remote.php/dav/uploads/", &caller.account.name);
    let path = file_path(&below.ok_or_else(Refusal::not_found)?)?.ok_or_else(Refusal::not_found)?;
    let (transfer, name) = match (path.folder(), path.below_folder()) {
        (Some(transfer), Some(name)) => (transfer, Some(name)),
        _ => (path.name(), None),
    };
    let size = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let prefix = format!("{ACCOUNT_TREES}{}", caller.account.name);
    let locks = Locks::default().of(caller.account.id);
    let site = Site { ops: ops.clone(), caller: caller.clone(), locks, base: prefix.clone(), prefix };
    let total = parts.headers.get("oc-total-length").and_then(|value| value.to_str().ok()?.parse().ok());
    match (parts.method.as_str(), name) {
        ("MKCOL", None) => {
            ops.begin_pieces(&caller, transfer).await?;
            Ok(empty(StatusCode::CREATED))
        }
        ("PUT", Some(name)) => {
            if let (Some(total), Ok(Some(to))) = (total, destination(&site, &parts.headers)) {
                let fits = ops.must_fit(&caller.account, &to, total).await;
                fits.map_err(|error| Refusal::no_room(to.parent().as_ref(), error))?;
            }
            let bytes = body.into_data_stream().map(|piece| piece.map_err(io::Error::other));
            ops.write_piece(&caller, transfer, name, bytes, size).await?;
            Ok(empty(StatusCode::CREATED))
        }
        ("DELETE", None) => {
            ops.remove_pieces(&caller, transfer).await?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        ("MOVE", Some(b".file")) => {
            let to = destination(&site, &parts.headers)?.ok_or_else(Refusal::not_found)?;
            let (mtime, checksum) = (mtime(&parts.headers)?, checksum(&parts.headers));
            let placed = ops.end_pieces(&caller, transfer, to.clone(), total, mtime, checksum).await;
            let placed = placed.map_err(|error| Refusal::no_room(to.parent().as_ref(), error))?;
            let mut answer = empty(if placed.replaced { StatusCode::NO_CONTENT } else { StatusCode::CREATED });
            told(&site, Some(to), &Method::PUT, mtime, answer.headers_mut()).await?;
            Ok(answer)
        }
        _ => Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "This is not served by that method")),
    }
}

fn checksum(headers: &HeaderMap) -> Option<Checksum> {
    Checksum::parse(headers.get("oc-checksum")?.to_str().ok()?)
}
