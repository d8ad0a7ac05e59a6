//! A test delivery: one real POST, looked at step by step, that stands in no ledger.

use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use filebell_core::retry::Outcome;
use filebell_core::subscription::Subscription;
use filebell_core::wire::SignedRequest;
use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use tokio::time::Instant;
use tower_service::Service;

use super::egress::{Connector, Egress, EgressError, Exchange, client, reason};
use super::letter::{Letter, sign};
use super::opening::Opened;

/// A test delivery and what came of it.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Where it went.
    pub url: String,
    /// What was sent.
    pub sent: SignedRequest,
    /// How far it came, in order. If one failed, it is the last.
    pub steps: Vec<TrialStep>,
    /// The status answered; `None` if there was no answer.
    pub status: Option<u16>,
    /// What is kept of the answer: header lines, an empty line, the beginning of the body; empty if there is nothing.
    pub answer: Vec<u8>,
    /// Whether the receiver accepted it.
    pub accepted: bool,
    /// How long it took.
    pub took: Duration,
}

/// One step of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialStep {
    /// Which.
    pub name: StepName,
    /// What was found, or what went wrong; for a person to read.
    pub said: String,
    /// What can be done about it, if it failed.
    pub remedy: Option<String>,
    /// How long it took.
    pub took: Duration,
}

impl TrialStep {
    /// Whether it went well.
    pub fn passed(&self) -> bool {
        self.remedy.is_none()
    }
}

/// The steps of an exchange, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepName {
    /// The host's name became addresses.
    Resolve,
    /// The policy allows them.
    Policy,
    /// One of them took the connection.
    Connect,
    /// The connection is encrypted, and the certificate is right.
    Tls,
    /// The receiver answered.
    Answer,
}

impl StepName {
    /// The word for it in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Policy => "policy",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Answer => "answer",
        }
    }

    fn after(last: Option<Self>, tls: bool) -> Self {
        match last {
            None => Self::Resolve,
            Some(Self::Resolve) => Self::Policy,
            Some(Self::Policy) => Self::Connect,
            Some(Self::Connect) if tls => Self::Tls,
            Some(Self::Connect | Self::Tls | Self::Answer) => Self::Answer,
        }
    }
}

/// Where the steps of one exchange are noted.
#[derive(Clone, Default)]
pub(super) struct Notes(Arc<Mutex<Vec<TrialStep>>>);

impl Notes {
    pub(super) fn note(&self, name: StepName, began: Instant, result: Result<String, &EgressError>) {
        let (said, remedy) = match result {
            Ok(said) => (said, None),
            Err(error) => (reason(error), Some(error.remedy())),
        };
        self.push(TrialStep { name, said, remedy, took: began.elapsed() });
    }

    fn push(&self, step: TrialStep) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    }

    fn take(&self) -> Vec<TrialStep> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn has_failed(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|step| !step.passed())
    }
}

impl EgressError {
    /// What can be done about it.
    fn remedy(&self) -> String {
        match self {
            Self::Resolve { .. } => "Check the host in the URL, and that filebell's machine can resolve it.".to_owned(),
            Self::Forbidden { address, .. } => format!(
                "Only public addresses are reached, unless the operator allows more: put `allow_networks = \
                 [\"{address}\"]` under `[egress]` in the configuration file, then restart filebell."
            ),
            Self::HttpsOnly { .. } => "Give an https URL. Or the operator allows http to public addresses: \
                                       `allow_http = true` under `[egress]` in the configuration file."
                .to_owned(),
            Self::Connect { .. } => {
                "Is the receiver running, on this port, and does a firewall let filebell through?".to_owned()
            }
            Self::Tls(_) => TLS_REMEDY.to_owned(),
        }
    }
}

const TLS_REMEDY: &str = "The certificate must be valid now, made for this host, and signed by an authority that \
                          filebell's machine trusts.";
const SLOW_REMEDY: &str = "A receiver answers at once, and does its work afterwards.";

impl Egress {
    /// Delivers a letter of no notification to a subscription's endpoint, and says how far it came.
    pub async fn trial(&self, subscription: &Subscription, letter: &Letter, base: &str, deadline: Duration) -> Trial {
        let body = letter.body(subscription, base);
        let url = subscription.endpoint.to_string();
        let sent = match sign(body.clone(), letter.notification, subscription, letter.created_at) {
            Ok(sent) => sent,
            Err(error) => {
                let remedy = Some("Give the subscription a new key.".to_owned());
                let (said, took) = (error.to_string(), Duration::ZERO);
                let steps = vec![TrialStep { name: StepName::Answer, said, remedy, took }];
                let sent = SignedRequest { headers: Vec::new(), body };
                return Trial { url, sent, steps, status: None, answer: Vec::new(), accepted: false, took };
            }
        };
        let notes = Notes::default();
        let client = client(Noting { inner: self.noting(notes.clone()), notes: notes.clone() });
        let exchange = self.post_by(&client, &subscription.endpoint, sent.clone(), deadline).await;
        let (failed, mut steps) = (notes.has_failed(), notes.take());
        if !failed {
            let tls = subscription.endpoint.url().scheme() == "https";
            let before: Duration = steps.iter().map(|step| step.took).sum();
            steps.push(last_step(steps.last(), tls, &exchange, exchange.took.saturating_sub(before)));
        }
        let Exchange { outcome, status, answer, took, .. } = exchange;
        Trial { url, sent, steps, status, answer, accepted: outcome == Outcome::Accepted, took }
    }
}

/// The answer, or where the exchange came to its end without one.
fn last_step(last: Option<&TrialStep>, tls: bool, exchange: &Exchange, took: Duration) -> TrialStep {
    let Some(status) = exchange.status else {
        let name = StepName::after(last.map(|step| step.name), tls);
        let remedy = match name {
            StepName::Resolve | StepName::Policy => "Check the host in the URL, and filebell's resolver.",
            StepName::Connect => "Is the receiver running, and does a firewall let filebell through?",
            StepName::Tls => TLS_REMEDY,
            StepName::Answer => SLOW_REMEDY,
        };
        let said = exchange.detail.clone().unwrap_or_else(|| "no answer".to_owned());
        return TrialStep { name, said, remedy: Some(remedy.to_owned()), took };
    };
    let text = exchange.detail.as_ref().map(|text| format!(": {text}"));
    let said = format!("{status}{}", text.unwrap_or_default());
    TrialStep { name: StepName::Answer, said, remedy: status_remedy(status).map(str::to_owned), took }
}

fn status_remedy(status: u16) -> Option<&'static str> {
    Some(match status {
        200..=299 => return None,
        300..=399 => "Redirects are not followed: give the URL that it leads to.",
        401 | 403 => {
            "The receiver refused it: both sides need the same key, and the receiver must check the very \
                      bytes that came."
        }
        404 | 405 => "Check the path of the URL, and that it takes POST.",
        410 => {
            "The receiver says that it is gone for good: give another URL. A real notification would have \
                disabled the subscription."
        }
        429 => "The receiver asks for fewer requests: make the minimum interval longer.",
        500.. => "The receiver failed: its own log says why.",
        _ => "The receiver did not take it: its answer, or its log, says why.",
    })
}

/// Notes how TLS went, around the connector that notes what comes before.
#[derive(Clone)]
struct Noting {
    inner: HttpsConnector<Connector>,
    notes: Notes,
}

impl Service<Uri> for Noting {
    type Response = MaybeHttpsStream<Opened>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, notes, began) = (self.inner.call(uri), self.notes.clone(), Instant::now());
        Box::pin(async move {
            let connected = connecting.await;
            let steps = notes.take();
            let before: Duration = steps.iter().map(|step| step.took).sum();
            let below_failed = steps.iter().any(|step| !step.passed());
            steps.into_iter().for_each(|step| notes.push(step));
            let took = began.elapsed().saturating_sub(before);
            match &connected {
                Ok(MaybeHttpsStream::Https(stream)) => {
                    let version = stream.inner().get_ref().1.protocol_version();
                    let said = version.and_then(|version| version.as_str()).unwrap_or("encrypted");
                    let said = said.replace("TLSv1_", "TLS 1.");
                    notes.push(TrialStep { name: StepName::Tls, said, remedy: None, took });
                }
                Err(error) if !below_failed => {
                    let (said, remedy) = (tls_reason(error.as_ref()), Some(TLS_REMEDY.to_owned()));
                    notes.push(TrialStep { name: StepName::Tls, said, remedy, took });
                }
                Ok(MaybeHttpsStream::Http(_)) | Err(_) => (),
            }
            connected
        })
    }
}

fn tls_reason(error: &(dyn Error + 'static)) -> String {
    // The layers around it say the same again.
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}
