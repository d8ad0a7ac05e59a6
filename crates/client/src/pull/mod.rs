//! Asking the server: what changed, and where are the bytes.
//!
//! Each call has one deadline, each answer a largest size; nothing follows a redirect but a Sage X3 download.

mod changes;
mod nextcloud;
mod sagex3;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use filebell_core::secret::Secret;
use http::header::{ACCEPT, AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs;
use url::Url;

pub use changes::{ChangeEvent, Changes, ChangesClient};
pub use nextcloud::NextcloudClient;
pub use sagex3::SageX3Client;

use crate::recent::RecentError;
use filebell_core::wire::sagex3::read::{ReadError, error_message};

/// The largest answer that is read, in bytes; downloads have no such limit.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most of a refusal that is read, in bytes.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// A base URL or a link is no http or https URL.
    #[error("`{0}` is not an http or https URL")]
    Url(String),
    /// A name or a token cannot stand in a header.
    #[error("the credentials hold characters that no header can hold")]
    Credentials,
    /// TLS could not be set up.
    #[error("TLS could not be set up")]
    Tls(#[source] rustls::Error),
    /// The server was not reached, or the connection broke.
    #[error("the server could not be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer did not come in time.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// The server answered with another status than success.
    #[error("the server answered {status}: {message}")]
    Status {
        /// The HTTP status.
        status: StatusCode,
        /// What the server said about it, at most a thousand characters.
        message: String,
        /// `Retry-After` in seconds, if given that way.
        retry_after_secs: Option<u64>,
    },
    /// The answer is larger than is read.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// A list of recent files cannot be had.
    #[error(transparent)]
    Recent(#[from] RecentError),
    /// A Sage X3 document cannot be read.
    #[error(transparent)]
    SageX3(#[from] ReadError),
    /// Another answer cannot be read.
    #[error("the answer cannot be read: {0}")]
    Answer(String),
}

impl PullError {
    /// The status the server refused with, if it did.
    pub const fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// An HTTP client with a pool of connections; cheap to clone.
#[derive(Debug, Clone)]
pub struct Http {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    deadline: Duration,
}

impl Http {
    /// A client whose every call ends within `deadline`.
    ///
    /// Servers are trusted by the system's certificates. Where there are none, `http:` works and `https:` fails.
    pub fn new(deadline: Duration) -> Result<Self, PullError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = match HttpsConnectorBuilder::new().with_provider_and_native_roots(Arc::clone(&provider)) {
            Ok(builder) => builder,
            Err(_) => {
                let config = rustls::ClientConfig::builder_with_provider(provider);
                let config = config.with_safe_default_protocol_versions().map_err(PullError::Tls)?;
                let none_trusted = config.with_root_certificates(rustls::RootCertStore::empty());
                HttpsConnectorBuilder::new().with_tls_config(none_trusted.with_no_client_auth())
            }
        };
        let connector = builder.https_or_http().enable_http1().enable_http2().build();
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), deadline })
    }

    /// How long a call may take.
    pub const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Sends a request and waits for the head of its answer, whatever its status.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<Response<Incoming>, PullError> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = method;
        *request.uri_mut() = url.as_str().parse().map_err(|_| PullError::Url(url.to_string()))?;
        *request.headers_mut() = headers.clone();
        let agent = HeaderValue::from_static(concat!("filebell-client/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().entry(USER_AGENT).or_insert(agent);
        self.client.request(request).await.map_err(|error| PullError::Unreachable(error.into()))
    }

    /// Sends a request and reads its answer, which must be one of success; all within the deadline and `wait`.
    async fn call(&self, method: Method, url: &Url, headers: &HeaderMap, wait: Duration) -> Result<Bytes, PullError> {
        let deadline = self.deadline.saturating_add(wait);
        let exchange = async {
            let response = self.send(method, url, headers).await?;
            if response.status().is_success() {
                read(response.into_body(), ANSWER_BYTES_MAX).await
            } else {
                Err(refusal(response).await)
            }
        };
        tokio::time::timeout(deadline, exchange).await.map_err(|_| PullError::Deadline(deadline))?
    }
}

async fn read(body: Incoming, bytes_max: usize) -> Result<Bytes, PullError> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(PullError::TooLarge(bytes_max)),
        Err(error) => Err(PullError::Unreachable(error)),
    }
}

/// What a server says that does not answer with success.
pub(crate) async fn refusal(response: Response<Incoming>) -> PullError {
    let status = response.status();
    let retry_after = response.headers().get(http::header::RETRY_AFTER);
    let retry_after_secs = retry_after.and_then(|value| value.to_str().ok()).and_then(|text| text.trim().parse().ok());
    let body = read(response.into_body(), REFUSAL_BYTES_MAX).await.unwrap_or_default();
    PullError::Status { status, message: said(&body), retry_after_secs }
}

/// The server's words in a refusal: those of an OCS answer, of problem+json, of Sage X3, or the text as it is.
fn said(body: &[u8]) -> String {
    for read in [crate::recent::read_xml(body), crate::recent::read_json(body)] {
        if let Err(RecentError::Refused { message, .. }) = read {
            return message;
        }
    }
    let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    match problem.get("detail").or_else(|| problem.get("title")).and_then(serde_json::Value::as_str) {
        Some(text) => text.to_owned(),
        None => error_message(body),
    }
}

/// Reads a base URL and makes it end in a slash, so that paths can be set behind it.
pub(crate) fn base_url(text: &str) -> Result<Url, PullError> {
    let wrong = || PullError::Url(text.to_owned());
    let url = Url::parse(&format!("{}/", text.trim_end_matches('/'))).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong());
    }
    Ok(url)
}

/// A URL behind a base; `rest` is percent-encoded already and cannot leave the host.
pub(crate) fn behind(base: &Url, rest: &str) -> Result<Url, PullError> {
    let text = format!("{base}{rest}");
    Url::parse(&text).map_err(|_| PullError::Url(text))
}

/// Where WebDAV serves a file of an account; `path` with or without its leading slash.
pub(crate) fn dav_url(base: &Url, account: &str, path: &[u8]) -> Result<Url, PullError> {
    let encode = filebell_core::wire::percent_encode;
    let segments: Vec<String> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).map(encode).collect();
    behind(base, &format!("remote.php/dav/files/{}/{}", encode(account.as_bytes()), segments.join("/")))
}

fn sensitive(text: &str) -> Result<HeaderValue, PullError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| PullError::Credentials)?;
    value.set_sensitive(true);
    Ok(value)
}

/// `Authorization: Basic`.
pub(crate) fn basic(user: &str, password: &Secret) -> Result<HeaderValue, PullError> {
    sensitive(&format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose()))))
}

/// `Authorization: Bearer`.
pub(crate) fn bearer(token: &Secret) -> Result<HeaderValue, PullError> {
    sensitive(&format!("Bearer {}", token.expose()))
}

fn headers(authorization: &HeaderValue, accept: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, authorization.clone()), (ACCEPT, HeaderValue::from_static(accept))])
}
