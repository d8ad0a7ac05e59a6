//! `GET /api/v1/stream`: arrivals and deliveries as they happen, as server-sent events.
//!
//! Nothing is kept here for a listener: what it has not read yet is read from the journal when it comes to it. One that
//! reads nothing for [`STALL_MAX`] is cut off, and goes on where it was when it comes again.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::auth::{self, Line};
use super::super::problem::{Problem, log_failure};
use super::changes::view as arrival_view;
use super::observe::{parse, text};
use crate::ops::{Ended, Happening, Live, LiveKind, LivePosition, LiveRequest, Ops, Told};

/// While nothing happens, a sign of life is given so often; then it is also asked whether the listener still may.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A listener that takes nothing for so long is cut off.
const STALL_MAX: Duration = Duration::from_secs(30);
/// Pieces that wait to be sent to one listener.
const WAITING_PIECES_MAX: usize = 4;
/// How soon a browser comes again when it was cut off, in milliseconds.
const RETRY_MS: u32 = 1000;
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// An attempt that ended, as JSON.
#[derive(Serialize)]
struct DeliveryView<'a> {
    notification: String,
    subscription: &'a str,
    account: String,
    protocol: &'static str,
    state: &'static str,
    status: Option<u16>,
    attempts: u32,
    detail: Option<&'a str>,
    first_seq: i64,
    last_seq: i64,
    ended_at: String,
    took_ms: u64,
    next_at: Option<String>,
}

/// What a listener missed, as JSON.
#[derive(Serialize)]
struct MissedView {
    what: &'static str,
}

pub(super) async fn stream(
    State(ops): State<Ops>,
    parts: Parts,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let caller = auth::caller_or_session(&ops, &parts).await?;
    let request = asked(query.as_deref(), &parts.headers)?;
    let live = ops.live(&caller, request).await?;
    let (pieces, waiting) = mpsc::channel::<Bytes>(WAITING_PIECES_MAX);
    let line = parts.extensions.get::<Line>().cloned();
    // Another listener may share the line of HTTP/2: there only this one goes without.
    let cut = line.as_ref().filter(|_| parts.version != Version::HTTP_2).map(|line| line.cut.clone());
    let stopping = line.map_or_else(CancellationToken::new, |line| line.stopping);
    tokio::spawn(async move {
        let teller = Teller { ops, parts, live, pieces };
        if let Some(End::Stalled) = stopping.run_until_cancelled(teller.run()).await
            && let Some(cut) = cut
        {
            cut.cancel();
        }
    });
    let body = stream::unfold(waiting, async |mut waiting| Some((Ok::<_, Infallible>(waiting.recv().await?), waiting)));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Proxies that gather answers keep their hands off this one.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// What is asked for. A browser that was cut off says by a header where it was; that counts more than the URL it began
/// with.
fn asked(query: Option<&str>, headers: &HeaderMap) -> Result<LiveRequest, Problem> {
    let query = parse(query, &["account", "kind", "subscription", "after"])?;
    let mut kinds = Vec::new();
    for word in text(&query, "kind")?.unwrap_or_default().split(',').filter(|word| !word.is_empty()) {
        let wrong = || format!("kind: `{word}` is none of created, updated, moved, deleted, delivery");
        kinds.push(word.parse::<LiveKind>().map_err(|_| Problem::bad_parameter(wrong()))?);
    }
    let last = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
    let after = match last.map(str::to_owned) {
        Some(last) => Some(last),
        None => text(&query, "after")?,
    };
    let wrong = |text: &str| format!("after: `{text}` is no position; give the `id` of something that was streamed");
    let after = after.map(|text| text.parse::<LivePosition>().map_err(|_| Problem::bad_parameter(wrong(&text))));
    Ok(LiveRequest {
        account: text(&query, "account")?,
        kinds,
        subscription: text(&query, "subscription")?,
        after: after.transpose()?,
    })
}

/// Why a stream ended.
enum End {
    /// The listener has gone, or has to ask anew.
    Gone,
    /// The listener took nothing.
    Stalled,
}

/// Tells one listener.
struct Teller {
    ops: Ops,
    parts: Parts,
    live: Live,
    pieces: mpsc::Sender<Bytes>,
}

impl Teller {
    async fn run(mut self) -> End {
        let begin = format!("retry: {RETRY_MS}\nid: {}\n\n", self.live.position());
        let mut piece = Some(begin);
        while let Some(text) = piece {
            match self.pieces.send_timeout(text.into(), STALL_MAX).await {
                Ok(()) => (),
                Err(mpsc::error::SendTimeoutError::Timeout(_)) => return End::Stalled,
                Err(mpsc::error::SendTimeoutError::Closed(_)) => return End::Gone,
            }
            let gone = self.pieces.clone();
            piece = tokio::select! {
                piece = self.next() => piece,
                () = gone.closed() => return End::Gone,
            };
        }
        End::Gone
    }

    async fn next(&mut self) -> Option<String> {
        let told = match self.live.next(HEARTBEAT).await {
            // Nothing happened.
            Ok(Some(happened)) if happened.is_empty() => {
                auth::caller_or_session(&self.ops, &self.parts).await.ok()?;
                // What was left out by a filter need not be looked at again.
                return Some(format!(":\nid: {}\n\n", self.live.position()));
            }
            Ok(Some(happened)) => self.told(&happened).await,
            Ok(None) => return None,
            Err(error) => Err(error),
        };
        match told {
            Ok(told) => Some(told),
            Err(error) => {
                log_failure(&error);
                None
            }
        }
    }

    async fn told(&self, happened: &[(LivePosition, Happening)]) -> Result<String, crate::ops::OpsError> {
        let name_of = self.ops.account_names().await?;
        let mut text = String::new();
        for (position, happening) in happened {
            let (event, data) = match happening {
                Happening::Arrival(event) => ("arrival", json(&arrival_view(event, name_of(event.account)))),
                Happening::Delivery(told, ended) => {
                    ("delivery", json(&delivery_view(told, ended, name_of(told.account))))
                }
                Happening::Missed => ("missed", json(&MissedView { what: "deliveries" })),
            };
            text.push_str(&format!("event: {event}\nid: {position}\ndata: {data}\n\n"));
        }
        Ok(text)
    }
}

/// One line: JSON has no line breaks in it.
fn json(view: &impl Serialize) -> String {
    // Plain structures of numbers and texts are always written.
    serde_json::to_string(view).unwrap_or_default()
}

fn delivery_view<'a>(told: &'a Told, ended: &'a Ended, account: String) -> DeliveryView<'a> {
    DeliveryView {
        notification: ended.notification.to_string(),
        subscription: &told.subscription,
        account,
        protocol: told.protocol,
        state: ended.state.as_str(),
        status: ended.status,
        attempts: ended.attempts,
        detail: ended.detail.as_deref(),
        first_seq: ended.after.next().get(),
        last_seq: ended.last.get(),
        ended_at: ended.ended_at.to_string(),
        took_ms: ended.took_ms,
        next_at: ended.next_at.map(|at| at.to_string()),
    }
}
