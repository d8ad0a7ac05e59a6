//! `/api/v1/notifications`: what was told and what came of it, and telling again.

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{get, post};
use axum::{Json, Router};
use filebell_core::id::NotificationId;
use filebell_core::subscription::Subscription;
use filebell_core::time::TimestampMs;
use serde::Serialize;

use super::super::auth;
use super::super::path_names::PathNames;
use super::super::problem::Problem;
use super::super::query::Query;
use super::observe::{parse, text};
use crate::ops::{Attempt, Notification, NotificationState, Ops, Position, Replay, Search};

/// Notifications in one answer, if nothing is said.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;

pub(super) fn router() -> Router<Ops> {
    Router::new()
        .route("/api/v1/notifications", get(list))
        .route("/api/v1/notifications/{id}", get(show))
        .route("/api/v1/notifications/{id}/attempts", get(attempts))
        .route("/api/v1/notifications/{id}/replay", post(replay))
}

#[derive(Serialize)]
struct ListView {
    notifications: Vec<NotificationView>,
    /// Give it as `after` to go on; null at the end.
    next: Option<String>,
    /// The search stopped there because it had looked at enough: go on with `next`.
    searched_to: Option<String>,
}

#[derive(Serialize)]
struct NotificationView {
    id: String,
    subscription: String,
    account: String,
    state: &'static str,
    created_at: String,
    /// While it is pending.
    due_at: Option<String>,
    /// When it came to its end; only where one is asked for.
    settled_at: Option<String>,
    /// How many events it tells of.
    events: u64,
    attempts: u32,
    last_status: Option<u16>,
    last_error: Option<String>,
}

#[derive(Serialize)]
struct AttemptsView {
    attempts: Vec<AttemptView>,
    /// So many in between are left out.
    left_out: u64,
}

#[derive(Serialize)]
struct AttemptView {
    number: u32,
    started_at: String,
    took_ms: u128,
    status: Option<u16>,
    detail: Option<String>,
    /// In microseconds; the first three only where a connection was made for it.
    timing: TimingView,
    /// Header lines, an empty line, and the beginning of the body.
    answer: Option<String>,
}

#[derive(Serialize)]
struct TimingView {
    resolve_us: Option<u128>,
    connect_us: Option<u128>,
    tls_us: Option<u128>,
    first_byte_us: Option<u128>,
}

#[derive(Serialize)]
struct ReplayedView {
    id: String,
    state: &'static str,
}

async fn list(State(ops): State<Ops>, parts: Parts, RawQuery(query): RawQuery) -> Result<Json<ListView>, Problem> {
    let caller = auth::caller(&ops, &parts).await?;
    let query = parse(query.as_deref(), &["subscription", "state", "from", "until", "file", "after", "limit"])?;
    let state = text(&query, "state")?.map(|word| {
        let wrong = || Problem::bad_parameter(format!("state: there is no state `{word}`"));
        NotificationState::from_word(&word).ok_or_else(wrong)
    });
    let after = text(&query, "after")?.map(|text| {
        let wrong =
            |_| Problem::bad_parameter(format!("after: `{text}` is no cursor; give `next` of an answer before"));
        text.parse::<Position>().map_err(wrong)
    });
    let limit = text(&query, "limit")?.map(|text| {
        let number = text.parse().ok().filter(|number| (1..=LIMIT_MAX).contains(number));
        number.ok_or_else(|| Problem::bad_parameter(format!("limit: `{text}` is no number from 1 to {LIMIT_MAX}")))
    });
    let search = Search {
        subscription: text(&query, "subscription")?,
        state: state.transpose()?,
        from: time(&query, "from")?,
        until: time(&query, "until")?,
        file: query
            .one("file")
            .map_err(|_| Problem::bad_parameter("`file` is given twice"))?
            .unwrap_or_default()
            .to_vec(),
    };
    let found = ops.deliveries(&caller, search, after.transpose()?, limit.transpose()?.unwrap_or(LIMIT)).await?;
    let rows = found.rows.into_iter().map(|(row, subscription)| NotificationView {
        attempts: row.attempts,
        ..NotificationView::new(&row.notification, &subscription, row.last.as_ref())
    });
    Ok(Json(ListView {
        notifications: rows.collect(),
        next: found.next.map(|next| next.to_string()),
        searched_to: found.searched_to.map(|at| at.to_string()),
    }))
}

impl NotificationView {
    fn new(notification: &Notification, subscription: &Subscription, last: Option<&Attempt>) -> Self {
        let pending = notification.state == NotificationState::Pending;
        Self {
            id: notification.id.to_string(),
            subscription: subscription.name.clone(),
            account: subscription.account_name.clone(),
            state: notification.state.as_str(),
            created_at: notification.created_at.to_string(),
            due_at: pending.then(|| notification.due_at.to_string()),
            settled_at: None,
            events: notification.last.ordinal.saturating_sub(notification.after.ordinal),
            attempts: notification.attempts,
            last_status: last.and_then(|attempt| attempt.status),
            last_error: last.and_then(|attempt| attempt.detail.clone()),
        }
    }
}

async fn show(
    State(ops): State<Ops>,
    PathNames([id]): PathNames<1>,
    parts: Parts,
) -> Result<Json<NotificationView>, Problem> {
    let caller = auth::caller(&ops, &parts).await?;
    let delivery = ops.delivery(&caller, known(&id)?).await?;
    let last = delivery.attempts.last();
    Ok(Json(NotificationView {
        settled_at: delivery.full.settled_at.map(|at| at.to_string()),
        attempts: last.map_or(0, |one| one.number),
        ..NotificationView::new(&delivery.full.notification, &delivery.subscription, last.map(|one| &one.attempt))
    }))
}

async fn attempts(
    State(ops): State<Ops>,
    PathNames([id]): PathNames<1>,
    parts: Parts,
) -> Result<Json<AttemptsView>, Problem> {
    let caller = auth::caller(&ops, &parts).await?;
    let delivery = ops.delivery(&caller, known(&id)?).await?;
    let micros = |time: Option<std::time::Duration>| time.map(|time| time.as_micros());
    let attempts = delivery.attempts.into_iter().map(|one| {
        let timing = one.attempt.timing;
        AttemptView {
            number: one.number,
            started_at: one.attempt.started_at.to_string(),
            took_ms: one.attempt.took.as_millis(),
            status: one.attempt.status,
            detail: one.attempt.detail,
            timing: TimingView {
                resolve_us: micros(timing.resolve),
                connect_us: micros(timing.connect),
                tls_us: micros(timing.tls),
                first_byte_us: micros(timing.first_byte),
            },
            answer: Some(String::from_utf8_lossy(&one.attempt.answer).into_owned()).filter(|text| !text.is_empty()),
        }
    });
    Ok(Json(AttemptsView { attempts: attempts.collect(), left_out: delivery.full.left_out }))
}

async fn replay(
    State(ops): State<Ops>,
    PathNames([id]): PathNames<1>,
    parts: Parts,
) -> Result<Json<ReplayedView>, Problem> {
    let caller = auth::caller(&ops, &parts).await?;
    let id = known(&id)?;
    match ops.replay(&caller, id).await? {
        Replay::Due => Ok(Json(ReplayedView { id: id.to_string(), state: NotificationState::Pending.as_str() })),
        why => Err(Problem::new(StatusCode::CONFLICT, "not-replayed", format!("nothing was changed: {why}"))),
    }
}

/// An id; what is none is the id of nothing.
fn known(text: &str) -> Result<NotificationId, Problem> {
    text.parse().map_err(|_| Problem::from(crate::ops::OpsError::NotFound(format!("notification `{text}`"))))
}

fn time(query: &Query, name: &str) -> Result<Option<TimestampMs>, Problem> {
    let text = text(query, name)?;
    text.map(|text| text.parse().map_err(|error| Problem::bad_parameter(format!("{name}: {error}")))).transpose()
}

#[cfg(test)]
mod tests;
