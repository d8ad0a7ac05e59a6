//! What was told: the list of notifications, one of them with its attempts, and telling again.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use filebell_core::id::{NotificationId, Seq};
use filebell_core::subscription::{Cadence, Subscription, SubscriptionStatus};
use filebell_core::time::TimestampMs;
use filebell_core::wire::percent_encode;

use super::form::{Fields, Posted};
use super::frame::{Frame, Refusal, page, page_with, see};
use super::list::older;
use super::text::{At, Size, Took};
use super::visitor::Visitor;
use crate::http::{PathNames, Query};
use crate::ops::{AttemptShown, Delivery, Listed, NotificationState, Ops, Replay, ReplayPlan, Search};

/// Notifications on one page.
const ROWS: usize = 50;
/// Events on one page of a notification.
const EVENTS: usize = 50;

const STATES: [NotificationState; 6] = [
    NotificationState::Pending,
    NotificationState::Told,
    NotificationState::Delivered,
    NotificationState::Dead,
    NotificationState::Superseded,
    NotificationState::Revoked,
];

pub(super) fn router() -> Router<Ops> {
    Router::new()
        .route("/deliveries", get(list))
        .route("/deliveries/replay", get(preview).post(replay_many))
        .route("/deliveries/{id}", get(show))
        .route("/deliveries/{id}/replay", post(replay_one))
}

/// A search as it was typed, and what is wrong with it.
#[derive(Default)]
struct Typed {
    subscription: String,
    state: String,
    from: String,
    until: String,
    file: String,
    wrong_state: bool,
    wrong_from: bool,
    wrong_until: bool,
}

impl Typed {
    fn of(value: impl Fn(&str) -> String) -> Self {
        let [subscription, state, from, until, file] =
            ["subscription", "state", "from", "until", "file"].map(|name| value(name).trim().to_owned());
        let wrong = |text: &str| !text.is_empty() && time(text).is_none();
        Self {
            wrong_state: !state.is_empty() && NotificationState::from_word(&state).is_none(),
            wrong_from: wrong(&from),
            wrong_until: wrong(&until),
            subscription,
            state,
            from,
            until,
            file,
        }
    }

    /// What is searched for; `None` if something is wrong.
    fn search(&self) -> Option<Search> {
        let right = !self.wrong_state && !self.wrong_from && !self.wrong_until;
        right.then(|| Search {
            subscription: Some(self.subscription.clone()).filter(|name| !name.is_empty()),
            state: NotificationState::from_word(&self.state),
            from: time(&self.from),
            until: time(&self.until),
            file: self.file.clone().into_bytes(),
        })
    }

    /// The same as a query.
    fn query(&self) -> String {
        let fields = [
            ("subscription", &self.subscription),
            ("state", &self.state),
            ("from", &self.from),
            ("until", &self.until),
            ("file", &self.file),
        ];
        let filled = fields.iter().filter(|(_, value)| !value.is_empty());
        let pairs: Vec<String> =
            filled.map(|(name, value)| format!("{name}={}", percent_encode(value.as_bytes()))).collect();
        pairs.join("&")
    }

    fn is_empty(&self) -> bool {
        self.query().is_empty()
    }
}

/// A time as a browser or a person writes it; UTC where it does not say.
fn time(text: &str) -> Option<TimestampMs> {
    let candidates = [text.to_owned(), format!("{text}Z"), format!("{text}:00Z"), format!("{text}T00:00:00Z")];
    candidates.iter().find_map(|text| text.parse().ok())
}

/// How a state looks.
pub(super) fn class_of(state: NotificationState) -> &'static str {
    match state {
        NotificationState::Delivered => "good",
        NotificationState::Dead => "bad",
        NotificationState::Pending | NotificationState::Told => "warn",
        NotificationState::Superseded | NotificationState::Revoked => "quiet",
    }
}

/// What an attempt was answered, in a word.
pub(super) fn answer_of(attempt: &crate::ops::Attempt) -> String {
    match (attempt.status, &attempt.detail) {
        (Some(status), _) => status.to_string(),
        (None, Some(detail)) => detail.clone(),
        (None, None) => "no answer".to_owned(),
    }
}

struct Row {
    id: NotificationId,
    at: At,
    subscription: Arc<Subscription>,
    state: NotificationState,
    class: &'static str,
    file: String,
    more: u64,
    attempts: u32,
    answer: String,
    took: Option<Took>,
}

impl Row {
    fn new(row: Listed, subscription: Arc<Subscription>) -> Self {
        let notification = row.notification;
        Self {
            id: notification.id,
            at: At(notification.created_at),
            subscription,
            state: notification.state,
            class: class_of(notification.state),
            file: row.first.map(|event| event.path.to_text().into_owned()).unwrap_or_default(),
            more: row.count.saturating_sub(1),
            attempts: row.attempts,
            answer: row.last.as_ref().map(answer_of).unwrap_or_default(),
            took: row.last.map(|attempt| Took(attempt.took)),
        }
    }
}

#[derive(Template)]
#[template(path = "pages/deliveries.html")]
struct ListPage {
    frame: Frame,
    typed: Typed,
    subscriptions: Vec<Arc<Subscription>>,
    states: [NotificationState; 6],
    rows: Vec<Row>,
    query: String,
    next: Option<String>,
    first: bool,
    searched_to: Option<At>,
}

async fn list(State(ops): State<Ops>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let query = Query::new(query.as_deref());
    let text = |name: &str| query.last_text(name).unwrap_or_default();
    let typed = Typed::of(text);
    let notice = match text("done").as_str() {
        "replayed" => Some("They are due again."),
        "partly" => Some("Some are due again; the others wait already, or one that tells the same does."),
        "nothing" => Some("Nothing was changed: all of them wait already."),
        _ => None,
    };
    let frame = Frame::new(&ops, &visitor, "/deliveries").with_notice(notice);
    let caller = visitor.caller();
    let subscriptions = ops.own_subscriptions(&caller).await?;
    let before = text("before");
    let from = if before.is_empty() { None } else { Some(before.parse().map_err(|_| Refusal::NotFound)?) };
    let mut list = ListPage {
        frame,
        query: typed.query(),
        typed,
        subscriptions,
        states: STATES,
        rows: Vec::new(),
        next: None,
        first: from.is_none(),
        searched_to: None,
    };
    let Some(search) = list.typed.search() else { return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &list)) };
    let found = ops.deliveries(&caller, search, from, ROWS).await?;
    list.rows = found.rows.into_iter().map(|(row, of)| Row::new(row, of)).collect();
    list.next = found.next.map(|next| older(&list.query, next));
    list.searched_to = found.searched_to.map(At);
    Ok(page(&list))
}

struct EventRow {
    seq: i64,
    file: i64,
    kind: &'static str,
    path: String,
    size: Option<Size>,
    at: At,
}

struct AttemptRow {
    number: u32,
    at: At,
    took: Took,
    class: &'static str,
    answer: String,
    detail: Option<String>,
    resolve: Option<Took>,
    connect: Option<Took>,
    tls: Option<Took>,
    first_byte: Option<Took>,
    kept: bool,
    request: Option<(String, String)>,
    exact: Option<bool>,
    answer_head: String,
    answer_body: String,
    cut: bool,
    open: bool,
}

impl AttemptRow {
    fn new(one: AttemptShown, last: u32) -> Self {
        let AttemptShown { number, attempt, request, exact } = one;
        let took = |time: Option<std::time::Duration>| time.map(Took);
        let timing = attempt.timing;
        // Header lines, an empty line, the beginning of the body.
        let text = String::from_utf8_lossy(&attempt.answer).into_owned();
        let (head, body) = match text.strip_prefix('\n') {
            Some(body) => ("", body),
            None => text.split_once("\n\n").unwrap_or((text.as_str(), "")),
        };
        Self {
            number,
            at: At(attempt.started_at),
            took: Took(attempt.took),
            class: if attempt.status.is_some_and(|status| (200..300).contains(&status)) { "good" } else { "bad" },
            answer: attempt.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string()),
            detail: attempt.detail.clone(),
            resolve: took(timing.resolve),
            connect: took(timing.connect),
            tls: took(timing.tls),
            first_byte: took(timing.first_byte),
            kept: timing.first_byte.is_some() && timing.connect.is_none(),
            request: request.map(|shown| (shown.head, String::from_utf8_lossy(&shown.body).into_owned())),
            exact,
            answer_head: head.to_owned(),
            cut: body.len() >= 2048,
            answer_body: body.to_owned(),
            open: number == last,
        }
    }
}

#[derive(Template)]
#[template(path = "pages/delivery.html")]
struct ShowPage {
    frame: Frame,
    id: NotificationId,
    subscription: Arc<Subscription>,
    active: bool,
    state: NotificationState,
    class: &'static str,
    made: At,
    due: Option<At>,
    settled: Option<At>,
    consumed: Option<At>,
    count: u64,
    events: Vec<EventRow>,
    more_events: Option<Seq>,
    attempts: Vec<AttemptRow>,
    left_out: u64,
    can_replay: bool,
    coalesced: bool,
}

async fn show(
    State(ops): State<Ops>,
    visitor: Visitor,
    PathNames([id]): PathNames<1>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let id: NotificationId = id.parse().map_err(|_| Refusal::NotFound)?;
    let query = Query::new(query.as_deref());
    let text = |name: &str| query.last_text(name).unwrap_or_default();
    let delivery = ops.delivery(&visitor.caller(), id).await.map_err(unknown)?;
    let after = text("events").parse().ok().map(Seq::new);
    let covered = ops.delivery_events(&delivery, after, EVENTS).await?;
    let notice = match text("done").as_str() {
        "due" => Some("It is due again, under the same id."),
        "waits" => Some("Nothing was changed: it waits already."),
        "another" => {
            Some("Nothing was changed: another notification of this subscription waits. Try again when it is told.")
        }
        "revoked" => Some("Nothing was changed: the grant behind it was taken back."),
        _ => None,
    };
    let Delivery { full, subscription, attempts } = delivery;
    let notification = full.notification;
    let last = attempts.last().map_or(0, |one| one.number);
    let pending = notification.state == NotificationState::Pending;
    let active = subscription.status == SubscriptionStatus::Active;
    let event = |event: filebell_core::event::Event| EventRow {
        seq: event.seq.get(),
        file: event.file.get(),
        kind: event.kind.as_str(),
        path: event.path.to_text().into_owned(),
        size: event.version.map(|version| Size(version.size)),
        at: At(event.recorded_at),
    };
    Ok(page(&ShowPage {
        frame: Frame::new(&ops, &visitor, "/deliveries").with_notice(notice),
        id,
        active,
        state: notification.state,
        class: class_of(notification.state),
        made: At(notification.created_at),
        due: pending.then_some(At(notification.due_at)),
        settled: full.settled_at.map(At),
        consumed: full.consumed_at.map(At),
        count: notification.last.ordinal.saturating_sub(notification.after.ordinal),
        events: covered.events.into_iter().map(event).collect(),
        more_events: covered.next,
        attempts: attempts.into_iter().rev().map(|one| AttemptRow::new(one, last)).collect(),
        left_out: full.left_out,
        can_replay: matches!(
            notification.state,
            NotificationState::Delivered | NotificationState::Dead | NotificationState::Superseded
        ) && subscription.status != SubscriptionStatus::Revoked,
        coalesced: subscription.cadence() != Cadence::PerEvent,
        subscription,
    }))
}

async fn replay_one(
    State(ops): State<Ops>,
    PathNames([id]): PathNames<1>,
    Posted { visitor, .. }: Posted,
) -> Result<Response, Refusal> {
    let id: NotificationId = id.parse().map_err(|_| Refusal::NotFound)?;
    let done = match ops.replay(&visitor.caller(), id).await.map_err(unknown)? {
        Replay::Due => "due",
        Replay::Waits => "waits",
        Replay::AnotherWaits => "another",
        Replay::Revoked => "revoked",
    };
    Ok(see(&ops, &format!("/deliveries/{id}?done={done}")))
}

/// A notification that is not there looks as any page that is not.
fn unknown(error: crate::ops::OpsError) -> Refusal {
    match error {
        crate::ops::OpsError::NotFound(_) => Refusal::NotFound,
        other => Refusal::Ops(other),
    }
}

#[derive(Template)]
#[template(path = "pages/deliveries_replay.html")]
struct PreviewPage {
    frame: Frame,
    typed: Typed,
    plan: ReplayPlan,
}

impl PreviewPage {
    /// Whether a subscription sends one notification for many files.
    fn coalesces(&self, subscription: &Subscription) -> bool {
        subscription.cadence() != Cadence::PerEvent
    }
}

async fn preview(State(ops): State<Ops>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let query = Query::new(query.as_deref());
    let mut typed = Typed::of(|name| query.last_text(name).unwrap_or_default());
    if typed.until.is_empty() {
        // What is made from now on is not meant.
        typed.until = ops.now().after(std::time::Duration::from_millis(1)).to_string();
    }
    let Some(search) = typed.search() else { return Ok(see(&ops, &format!("/deliveries?{}", typed.query()))) };
    let plan = ops.plan_replay(&visitor.caller(), search).await?;
    Ok(page(&PreviewPage { frame: Frame::new(&ops, &visitor, "/deliveries"), typed, plan }))
}

async fn replay_many(State(ops): State<Ops>, Posted { visitor, fields }: Posted) -> Result<Response, Refusal> {
    let typed = searched(&fields);
    let Some(search) = typed.search() else { return Ok(see(&ops, &format!("/deliveries?{}", typed.query()))) };
    let plan = ops.plan_replay(&visitor.caller(), search).await?;
    let replayed = ops.replay_planned(&plan).await?;
    let done = match (replayed.due, replayed.left) {
        (0, _) => "nothing",
        (_, 0) => "replayed",
        _ => "partly",
    };
    Ok(see(&ops, &format!("/deliveries?done={done}")))
}

fn searched(fields: &Fields) -> Typed {
    Typed::of(|name| fields.text(name))
}

#[cfg(test)]
mod tests;
