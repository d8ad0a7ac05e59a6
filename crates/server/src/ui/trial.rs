//! How a test delivery and a secret that is shown once look.

use askama::Template;
use axum::response::Response;
use filebell_core::secret::Secret;
use filebell_core::wire::SignedRequest;

use super::frame::{Frame, page};
use super::text::Took;
use crate::ops::{StepName, Trial, TrialStep};

#[derive(Template)]
#[template(path = "pages/trial.html")]
struct TrialPage<'a> {
    frame: Frame,
    trial: &'a Trial,
    sent: String,
    answer: String,
    back: &'a str,
}

/// What came of a test delivery.
pub(super) fn trial_page(frame: Frame, trial: &Trial, back: &str) -> Response {
    let answer = String::from_utf8_lossy(&trial.answer).trim().to_owned();
    page(&TrialPage { frame, trial, sent: as_sent(&trial.sent), answer, back })
}

fn title(step: &TrialStep) -> &'static str {
    match step.name {
        StepName::Resolve => "Find the host",
        StepName::Policy => "May it be reached",
        StepName::Connect => "Connect",
        StepName::Tls => "Encrypt (TLS)",
        StepName::Answer => "Answer",
    }
}

/// A request as a person reads it.
pub(super) fn as_sent(request: &SignedRequest) -> String {
    let headers: String = request.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    format!("{headers}\n{}", String::from_utf8_lossy(&request.body))
}

/// A secret that is shown this once.
#[derive(Template)]
#[template(path = "pages/secret.html")]
pub(super) struct SecretPage<'a> {
    pub(super) frame: Frame,
    pub(super) heading: String,
    /// What the secret is.
    pub(super) what: &'a str,
    pub(super) secret: Secret,
    /// What is no secret, and goes with it.
    pub(super) facts: Vec<(&'a str, String)>,
    /// What to do with it.
    pub(super) next: &'a str,
    pub(super) back: String,
    /// Each with its title.
    pub(super) examples: Vec<(&'a str, String)>,
}
