//! What happens: the newest when the page is made, and with script what comes after it.

use askama::Template;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::routing::get;
use filebell_core::wire::percent_encode;

use super::frame::{Frame, Refusal, page, told};
use super::text::{At, Size};
use super::visitor::Visitor;
use crate::http::Query;
use crate::ops::{LiveKind, LiveRequest, Ops, OpsError};

/// Rows that the page begins with.
const ROWS_MAX: u32 = 100;
/// What can be asked for, and what it is called.
const KINDS: [(&str, &str); 5] = [
    ("created", "created"),
    ("updated", "updated"),
    ("moved", "moved"),
    ("deleted", "deleted"),
    ("delivery", "deliveries"),
];

pub(super) fn router() -> Router<Ops> {
    Router::new().route("/live", get(show))
}

#[derive(Template)]
#[template(path = "pages/live.html")]
struct LivePage {
    frame: Frame,
    operator: bool,
    accounts: Vec<String>,
    subscriptions: Vec<String>,
    asked: Asked,
    wrong: Option<String>,
    rows: Vec<Row>,
    /// Where what comes is listened to.
    stream: String,
}

/// What the form asked for, as it was typed.
#[derive(Default)]
struct Asked {
    account: String,
    kind: String,
    subscription: String,
}

/// One line of the list.
struct Row {
    at: At,
    /// `created`, `delivered` and so on.
    word: &'static str,
    class: &'static str,
    account: String,
    /// The file, or the subscription.
    what: String,
    more: String,
}

async fn show(State(ops): State<Ops>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let query = Query::new(query.as_deref());
    let text = |name: &str| query.last_text(name).unwrap_or_default().trim().to_owned();
    let asked = Asked { account: text("account"), kind: text("kind"), subscription: text("subscription") };
    let caller = visitor.caller();
    let mut made = LivePage {
        frame: Frame::new(&ops, &visitor, "/live"),
        operator: visitor.is_operator(),
        accounts: Vec::new(),
        subscriptions: ops.subscription_names(&caller).await?,
        wrong: None,
        rows: Vec::new(),
        stream: String::new(),
        asked,
    };
    if made.operator {
        made.accounts = ops.accounts().await?.into_iter().map(|account| account.name).collect();
    }
    match ops.newest(&caller, request(&made.asked), ROWS_MAX).await {
        Ok(newest) => {
            let name_of = ops.account_names().await?;
            made.rows.extend(newest.arrivals.iter().map(|event| Row {
                at: At(event.recorded_at),
                word: event.kind.as_str(),
                class: "quiet",
                account: name_of(event.account),
                what: event.path.to_text().into_owned(),
                more: match (&event.previous_path, event.version) {
                    (Some(before), _) => format!("from {}", before.to_text()),
                    (None, Some(version)) => Size(version.size).to_string(),
                    (None, None) => String::new(),
                },
            }));
            made.rows.extend(newest.deliveries.into_iter().map(|(told, ended)| Row {
                at: At(ended.ended_at),
                word: ended.state.as_str(),
                class: class(ended.state.as_str()),
                account: name_of(told.account),
                what: told.subscription,
                more: outcome(ended.status, ended.detail.as_deref(), ended.attempts),
            }));
            made.rows.sort_by_key(|row| std::cmp::Reverse(row.at.0));
            made.rows.truncate(usize::try_from(ROWS_MAX).unwrap_or(usize::MAX));
            let after = [("after", newest.position.to_string())];
            let Asked { account, kind, subscription } = &made.asked;
            let given = [("account", account), ("kind", kind), ("subscription", subscription)];
            let given = given.into_iter().filter(|(_, value)| !value.is_empty());
            let given = given.map(|(name, value)| format!("&{name}={}", percent_encode(value.as_bytes())));
            let [(name, position)] = after;
            made.stream = format!("/api/v1/stream?{name}={position}{}", given.collect::<String>());
        }
        Err(error @ OpsError::NotFound(_)) => made.wrong = Some(told(&error).1),
        Err(error) => return Err(error.into()),
    }
    Ok(page(&made))
}

fn request(asked: &Asked) -> LiveRequest {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    LiveRequest {
        account: given(&asked.account),
        kinds: asked.kind.parse::<LiveKind>().into_iter().collect(),
        subscription: given(&asked.subscription),
        after: None,
    }
}

/// How a notification's state looks.
fn class(state: &str) -> &'static str {
    match state {
        "delivered" => "good",
        "dead" => "bad",
        "pending" => "warn",
        _ => "quiet",
    }
}

fn outcome(status: Option<u16>, detail: Option<&str>, attempts: u32) -> String {
    let status = status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
    let detail = detail.map(|detail| format!(": {detail}")).unwrap_or_default();
    let attempts = if attempts > 1 { format!(", attempt {attempts}") } else { String::new() };
    format!("{status}{attempts}{detail}")
}

#[cfg(test)]
mod tests;
