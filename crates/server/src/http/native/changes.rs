//! `GET /api/v1/changes`: the journal, from a cursor on.

use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use filebell_core::event::Event;
use filebell_core::path::FilePath;
use filebell_core::time::TimestampMs;
use serde::Serialize;

use super::super::auth::{self, Line};
use super::super::problem::Problem;
use super::super::query::Query;
use crate::ops::{ChangesRequest, Ops};

const PARAMETERS: [&str; 4] = ["account", "after", "limit", "wait"];

#[derive(Serialize)]
pub(super) struct ChangesView {
    events: Vec<EventView>,
    next: String,
    more: bool,
}

#[derive(Serialize)]
pub(super) struct EventView {
    seq: i64,
    id: String,
    kind: &'static str,
    account: String,
    path: String,
    /// The exact bytes, where `path` could not show them.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    previous_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_path_base64: Option<String>,
    file_id: i64,
    size: Option<u64>,
    sha256: Option<String>,
    mtime: Option<String>,
    recorded_at: String,
    user: String,
    source: &'static str,
    completeness: Option<&'static str>,
}

pub(super) async fn changes(
    State(ops): State<Ops>,
    request: Parts,
    RawQuery(query): RawQuery,
) -> Result<Json<ChangesView>, Problem> {
    let caller = auth::caller(&ops, &request).await?;
    let asked = parse(&Query::new(query.as_deref()))?;
    let stopping = request.extensions.get::<Line>().map(|line| line.stopping.clone()).unwrap_or_default();
    let changes = match stopping.run_until_cancelled(ops.changes(&caller, asked.clone())).await {
        Some(changes) => changes?,
        // The server stops, and waits for no news any more.
        None => ops.changes(&caller, ChangesRequest { wait: Duration::ZERO, ..asked.clone() }).await?,
    };
    ops.changes_shown(&caller, asked.account.as_deref(), asked.after, &changes).await?;
    let name_of = ops.account_names().await?;
    let events = changes.events.iter().map(|event| view(event, name_of(event.account))).collect();
    Ok(Json(ChangesView { events, next: changes.next.to_string(), more: changes.more }))
}

fn parse(query: &Query) -> Result<ChangesRequest, Problem> {
    if let Some(unknown) = query.names().find(|name| !PARAMETERS.iter().any(|known| known.as_bytes() == *name)) {
        let (unknown, known) = (String::from_utf8_lossy(unknown), PARAMETERS.join(", "));
        return Err(Problem::bad_parameter(format!("there is no parameter `{unknown}`; there are {known}")));
    }
    let text = |name: &str| -> Result<Option<String>, Problem> {
        let value = query.one(name).map_err(|_| Problem::bad_parameter(format!("`{name}` is given twice")))?;
        Ok(value.map(|value| String::from_utf8_lossy(value).into_owned()).filter(|value| !value.is_empty()))
    };
    let after = text("after")?.map(|text| text.parse().map_err(|_| cursor(&text))).transpose()?;
    let limit = text("limit")?.map(|text| number(&text).ok_or_else(|| limit(&text))).transpose()?;
    let wait = text("wait")?.map(|text| seconds(&text).ok_or_else(|| wait(&text))).transpose()?;
    Ok(ChangesRequest { account: text("account")?, after, limit, wait: wait.unwrap_or_default() })
}

fn cursor(text: &str) -> Problem {
    Problem::bad_parameter(format!("after: `{text}` is no cursor; give `next` of an answer before, or leave it out"))
}

fn limit(text: &str) -> Problem {
    Problem::bad_parameter(format!("limit: `{text}` is no number from 1 to 1000"))
}

fn wait(text: &str) -> Problem {
    Problem::bad_parameter(format!("wait: `{text}` is no number of seconds such as 30 or 30s"))
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| (1..=1000).contains(number))
}

fn seconds(text: &str) -> Option<Duration> {
    text.strip_suffix('s').unwrap_or(text).parse().ok().map(Duration::from_secs)
}

pub(super) fn view(event: &Event, account: String) -> EventView {
    let exact = |path: &FilePath| path.as_utf8().is_none().then(|| STANDARD.encode(path.as_bytes()));
    EventView {
        seq: event.seq.get(),
        id: event.id.to_string(),
        kind: event.kind.as_str(),
        account,
        path: event.path.to_text().into_owned(),
        path_base64: exact(&event.path),
        previous_path: event.previous_path.as_ref().map(|path| path.to_text().into_owned()),
        previous_path_base64: event.previous_path.as_ref().and_then(exact),
        file_id: event.file.get(),
        size: event.version.map(|version| version.size),
        sha256: event.version.map(|version| hex::encode(version.sha256)),
        mtime: event.mtime_ms.map(|ms| TimestampMs::from_millis(ms).to_string()),
        recorded_at: event.recorded_at.to_string(),
        user: event.user.clone(),
        source: event.source.as_str(),
        completeness: event.completeness.map(filebell_core::arrival::Completeness::as_str),
    }
}
