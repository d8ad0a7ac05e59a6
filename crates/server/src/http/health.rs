//! Whether filebell lives, and whether it can do its work.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::problem::{Problem, log_failure};
use crate::ops::Ops;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn router() -> Router<Ops> {
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready)).route("/metrics", get(metrics))
}

/// `GET /readyz`: the store answers. What else is amiss is said, but does not make a server that answers unready.
async fn ready(State(ops): State<Ops>) -> Result<String, Problem> {
    match ops.ready().await {
        Ok(()) => Ok(ops.impediments().iter().fold("ready\n".to_owned(), |text, one| format!("{text}but {one}\n"))),
        Err(error) => {
            log_failure(&error);
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "the store does not answer"))
        }
    }
}

/// `GET /metrics`: counts without names, for Prometheus. Who does not ask for OpenMetrics gets the older text format.
async fn metrics(State(ops): State<Ops>, headers: HeaderMap) -> Result<Response, Problem> {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let open_metrics = accepts.into_iter().any(|value| value.contains("application/openmetrics-text"));
    let text = ops.metrics(open_metrics).await?;
    let kind = HeaderValue::from_static(if open_metrics { OPENMETRICS } else { PLAIN });
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
