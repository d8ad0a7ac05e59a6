//! The operator's view: how everything stands, why a file was told or not, and asking for a scan.

use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::request::Parts;

use super::super::auth;
use super::super::problem::Problem;
use super::super::query::Query;
use crate::ops::{FindingReport, Ops, ScanAnswer, StatusReport, WhyReport};

/// `GET /api/v1/status`.
pub(super) async fn status(State(ops): State<Ops>, parts: Parts) -> Result<Json<StatusReport>, Problem> {
    let caller = auth::caller(&ops, &parts).await?;
    Ok(Json(ops.status(&caller).await?))
}

/// `POST /api/v1/examine`: everything is looked at, which may take a while.
pub(super) async fn examine(State(ops): State<Ops>, parts: Parts) -> Result<Json<Vec<FindingReport>>, Problem> {
    let caller = auth::caller(&ops, &parts).await?;
    Ok(Json(ops.examined(&caller).await?))
}

/// `POST /api/v1/scan`: one account's root or all, answered at once, or when `wait` seconds have gone by or it is done.
/// With `accept_root=true` the directory that lies at the account's root now is taken for the known one before.
pub(super) async fn scan(
    State(ops): State<Ops>,
    parts: Parts,
    RawQuery(query): RawQuery,
) -> Result<Json<ScanAnswer>, Problem> {
    let caller = auth::caller(&ops, &parts).await?;
    let query = parse(query.as_deref(), &["account", "wait", "accept_root"])?;
    let wait = text(&query, "wait")?.map(|text| {
        let wrong = || Problem::bad_parameter(format!("wait: `{text}` is no number of seconds such as 30"));
        text.trim_end_matches('s').parse().map(Duration::from_secs).map_err(|_| wrong())
    });
    let wait = wait.transpose()?.unwrap_or_default();
    let account = text(&query, "account")?;
    match (text(&query, "accept_root")?.as_deref(), &account) {
        (None | Some("false"), _) => (),
        (Some("true"), Some(account)) => ops.accept_root(&caller, account).await?,
        (Some("true"), None) => return Err(Problem::bad_parameter("accept_root: say whose, by account".to_owned())),
        (Some(other), _) => {
            return Err(Problem::bad_parameter(format!("accept_root: `{other}` is neither true nor false")));
        }
    }
    Ok(Json(ops.scan(&caller, account.as_deref(), wait).await?))
}

/// `GET /api/v1/why`: the way of one file, by its `path` in the file system, or within `account`.
pub(super) async fn why(
    State(ops): State<Ops>,
    parts: Parts,
    RawQuery(query): RawQuery,
) -> Result<Json<WhyReport>, Problem> {
    let caller = auth::caller(&ops, &parts).await?;
    let query = parse(query.as_deref(), &["account", "path"])?;
    let path = query.one("path").map_err(|_| twice("path"))?;
    let path = path.ok_or_else(|| Problem::bad_parameter("path: say which file is meant"))?;
    Ok(Json(ops.why(&caller, path, text(&query, "account")?.as_deref()).await?))
}

pub(super) fn parse(query: Option<&str>, known: &[&str]) -> Result<Query, Problem> {
    let query = Query::new(query);
    if let Some(unknown) = query.names().find(|name| !known.iter().any(|known| known.as_bytes() == *name)) {
        let (unknown, known) = (String::from_utf8_lossy(unknown), known.join(", "));
        return Err(Problem::bad_parameter(format!("there is no parameter `{unknown}`; there are {known}")));
    }
    Ok(query)
}

pub(super) fn text(query: &Query, name: &str) -> Result<Option<String>, Problem> {
    let value = query.one(name).map_err(|_| twice(name))?;
    Ok(value.map(|value| String::from_utf8_lossy(value).into_owned()).filter(|value| !value.is_empty()))
}

fn twice(name: &str) -> Problem {
    Problem::bad_parameter(format!("`{name}` is given twice"))
}
