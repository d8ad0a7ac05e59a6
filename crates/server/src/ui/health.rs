//! Whether all is well, and what to do if not.

use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::routing::get;

use filebell_core::time::TimestampMs;

use super::form::Posted;
use super::frame::{Frame, Refusal, page, see, sentence};
use super::text::At;
use super::visitor::Visitor;
use crate::http::Query;
use crate::ops::{HealthReport, Ops};

/// How long a look is waited for before the page is shown without it.
const LOOK_WAIT: Duration = Duration::from_secs(3);

pub(super) fn router() -> Router<Ops> {
    Router::new().route("/health", get(show).post(look))
}

#[derive(Template)]
#[template(path = "pages/health.html")]
struct HealthPage {
    frame: Frame,
    health: HealthReport,
}

async fn show(State(ops): State<Ops>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    visitor.operator()?;
    let notice = match Query::new(query.as_deref()).last_text("done").as_deref() {
        Some("looked") => Some("Everything was looked at again."),
        Some("looking") => Some("Everything is being looked at. Reload in a moment."),
        _ => None,
    };
    let health = ops.health(&visitor.caller()).await?;
    Ok(page(&HealthPage { frame: Frame::new(&ops, &visitor, "/health").with_notice(notice), health }))
}

async fn look(State(ops): State<Ops>, Posted { visitor, .. }: Posted) -> Result<Response, Refusal> {
    visitor.operator()?;
    let looking = ops.clone();
    // It goes on if it takes longer.
    let look = tokio::spawn(async move { looking.examine().await });
    match tokio::time::timeout(LOOK_WAIT, look).await {
        Ok(_) => Ok(see(&ops, "/health?done=looked")),
        Err(_) => Ok(see(&ops, "/health?done=looking")),
    }
}

fn moment(at: &TimestampMs) -> At {
    At(*at)
}

#[cfg(test)]
mod tests;
