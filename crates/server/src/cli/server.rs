//! The server of a data directory, asked through its own API.

use anyhow::Context as _;
use bytes::Bytes;
use filebell::app::served_at;
use filebell::config::Config;
use filebell_core::secret::Secret;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use url::Url;

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A running server, and the right to ask it.
pub(super) struct Server {
    url: Url,
    token: Secret,
    http: Client<HttpConnector, Empty<Bytes>>,
}

impl Server {
    /// The server that serves the data directory now, if one does.
    pub(super) fn find(config: &Config) -> anyhow::Result<Option<Self>> {
        let Some((url, generated)) = served_at(&config.data_dir) else { return Ok(None) };
        let token = config.admin_token.clone().or(generated);
        let token = token.context("a server runs, but its admin token is not known: give its --config")?;
        Ok(Some(Self { url, token, http: Client::builder(TokioExecutor::new()).build_http() }))
    }

    /// As [`Server::find`], where nothing can be done without one.
    pub(super) fn need(config: &Config) -> anyhow::Result<Self> {
        let data_dir = config.data_dir.display();
        Self::find(config)?.with_context(|| format!("no server runs on the data directory {data_dir}: start it first"))
    }

    /// `GET`, with a path and these parameters.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &[u8])]) -> anyhow::Result<T> {
        self.ask(Method::GET, path, query).await
    }

    /// `POST`, with a path and these parameters.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &[u8])]) -> anyhow::Result<T> {
        self.ask(Method::POST, path, query).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, query: &[(&str, &[u8])]) -> anyhow::Result<T> {
        use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
        let mut url = self.url.join(path)?;
        let query: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={}", percent_encode(value, NON_ALPHANUMERIC))).collect();
        url.set_query((!query.is_empty()).then(|| query.join("&")).as_deref());
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", self.token.expose()))?;
        bearer.set_sensitive(true);
        let request = Request::builder().method(method).uri(url.as_str()).header(AUTHORIZATION, bearer);
        let answer = self.http.request(request.body(Empty::new())?).await;
        let answer = answer.with_context(|| format!("the server at {} does not answer", self.url))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        let body = body.to_bytes();
        if !status.is_success() {
            let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            let detail = problem.get("detail").and_then(serde_json::Value::as_str).unwrap_or_default();
            anyhow::bail!("the server answered {status}: {detail}");
        }
        serde_json::from_slice(&body).context("the server's answer cannot be read")
    }
}
