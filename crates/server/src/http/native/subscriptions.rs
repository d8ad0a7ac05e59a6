//! `/api/v1/subscriptions`: who is told what, where. A slash in a name is written `%2F`.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{get, post};
use axum::{Json, Router};
use filebell_core::filter::FilterText;
use filebell_core::secret::Secret;
use filebell_core::subscription::{Protocol, Subscription, SubscriptionStatus};
use serde::{Deserialize, Serialize};

use super::super::auth;
use super::super::path_names::PathNames;
use super::super::problem::Problem;
use super::{Sent, body, operator};
use crate::ops::{NEXTCLOUD_INTERVAL, Ops, ProtocolRequest, SubscriptionChange, SubscriptionRequest, Trial};

pub(super) fn router() -> Router<Ops> {
    Router::new()
        .route("/api/v1/subscriptions", get(list).post(add))
        .route("/api/v1/subscriptions/{name}", get(show).patch(change).delete(remove))
        .route("/api/v1/subscriptions/{name}/test", post(test))
        .route("/api/v1/subscriptions/{name}/pause", post(pause))
        .route("/api/v1/subscriptions/{name}/resume", post(resume))
        .route("/api/v1/subscriptions/{name}/rotate-key", post(rotate))
        .route("/api/v1/subscriptions/{name}/replay", post(replay))
}

#[derive(Serialize)]
struct SubscriptionView {
    name: String,
    account: String,
    protocol: &'static str,
    url: String,
    connection_id: Option<String>,
    /// Only where it was made, or given, just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    min_interval_ms: u64,
    filter: FilterText,
    status: &'static str,
    status_reason: Option<String>,
    managed: bool,
}

impl SubscriptionView {
    fn new(subscription: Subscription, key: Option<&Secret>) -> Self {
        let protocol = subscription.protocol.kind().as_str();
        Self {
            name: subscription.name,
            account: subscription.account_name,
            protocol,
            url: subscription.endpoint.to_string(),
            connection_id: match subscription.protocol {
                Protocol::Nextcloud { connection_id } => Some(connection_id),
                Protocol::SageX3 { .. } | Protocol::Standard => None,
            },
            key: key.map(|key| key.expose().to_owned()),
            min_interval_ms: millis(subscription.min_interval),
            filter: subscription.filter.text().clone(),
            status: subscription.status.as_str(),
            status_reason: subscription.status_reason,
            managed: subscription.managed,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubscriptionBody {
    name: String,
    account: String,
    protocol: String,
    url: String,
    connection_id: Option<String>,
    key: Option<String>,
    min_interval_ms: Option<u64>,
    #[serde(default)]
    filter: FilterText,
}

/// What is not given stays.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    url: Option<String>,
    connection_id: Option<String>,
    key: Option<String>,
    min_interval_ms: Option<u64>,
    filter: Option<FilterText>,
}

#[derive(Serialize)]
struct Replayed {
    replayed: u64,
}

/// What came of a test delivery.
#[derive(Serialize)]
struct TrialView {
    accepted: bool,
    url: String,
    status: Option<u16>,
    took_ms: u64,
    steps: Vec<StepView>,
    sent: SentView,
    answer: String,
}

#[derive(Serialize)]
struct StepView {
    name: &'static str,
    passed: bool,
    said: String,
    remedy: Option<String>,
    took_ms: u64,
}

#[derive(Serialize)]
struct SentView {
    headers: Vec<HeaderView>,
    body: String,
}

#[derive(Serialize)]
struct HeaderView {
    name: &'static str,
    value: String,
}

impl TrialView {
    fn new(trial: Trial) -> Self {
        let headers = trial.sent.headers.into_iter().map(|(name, value)| HeaderView { name, value });
        let steps = trial.steps.into_iter().map(|step| StepView {
            name: step.name.as_str(),
            passed: step.passed(),
            said: step.said,
            remedy: step.remedy,
            took_ms: millis(step.took),
        });
        Self {
            accepted: trial.accepted,
            url: trial.url,
            status: trial.status,
            took_ms: millis(trial.took),
            steps: steps.collect(),
            sent: SentView { headers: headers.collect(), body: String::from_utf8_lossy(&trial.sent.body).into_owned() },
            answer: String::from_utf8_lossy(&trial.answer).into_owned(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn list(State(ops): State<Ops>, request: Parts) -> Result<Json<Vec<SubscriptionView>>, Problem> {
    operator(&ops, &request).await?;
    let subscriptions = ops.subscriptions().await?;
    Ok(Json(subscriptions.into_iter().map(|one| SubscriptionView::new(one, None)).collect()))
}

async fn add(
    State(ops): State<Ops>,
    request: Parts,
    Sent(bytes): Sent,
) -> Result<(StatusCode, Json<SubscriptionView>), Problem> {
    operator(&ops, &request).await?;
    let asked: SubscriptionBody = body(&bytes)?;
    let (protocol, min_interval_ms) = match (asked.protocol.as_str(), asked.connection_id) {
        ("nextcloud", Some(connection_id)) => {
            let min_interval_ms = asked.min_interval_ms.unwrap_or(millis(NEXTCLOUD_INTERVAL));
            whole_seconds(min_interval_ms)?;
            (ProtocolRequest::Nextcloud { connection_id }, min_interval_ms)
        }
        ("nextcloud", None) => {
            return Err(Problem::bad_parameter("connection_id: protocol `nextcloud` needs one"));
        }
        ("standard", None) => (ProtocolRequest::Standard, asked.min_interval_ms.unwrap_or(0)),
        ("standard", Some(_)) => {
            return Err(Problem::bad_parameter("connection_id: only protocol `nextcloud` has one"));
        }
        _ => {
            let text = "protocol: give `standard` or `nextcloud`; subscriptions of Sage X3 come from grants";
            return Err(Problem::bad_parameter(text));
        }
    };
    let request = SubscriptionRequest {
        name: asked.name,
        account: asked.account,
        protocol,
        url: asked.url,
        key: asked.key.map(Secret::new),
        min_interval: Duration::from_millis(min_interval_ms),
        filter: asked.filter,
        managed: false,
    };
    let added = ops.add_subscription(request).await?;
    let key = added.key.clone();
    Ok((StatusCode::CREATED, Json(SubscriptionView::new(added, Some(&key)))))
}

fn whole_seconds(min_interval_ms: u64) -> Result<(), Problem> {
    if min_interval_ms == 0 || !min_interval_ms.is_multiple_of(1000) {
        return Err(Problem::bad_parameter("min_interval_ms: protocol `nextcloud` has whole seconds, at least one"));
    }
    Ok(())
}

async fn show(
    State(ops): State<Ops>,
    PathNames([name]): PathNames<1>,
    request: Parts,
) -> Result<Json<SubscriptionView>, Problem> {
    operator(&ops, &request).await?;
    Ok(Json(SubscriptionView::new(ops.subscription(&name).await?, None)))
}

async fn change(
    State(ops): State<Ops>,
    PathNames([name]): PathNames<1>,
    request: Parts,
    Sent(bytes): Sent,
) -> Result<Json<SubscriptionView>, Problem> {
    operator(&ops, &request).await?;
    let asked: ChangeBody = body(&bytes)?;
    let known = ops.subscription(&name).await?;
    if let (Protocol::Nextcloud { .. }, Some(min_interval_ms)) = (&known.protocol, asked.min_interval_ms) {
        whole_seconds(min_interval_ms)?;
    }
    let change = SubscriptionChange {
        url: asked.url,
        connection_id: asked.connection_id,
        key: asked.key.map(Secret::new),
        min_interval: asked.min_interval_ms.map(Duration::from_millis),
        filter: asked.filter,
    };
    Ok(Json(SubscriptionView::new(ops.change_subscription(&name, change).await?, None)))
}

async fn remove(
    State(ops): State<Ops>,
    PathNames([name]): PathNames<1>,
    request: Parts,
) -> Result<StatusCode, Problem> {
    operator(&ops, &request).await?;
    ops.remove_subscription(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delivers a test: the operator to any, an account to its own.
async fn test(
    State(ops): State<Ops>,
    PathNames([name]): PathNames<1>,
    request: Parts,
) -> Result<Json<TrialView>, Problem> {
    let caller = auth::caller(&ops, &request).await?;
    Ok(Json(TrialView::new(ops.try_subscription(&caller, &name).await?)))
}

async fn pause(State(ops): State<Ops>, PathNames([name]): PathNames<1>, request: Parts) -> Result<StatusCode, Problem> {
    operator(&ops, &request).await?;
    ops.set_subscription_status(&name, SubscriptionStatus::Paused).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn resume(
    State(ops): State<Ops>,
    PathNames([name]): PathNames<1>,
    request: Parts,
) -> Result<StatusCode, Problem> {
    operator(&ops, &request).await?;
    ops.set_subscription_status(&name, SubscriptionStatus::Active).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn rotate(
    State(ops): State<Ops>,
    PathNames([name]): PathNames<1>,
    request: Parts,
) -> Result<Json<SubscriptionView>, Problem> {
    operator(&ops, &request).await?;
    let key = ops.rotate_subscription_key(&name).await?;
    Ok(Json(SubscriptionView::new(ops.subscription(&name).await?, Some(&key))))
}

async fn replay(
    State(ops): State<Ops>,
    PathNames([name]): PathNames<1>,
    request: Parts,
) -> Result<Json<Replayed>, Problem> {
    operator(&ops, &request).await?;
    Ok(Json(Replayed { replayed: ops.replay_dead(&name).await? }))
}
