//! How everything stands, and stood lately.

use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::routing::get;
use filebell_core::time::TimestampMs;

use super::chart::{Bars, Lines};
use super::frame::{Frame, Refusal, page};
use super::text::{At, Took};
use super::visitor::Visitor;
use crate::http::Query;
use crate::ops::{Ops, Overview, Point, PointPace, Reach, SourceReport, SubscriptionReport};

pub(super) fn router() -> Router<Ops> {
    Router::new().route("/", get(show))
}

#[derive(Template)]
#[template(path = "pages/overview.html")]
struct OverviewPage {
    frame: Frame,
    operator: bool,
    overview: Overview,
    failing: Vec<SubscriptionReport>,
    spans: [SpanLink; 3],
    reach: Reach,
    arrivals: Bars,
    delivered: Bars,
    failed: Bars,
    times: Option<Lines>,
    /// Newest first.
    points: Vec<Point>,
    oldest: Option<Took>,
    url: String,
}

/// A stretch of time that can be looked at.
struct SpanLink {
    word: &'static str,
    text: &'static str,
    here: bool,
}

const SPANS: [(Reach, &str, &str); 3] =
    [(Reach::Hour, "hour", "Last hour"), (Reach::Day, "day", "Last day"), (Reach::Month, "month", "Last 30 days")];

async fn show(State(ops): State<Ops>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let asked = Query::new(query.as_deref()).last_text("span");
    let reach = SPANS.iter().find(|(_, word, _)| asked.as_deref() == Some(word)).map_or(Reach::Hour, |(one, ..)| *one);
    let caller = visitor.caller();
    let (overview, points) = (ops.overview(&caller).await?, ops.history(&caller, reach).await?);
    let (frame, url) = (Frame::new(&ops, &visitor, "/"), ops.public_url().to_owned());
    Ok(page(&OverviewPage::new(frame, url, visitor.is_operator(), overview, reach, points)))
}

impl OverviewPage {
    fn new(
        frame: Frame,
        url: String,
        operator: bool,
        overview: Overview,
        reach: Reach,
        mut points: Vec<Point>,
    ) -> Self {
        let bars = |id, title, bad, count: fn(&Point) -> u64| Bars {
            id,
            title,
            bad,
            counts: points.iter().map(|point| (point.at, count(point))).collect(),
            reach,
        };
        let arrivals = bars("arrivals", "Arrivals", false, |point| point.arrivals);
        let delivered = bars("delivered", "Deliveries", false, |point| point.delivered);
        let failed = match operator {
            true => bars("failed", "Failed attempts", true, |point| point.pace.as_ref().map_or(0, |pace| pace.failed)),
            false => bars("failed", "Given up", true, |point| point.dead),
        };
        let paces = points.iter().filter_map(|point| Some((point.at, point.pace.as_ref()?)));
        let times = operator.then(|| Lines {
            id: "times",
            title: "From arrival to acceptance",
            times: paces.map(|(at, pace)| (at, pace.p50, pace.p95)).collect(),
            reach,
        });
        points.reverse();
        Self {
            frame,
            operator,
            failing: overview.status.subscriptions.iter().filter(|one| one.fails()).cloned().collect(),
            oldest: overview.oldest_untold.map(Took),
            overview,
            spans: SPANS.map(|(one, word, text)| SpanLink { word, text, here: one == reach }),
            reach,
            arrivals,
            delivered,
            failed,
            times,
            points,
            url,
        }
    }
}

/// A time of a report.
fn at(text: Option<&String>) -> Option<At> {
    text?.parse::<TimestampMs>().ok().map(At)
}

fn moment(at: &TimestampMs) -> At {
    At(*at)
}

fn took(time: &Duration) -> Took {
    Took(*time)
}

fn times(pace: &PointPace) -> [Option<Duration>; 3] {
    [pace.p50, pace.p95, pace.p99]
}

/// How a source's state looks.
fn class(source: &SourceReport) -> &'static str {
    match source.state.as_str() {
        "live" => "good",
        "polling" => "warn",
        "degraded" | "unusable" => "bad",
        _ => "quiet",
    }
}

/// Day and month where spans are days, else the moment.
fn when(point: &Point, reach: &Reach) -> String {
    match reach {
        Reach::Month => point.at.to_string().get(..10).unwrap_or_default().to_owned(),
        Reach::Hour | Reach::Day => At(point.at).to_string(),
    }
}

#[cfg(test)]
mod tests;
