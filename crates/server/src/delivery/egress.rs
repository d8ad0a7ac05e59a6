//! Outgoing HTTP: one POST, one deadline, only to where the policy lets it go.
//!
//! The policy is asked about every address a host resolves to, in the one place where connections are made: a name,
//! a literal and a disguised literal all pass it, and what was checked is what is connected to.
//!
//! HTTP/1.1 only: there, an exchange that runs out of time takes its own connection with it, while a stalled HTTP/2
//! connection would go on to swallow every later exchange with that receiver.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use filebell_core::endpoint::EndpointUrl;
use filebell_core::retry::Outcome;
use filebell_core::time::TimestampMs;
use filebell_core::wire::SignedRequest;
use headers::Header;
use http::header::{
    CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, SERVER, USER_AGENT, VIA, WWW_AUTHENTICATE,
};
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::Connect;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tower_service::Service;
use url::Url;

use super::address::{Policy, Verdict, judge};
use super::opening::{Opened, Opening, Timed, timing};
use super::trial::{Notes, StepName};
use crate::seams::Seams;
use crate::store::Timing;

/// How long a connection waits for its next exchange. Receivers commonly hang up after 5 s: we go first.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// How long one address may take to accept a connection, so that a dead one leaves time for the next.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The head of an answer may be this long.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// This much of an answer is read; if there is more, the connection is dropped.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// And it is read for this long after its head: the head has decided, and the attempt occupies a place meanwhile.
const BODY_MAX: Duration = Duration::from_millis(250);
/// This much of a refusing answer is kept for a person to read.
const DETAIL_BYTES_MAX: usize = 200;
/// This much of the body of any answer is kept beside the attempt,
const BODY_BYTES_KEPT_MAX: usize = 2048;
/// and of these headers of an answer that has a body or refuses,
const HEADERS_KEPT: [HeaderName; 6] =
    [CONTENT_TYPE, SERVER, VIA, RETRY_AFTER, WWW_AUTHENTICATE, HeaderName::from_static("x-request-id")];
/// so much each.
const HEADER_BYTES_KEPT_MAX: usize = 200;
const AGENT_TEXT: &str = concat!("filebell/", env!("CARGO_PKG_VERSION"));
const AGENT: HeaderValue = HeaderValue::from_static(AGENT_TEXT);

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The name has no address, or the resolver does not answer.
    #[error("{host} could not be resolved")]
    Resolve {
        /// The host.
        host: String,
        /// What the resolver said; `None` if it said nothing.
        #[source]
        why: Option<io::Error>,
    },
    /// The policy forbids one of its addresses.
    #[error("{host} is at {address}, {what}; to allow that, add it to egress.allow_networks")]
    Forbidden {
        /// The host.
        host: String,
        /// The address.
        address: IpAddr,
        /// What that address is.
        what: &'static str,
    },
    /// The policy asks for TLS.
    #[error(
        "{host} at {address} is reached by https only; to allow http, set egress.allow_http, or add the address to \
         egress.allow_networks"
    )]
    HttpsOnly {
        /// The host.
        host: String,
        /// The address.
        address: IpAddr,
    },
    /// No address accepted the connection; this is what the last one said.
    #[error("{address} did not accept the connection")]
    Connect {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        why: io::Error,
    },
    /// TLS cannot be set up.
    #[error("TLS could not be set up")]
    Tls(#[from] rustls::Error),
}

/// What came of one POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// What it means for the notification.
    pub outcome: Outcome,
    /// The status answered; `None` if there was no answer.
    pub status: Option<u16>,
    /// What went wrong, or the beginning of a refusing answer, for a person to read.
    pub detail: Option<String>,
    /// How long it took.
    pub took: Duration,
    /// What it spent its time on.
    pub timing: Timing,
    /// What is kept of the answer: header lines, an empty line, the beginning of the body; empty if there is nothing.
    pub answer: Vec<u8>,
}

impl Exchange {
    /// One that never left, or was never answered.
    pub(super) fn unanswered(detail: String, took: Duration) -> Self {
        Self {
            outcome: Outcome::Unreachable,
            status: None,
            detail: Some(detail),
            took,
            timing: Timing::default(),
            answer: Vec::new(),
        }
    }
}

/// Posts notifications. Cheap to clone; the clones share their connections.
#[derive(Clone)]
pub struct Egress {
    client: Client<Timed<HttpsConnector<Connector>>, Full<Bytes>>,
    policy: Arc<Policy>,
    tls: Arc<ClientConfig>,
    seams: Seams,
}

impl Egress {
    /// Sets up TLS with the system's certificates; without any, only http can be reached, and a warning says so.
    pub fn new(policy: Policy, seams: Seams) -> Result<Self, EgressError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = match builder.clone().with_native_roots() {
            Ok(builder) => builder,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn Error,
                    "the system has no certificates: no https endpoint can be reached"
                );
                builder.with_root_certificates(RootCertStore::empty())
            }
        };
        Ok(Self::with_tls(policy, seams, builder.with_no_client_auth()))
    }

    /// With these certificates.
    pub(super) fn with_tls(policy: Policy, seams: Seams, tls: ClientConfig) -> Self {
        let (policy, tls) = (Arc::new(policy), Arc::new(tls));
        let connector = Connector { policy: policy.clone(), notes: None };
        let client = client(Timed(HttpsConnector::from((connector, tls.clone()))));
        Self { client, policy, tls, seams }
    }

    /// Posts a request and waits for the answer, until `deadline` at most: resolution, connection, TLS, head and body
    /// of the answer together.
    ///
    /// The head decides. The body is read so that the connection can be used again, and for a person to read; one that
    /// has not come a moment after its head is not waited for.
    pub async fn post(&self, endpoint: &EndpointUrl, request: SignedRequest, deadline: Duration) -> Exchange {
        self.post_by(&self.client, endpoint, request, deadline).await
    }

    /// The same by another client.
    pub(super) async fn post_by<C: Connect + Clone + Send + Sync + 'static>(
        &self,
        client: &Client<C, Full<Bytes>>,
        endpoint: &EndpointUrl,
        request: SignedRequest,
        deadline: Duration,
    ) -> Exchange {
        let began = Instant::now();
        let exchange = match to_http(endpoint, request) {
            Err(error) => Exchange::unanswered(error.to_string(), Duration::ZERO),
            Ok(request) => self.exchange(client, endpoint, request, began, deadline).await,
        };
        Exchange { took: began.elapsed(), ..exchange }
    }

    /// A connector that notes how a connection is made.
    pub(super) fn noting(&self, notes: Notes) -> HttpsConnector<Connector> {
        HttpsConnector::from((Connector { policy: self.policy.clone(), notes: Some(notes) }, self.tls.clone()))
    }

    async fn exchange<C: Connect + Clone + Send + Sync + 'static>(
        &self,
        client: &Client<C, Full<Bytes>>,
        endpoint: &EndpointUrl,
        request: Request<Full<Bytes>>,
        began: Instant,
        deadline: Duration,
    ) -> Exchange {
        // A deadline too far to be named is a day away.
        let until = began.checked_add(deadline).unwrap_or(began + Duration::from_secs(86_400));
        let response = match timeout_at(until, client.request(request)).await {
            Err(_) => {
                let detail = format!("no answer within {} ms", deadline.as_millis());
                return Exchange::unanswered(detail, deadline);
            }
            Ok(Err(error)) => return Exchange::unanswered(reason(&error), began.elapsed()),
            Ok(Ok(response)) => response,
        };
        let timing = timing(response.extensions(), began.elapsed());
        let status = response.status();
        let (head, body) = response.into_parts();
        let beginning = drain(body, until.min(Instant::now() + BODY_MAX)).await;
        let (outcome, detail) = if status.is_success() {
            (Outcome::Accepted, None)
        } else {
            let redirect = status.is_redirection().then(|| redirect(endpoint.url(), head.headers.get(LOCATION)));
            let retry_after = retry_after(&head.headers, self.seams.now());
            let said = || readable(beginning.get(..DETAIL_BYTES_MAX).unwrap_or(&beginning));
            (Outcome::Refused { status: status.as_u16(), retry_after }, redirect.flatten().or_else(said))
        };
        let answer =
            if status.is_success() && beginning.is_empty() { beginning } else { kept(&head.headers, &beginning) };
        Exchange { outcome, status: Some(status.as_u16()), detail, took: began.elapsed(), timing, answer }
    }
}

/// A client that posts as all of ours do.
pub(super) fn client<C: Connect + Clone>(connector: C) -> Client<C, Full<Bytes>> {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_MAX)
        .http1_title_case_headers(true)
        .http1_max_buf_size(HEAD_BYTES_MAX)
        .build(connector)
}

fn to_http(endpoint: &EndpointUrl, request: SignedRequest) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut posted = Request::post(endpoint.url().as_str()).body(Full::new(Bytes::from(request.body)))?;
    let headers = posted.headers_mut();
    headers.insert(USER_AGENT, AGENT);
    for (name, value) in request.headers {
        headers.append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::try_from(value)?);
    }
    Ok(posted)
}

/// The request line and the headers as they go over the wire, but for what a query carries.
pub(super) fn head(endpoint: &EndpointUrl, request: &SignedRequest) -> String {
    let url = endpoint.url();
    let names: Vec<String> = url.query_pairs().map(|(name, _)| format!("{name}=***")).collect();
    let query = if names.is_empty() { String::new() } else { format!("?{}", names.join("&")) };
    let host = url.host_str().unwrap_or_default();
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let mut head = format!("POST {}{query} HTTP/1.1\n", url.path());
    let agent = ("user-agent", AGENT_TEXT);
    let length = request.body.len().to_string();
    let signed = request.headers.iter().map(|(name, value)| (*name, value.as_str()));
    for (name, value) in [agent].into_iter().chain(signed).chain([("host", &*host), ("content-length", &*length)]) {
        head.extend([&*title_case(name), ": ", value, "\n"]);
    }
    head
}

/// As header names are written on HTTP/1.1.
fn title_case(name: &str) -> String {
    let mut first = true;
    let mut title =
        |c: char| if std::mem::replace(&mut first, c == '-') { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
    name.chars().map(&mut title).collect()
}

/// Reads an answer to its end if that comes soon enough, else hangs up; answers its beginning.
async fn drain(mut body: Incoming, until: Instant) -> Vec<u8> {
    let mut beginning = Vec::new();
    let mut read = 0;
    if body.is_end_stream() {
        return beginning;
    }
    while let Ok(Some(Ok(frame))) = timeout_at(until, body.frame()).await {
        let Some(data) = frame.data_ref() else { continue };
        read += data.len();
        beginning.extend(data.iter().take(BODY_BYTES_KEPT_MAX.saturating_sub(beginning.len())));
        if read > ANSWER_BYTES_MAX {
            break;
        }
    }
    beginning
}

/// What is kept of an answer.
fn kept(headers: &HeaderMap, beginning: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    for name in &HEADERS_KEPT {
        if let Some(value) = headers.get(name) {
            kept.extend([name.as_str().as_bytes(), b": "].concat());
            kept.extend(value.as_bytes().iter().take(HEADER_BYTES_KEPT_MAX));
            kept.push(b'\n');
        }
    }
    kept.push(b'\n');
    kept.extend(beginning);
    kept
}

/// `Retry-After` in seconds, or as a date seen from `now`.
fn retry_after(headers: &HeaderMap, now: TimestampMs) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?;
    if let Some(secs) = value.to_str().ok().and_then(|text| text.trim().parse().ok()) {
        return Some(Duration::from_secs(secs));
    }
    let date = SystemTime::from(headers::Date::decode(&mut std::iter::once(value)).ok()?);
    let millis = date.duration_since(UNIX_EPOCH).ok()?.as_millis();
    Some(TimestampMs::from_millis(i64::try_from(millis).ok()?).since(now))
}

/// Says where a redirect points, without what may be secret in it.
fn redirect(endpoint: &Url, location: Option<&HeaderValue>) -> Option<String> {
    let mut target = endpoint.join(location?.to_str().ok()?).ok()?;
    target.set_query(None);
    target.set_fragment(None);
    // Both fail only for URLs that have no credentials.
    let _ = target.set_username("");
    let _ = target.set_password(None);
    readable(format!("redirect to {target:.DETAIL_BYTES_MAX$} not followed").as_bytes())
}

/// Text that can be shown on one line, if there is any.
fn readable(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let text: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    (!text.is_empty()).then_some(text)
}

/// Why there was no answer: our own words if we have some, else what the layers below say.
pub(super) fn reason(error: &(dyn Error + 'static)) -> String {
    let mut chain = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        chain.push(error);
        next = error.source();
    }
    // The first one is the client's and says only which layer failed.
    let ours = chain.iter().position(|error| error.is::<EgressError>()).unwrap_or(1);
    let words: Vec<String> = chain.iter().skip(ours).map(ToString::to_string).collect();
    readable(words.join(": ").as_bytes()).unwrap_or_else(|| error.to_string())
}

/// Makes the connections, below TLS.
#[derive(Clone)]
pub(super) struct Connector {
    policy: Arc<Policy>,
    /// Where each step is noted, while somebody looks on.
    notes: Option<Notes>,
}

impl Service<Uri> for Connector {
    type Response = Opened;
    type Error = EgressError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, EgressError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), EgressError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { policy, notes } = self.clone();
        Box::pin(async move {
            let note = |step, began, result: Result<String, &EgressError>| {
                if let Some(notes) = &notes {
                    notes.note(step, began, result);
                }
            };
            let began = Instant::now();
            let resolved = resolve(&uri).await;
            note(StepName::Resolve, began, resolved.as_deref().map(listed));
            let (addresses, resolved_at) = (resolved?, Instant::now());
            let allowed = addresses.iter().try_for_each(|address| check(&uri, address.ip(), &policy));
            note(StepName::Policy, resolved_at, allowed.as_ref().map(|()| allowed_how(&addresses, &policy)));
            allowed?;
            let connected = connect(&uri, addresses).await;
            note(StepName::Connect, resolved_at, connected.as_ref().map(|(_, address)| address.to_string()));
            Ok(Opened::new(connected?.0, Opening::new(began, resolved_at)))
        })
    }
}

/// What a host resolves to.
async fn resolve(uri: &Uri) -> Result<Vec<SocketAddr>, EgressError> {
    let (host, tls) = (host(uri), uri.scheme_str() == Some("https"));
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let resolved = tokio::net::lookup_host((host, port)).await;
    Ok(resolved.map_err(|why| EgressError::Resolve { host: host.to_owned(), why: Some(why) })?.collect())
}

fn listed(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    addresses.join(", ")
}

fn allowed_how(addresses: &[SocketAddr], policy: &Policy) -> String {
    let exempt = addresses.iter().any(|address| judge(address.ip(), policy) == Verdict::Allowed);
    if exempt { "allowed by egress.allow_networks" } else { "public" }.to_owned()
}

fn check(uri: &Uri, address: IpAddr, policy: &Policy) -> Result<(), EgressError> {
    let (host, tls) = (host(uri).to_owned(), uri.scheme_str() == Some("https"));
    match judge(address, policy) {
        Verdict::Allowed => Ok(()),
        Verdict::Public if tls || policy.allow_http => Ok(()),
        Verdict::Public => Err(EgressError::HttpsOnly { host, address }),
        Verdict::Forbidden(what) => Err(EgressError::Forbidden { host, address, what }),
    }
}

async fn connect(uri: &Uri, addresses: Vec<SocketAddr>) -> Result<(TcpStream, SocketAddr), EgressError> {
    let mut failed = EgressError::Resolve { host: host(uri).to_owned(), why: None };
    for address in addresses {
        match timeout(CONNECT_MAX, TcpStream::connect(address)).await.unwrap_or_else(|late| Err(late.into())) {
            Ok(stream) => {
                // A small loss of speed where the system refuses it.
                let _ = stream.set_nodelay(true);
                return Ok((stream, address));
            }
            Err(why) => failed = EgressError::Connect { address, why },
        }
    }
    Err(failed)
}

/// The host of a URL; an IPv6 literal without its brackets.
fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_matches(['[', ']'])
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimestampMs = TimestampMs::from_millis(1_445_412_480_000);

    fn asked(value: &'static str) -> Option<u64> {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
        retry_after(&headers, NOW).map(|wait| wait.as_secs())
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date() {
        assert_eq!(asked("120"), Some(120));
        assert_eq!(asked("Wed, 21 Oct 2015 07:29:00 GMT"), Some(60));
        assert_eq!(asked("Wed, 21 Oct 2015 07:27:00 GMT"), Some(0), "a date in the past asks for nothing");
        for wrong in ["", "-1", "1.5", "soon", "99999999999999999999999"] {
            assert_eq!(asked(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_redirect_is_named_without_what_may_be_secret() {
        let endpoint: Url = "https://app.example.org/hook?key=hunter2".parse().unwrap();
        for (location, said) in [
            ("/new?token=hunter2#x", Some("redirect to https://app.example.org/new not followed")),
            ("https://u:hunter2@other.example.org/", Some("redirect to https://other.example.org/ not followed")),
            ("http://[", None),
        ] {
            assert_eq!(redirect(&endpoint, Some(&HeaderValue::from_static(location))).as_deref(), said);
        }
        assert_eq!(redirect(&endpoint, None), None);
    }

    #[test]
    fn what_a_person_reads_is_one_line() {
        assert_eq!(readable(b" no\r\n\x1b[2Jsuch \xff"), Some("no   [2Jsuch \u{fffd}".to_owned()));
        assert_eq!(readable(b"\r\n"), None);
    }
}
