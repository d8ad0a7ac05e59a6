//! What arrived: an account's files, and the whole life of one, also to take along as CSV and JSON.

use askama::Template;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use filebell_core::event::{Event, StoredFile};
use filebell_core::id::{FileId, NotificationId, Seq};
use filebell_core::path::FilePath;
use filebell_core::time::TimestampMs;
use filebell_core::wire::percent_encode;
use futures_util::stream;
use serde_json::{Value, json};

use super::deliveries::{answer_of, class_of};
use super::frame::{Frame, Refusal, page};
use super::list::older;
use super::text::{At, Size};
use super::visitor::Visitor;
use crate::http::{PathNames, Query};
use crate::ops::{Caller, FileLife, FilePosition, FileSearch, Files, Life, Ops, OpsError, Telling};

/// Files on one page.
const ROWS: usize = 50;
/// Events on one page of a file.
const EVENTS: u32 = 50;
/// Events in one export of a file.
const EVENTS_EXPORTED: u32 = 1000;
/// Files that are read at a time for an export.
const EXPORTED_AT_ONCE: usize = 1000;
/// Digits of a checksum that are shown in a list.
const CHECKSUM_SHOWN: usize = 12;

pub(super) fn router() -> Router<Ops> {
    Router::new().route("/files", get(list)).route("/files.csv", get(list_csv)).route("/files/{id}", get(one))
}

struct FileRow {
    id: i64,
    at: At,
    path: String,
    size: Size,
    checksum: Option<String>,
    user: String,
}

impl FileRow {
    fn new(file: &StoredFile) -> Self {
        let short = |digest: [u8; 32]| hex::encode(digest).chars().take(CHECKSUM_SHOWN).collect();
        Self {
            id: file.id.get(),
            at: At(file.arrived_at),
            path: file.path.to_text().into_owned(),
            size: Size(file.fingerprint.size),
            checksum: file.version.map(|version| short(version.sha256)),
            user: file.user.clone(),
        }
    }
}

#[derive(Template)]
#[template(path = "pages/files.html")]
struct ListPage {
    frame: Frame,
    /// For the operator.
    accounts: Vec<String>,
    account: Option<String>,
    part: String,
    rows: Vec<FileRow>,
    query: String,
    next: Option<String>,
    first: bool,
    searched_to: Option<At>,
}

async fn list(State(ops): State<Ops>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let query = Query::new(query.as_deref());
    let text = |name: &str| query.last_text(name).unwrap_or_default();
    let mut accounts = Vec::new();
    if visitor.is_operator() {
        accounts.extend(ops.accounts().await?.into_iter().map(|one| one.name));
    }
    // With one account only, there is nothing to choose.
    let only = accounts.first().filter(|_| accounts.len() == 1).cloned();
    let account = Some(text("account")).filter(|name| !name.is_empty()).or(only);
    let before = text("before");
    let from: Option<FilePosition> =
        if before.is_empty() { None } else { Some(before.parse().map_err(|_| Refusal::NotFound)?) };
    let part = text("path");
    let pairs = [("account", account.as_deref().unwrap_or_default()), ("path", &part)];
    let pairs = pairs.iter().filter(|(_, value)| !value.is_empty());
    let pairs: Vec<String> =
        pairs.map(|(name, value)| format!("{name}={}", percent_encode(value.as_bytes()))).collect();
    let mut list = ListPage {
        frame: Frame::new(&ops, &visitor, "/files"),
        accounts,
        account: account.clone(),
        part: part.clone(),
        rows: Vec::new(),
        query: pairs.join("&"),
        next: None,
        first: from.is_none(),
        searched_to: None,
    };
    if visitor.is_operator() && account.is_none() {
        return Ok(page(&list));
    }
    let search = FileSearch { account, part: part.into_bytes() };
    let found = ops.files(&visitor.caller(), search, from, ROWS).await.map_err(unknown)?;
    list.account = Some(found.account.name);
    list.rows = found.files.iter().map(FileRow::new).collect();
    list.next = found.next.map(|next| older(&list.query, next));
    list.searched_to = found.searched_to.map(At);
    Ok(page(&list))
}

struct LifeRow {
    seq: i64,
    at: At,
    kind: &'static str,
    path: String,
    previous: Option<String>,
    size: Option<Size>,
    sha256: Option<String>,
    completeness: Option<&'static str>,
    user: String,
    source: &'static str,
    told: Vec<ToldRow>,
    fetched: Vec<FetchedRow>,
}

struct FetchedRow {
    by: String,
    how: String,
    at: Option<At>,
}

struct ToldRow {
    subscription: String,
    notification: Option<NotificationId>,
    state: &'static str,
    class: &'static str,
    at: Option<At>,
    answer: String,
    consumed: Option<At>,
}

impl LifeRow {
    fn new(life: Life) -> Self {
        let Life { event, told, fetched } = life;
        Self {
            seq: event.seq.get(),
            at: At(event.recorded_at),
            kind: event.kind.as_str(),
            path: event.path.to_text().into_owned(),
            previous: event.previous_path.as_ref().map(|path| path.to_text().into_owned()),
            size: event.version.map(|version| Size(version.size)),
            sha256: event.version.map(|version| hex::encode(version.sha256)),
            completeness: event.completeness.map(|proof| proof.as_str()),
            user: event.user,
            source: event.source.as_str(),
            told: told.into_iter().map(ToldRow::new).collect(),
            fetched: fetched
                .into_iter()
                .map(|one| FetchedRow { at: one.at.parse().ok().map(At), by: one.by, how: one.how })
                .collect(),
        }
    }
}

impl ToldRow {
    fn new(telling: Telling) -> Self {
        let state = telling.notification.as_ref().map(|one| one.state);
        Self {
            notification: telling.notification.as_ref().map(|one| one.id),
            state: state.map_or("not owed", |state| state.as_str()),
            class: state.map_or("quiet", class_of),
            at: telling.last.as_ref().map(|attempt| At(attempt.started_at)),
            answer: telling.last.as_ref().map(answer_of).unwrap_or_default(),
            consumed: telling.consumed_at.map(At),
            subscription: telling.subscription,
        }
    }
}

#[derive(Template)]
#[template(path = "pages/file.html")]
struct FilePage {
    frame: Frame,
    operator: bool,
    id: i64,
    account: String,
    path: String,
    now: Option<FileRow>,
    sha256: Option<String>,
    events: Vec<LifeRow>,
    next: Option<Seq>,
}

/// `/files/12`, `/files/12.json`, `/files/12.csv`.
async fn one(
    State(ops): State<Ops>,
    visitor: Visitor,
    PathNames([name]): PathNames<1>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let (number, form) = name.split_once('.').map_or((name.as_str(), ""), |(number, form)| (number, form));
    let id = FileId::new(number.parse().map_err(|_| Refusal::NotFound)?);
    let query = Query::new(query.as_deref());
    let before = query.last_text("before").and_then(|text| text.parse().ok()).map(Seq::new);
    let limit = match form {
        "" => EVENTS,
        "json" | "csv" => EVENTS_EXPORTED,
        _ => return Err(Refusal::NotFound),
    };
    let life = ops.file_life(&visitor.caller(), id, before, limit).await.map_err(unknown)?;
    match form {
        "json" => Ok(attached(&format!("file-{number}.json"), "application/json", life_json(&life).to_string().into())),
        "csv" => Ok(attached(&format!("file-{number}.csv"), "text/csv; charset=utf-8", life_csv(&life).into())),
        _ => Ok(page(&FilePage {
            frame: Frame::new(&ops, &visitor, "/files"),
            operator: visitor.is_operator(),
            id: id.get(),
            account: life.account.name,
            path: life.path.to_text().into_owned(),
            sha256: life.stored.as_ref().and_then(|file| file.version).map(|version| hex::encode(version.sha256)),
            now: life.stored.as_ref().map(FileRow::new),
            events: life.events.into_iter().map(LifeRow::new).collect(),
            next: life.next,
        })),
    }
}

/// A file that is not there looks as any page that is not.
fn unknown(error: OpsError) -> Refusal {
    match error {
        OpsError::NotFound(_) => Refusal::NotFound,
        other => Refusal::Ops(other),
    }
}

/// Something to take along.
fn attached(name: &str, content_type: &'static str, body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type.to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    (headers, body).into_response()
}

/// The exact bytes of a path that cannot be shown as text.
fn exact(path: &FilePath) -> Option<String> {
    path.as_utf8().is_none().then(|| STANDARD.encode(path.as_bytes()))
}

fn life_json(life: &FileLife) -> Value {
    let event = |one: &Life| {
        let Event {
            seq,
            id,
            kind,
            path,
            previous_path,
            version,
            mtime_ms,
            user,
            source,
            completeness,
            recorded_at,
            ..
        } = &one.event;
        let told = one.told.iter().map(|told| {
            json!({
                "subscription": told.subscription,
                "notification": told.notification.as_ref().map(|one| one.id.to_string()),
                "state": told.notification.as_ref().map(|one| one.state.as_str()),
                "attempts": told.notification.as_ref().map(|one| one.attempts),
                "last_attempt_at": told.last.as_ref().map(|one| one.started_at.to_string()),
                "last_answer": told.last.as_ref().map(answer_of),
                "detail_read_at": told.consumed_at.map(|at| at.to_string()),
            })
        });
        json!({
            "seq": seq.get(),
            "id": id.to_string(),
            "kind": kind.as_str(),
            "path": path.to_text(),
            "path_base64": exact(path),
            "previous_path": previous_path.as_ref().map(FilePath::to_text),
            "previous_path_base64": previous_path.as_ref().and_then(exact),
            "size": version.map(|version| version.size),
            "sha256": version.map(|version| hex::encode(version.sha256)),
            "mtime": mtime_ms.map(|ms| TimestampMs::from_millis(ms).to_string()),
            "recorded_at": recorded_at.to_string(),
            "user": user,
            "source": source.as_str(),
            "completeness": completeness.map(|proof| proof.as_str()),
            "told": told.collect::<Vec<_>>(),
            "fetched": one.fetched,
        })
    };
    json!({
        "file_id": life.id.get(),
        "account": life.account.name,
        "path": life.path.to_text(),
        "path_base64": exact(&life.path),
        "exists": life.stored.is_some(),
        "events": life.events.iter().map(event).collect::<Vec<_>>(),
        "before": life.next.map(Seq::get),
    })
}

fn life_csv(life: &FileLife) -> String {
    let mut text = line(
        &[
            "seq",
            "recorded_at",
            "kind",
            "path",
            "path_base64",
            "previous_path",
            "size",
            "sha256",
            "user",
            "source",
            "completeness",
            "subscription",
            "notification",
            "state",
            "attempts",
            "last_attempt_at",
            "last_answer",
        ]
        .map(str::to_owned),
    );
    for Life { event, told, .. } in &life.events {
        let about = [
            event.seq.to_string(),
            event.recorded_at.to_string(),
            event.kind.as_str().to_owned(),
            event.path.to_text().into_owned(),
            exact(&event.path).unwrap_or_default(),
            event.previous_path.as_ref().map(|path| path.to_text().into_owned()).unwrap_or_default(),
            event.version.map(|version| version.size.to_string()).unwrap_or_default(),
            event.version.map(|version| hex::encode(version.sha256)).unwrap_or_default(),
            event.user.clone(),
            event.source.as_str().to_owned(),
            event.completeness.map(|proof| proof.as_str().to_owned()).unwrap_or_default(),
        ];
        if told.is_empty() {
            text.push_str(&line(&[about.as_slice(), &[const { String::new() }; 6]].concat()));
        }
        for one in told {
            let notification = one.notification.as_ref();
            let told = [
                one.subscription.clone(),
                notification.map(|one| one.id.to_string()).unwrap_or_default(),
                notification.map(|one| one.state.as_str().to_owned()).unwrap_or_default(),
                notification.map(|one| one.attempts.to_string()).unwrap_or_default(),
                one.last.as_ref().map(|one| one.started_at.to_string()).unwrap_or_default(),
                one.last.as_ref().map(answer_of).unwrap_or_default(),
            ];
            text.push_str(&line(&[about.as_slice(), &told].concat()));
        }
    }
    text
}

/// Where an export of the list goes on.
enum Export {
    Head,
    From(Option<FilePosition>),
    Ended,
}

/// The list, however long it is, as it is read.
async fn list_csv(State(ops): State<Ops>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let query = Query::new(query.as_deref());
    let text = |name: &str| query.last_text(name).unwrap_or_default();
    let search =
        FileSearch { account: Some(text("account")).filter(|name| !name.is_empty()), part: text("path").into_bytes() };
    let caller = visitor.caller();
    // What is refused is refused before the first byte.
    ops.files(&caller, search.clone(), None, 1).await.map_err(unknown)?;
    let pieces =
        stream::unfold(Export::Head, move |state| next_piece(ops.clone(), caller.clone(), search.clone(), state));
    Ok(attached("files.csv", "text/csv; charset=utf-8", Body::from_stream(pieces)))
}

async fn next_piece(
    ops: Ops,
    caller: Caller,
    search: FileSearch,
    state: Export,
) -> Option<(Result<Bytes, OpsError>, Export)> {
    let from = match state {
        Export::Ended => return None,
        Export::Head => {
            let head =
                line(&["file_id", "arrived_at", "path", "path_base64", "size", "sha256", "user"].map(str::to_owned));
            return Some((Ok(head.into()), Export::From(None)));
        }
        Export::From(from) => from,
    };
    match ops.files(&caller, search, from, EXPORTED_AT_ONCE).await {
        // The connection is broken off, so that nobody takes a part for the whole.
        Err(error) => Some((Err(error), Export::Ended)),
        Ok(Files { files, next, .. }) => {
            let text: String = files.iter().map(file_line).collect();
            Some((Ok(text.into()), next.map_or(Export::Ended, |next| Export::From(Some(next)))))
        }
    }
}

fn file_line(file: &StoredFile) -> String {
    line(&[
        file.id.get().to_string(),
        file.arrived_at.to_string(),
        file.path.to_text().into_owned(),
        exact(&file.path).unwrap_or_default(),
        file.fingerprint.size.to_string(),
        file.version.map(|version| hex::encode(version.sha256)).unwrap_or_default(),
        file.user.clone(),
    ])
}

/// One line of CSV (RFC 4180). What a spreadsheet would take for a formula stands behind an apostrophe.
fn line(fields: &[String]) -> String {
    let mut text = String::new();
    for (number, field) in fields.iter().enumerate() {
        if number > 0 {
            text.push(',');
        }
        let formula = field.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
        if formula || field.contains(['"', ',', '\r', '\n', '\t', ';']) {
            let mark = if formula { "'" } else { "" };
            text.extend(["\"", mark, &field.replace('"', "\"\""), "\""]);
        } else {
            text.push_str(field);
        }
    }
    text.push_str("\r\n");
    text
}

#[cfg(test)]
mod tests;
