//! What all pages share: the frame around them, the headers they are sent with, and how a refusal looks.

use askama::Template;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use filebell_core::wire::percent_encode;
use url::Url;

use super::assets::{ICON_NAME, SCRIPT_NAME, STYLE_NAME};
use super::visitor::Visitor;
use crate::http::{Peer, browser, log_failure};
use crate::ops::{Ops, OpsError, SignedIn};

/// The frame around a page.
pub(super) struct Frame {
    /// What stands before every path: the path of the public URL, without a slash at its end.
    pub(super) base: String,
    /// Who is signed in.
    pub(super) who: Option<SignedIn>,
    /// What every form carries.
    pub(super) csrf: String,
    /// What was just done.
    pub(super) notice: Option<&'static str>,
    here: &'static str,
}

/// A link at the head of every page.
pub(super) struct Link {
    /// Where it leads, below the base.
    pub(super) path: &'static str,
    /// What it says.
    pub(super) text: &'static str,
    /// Whether the page is this one, or below it.
    pub(super) here: bool,
}

const OPERATOR_LINKS: &[(&str, &str)] = &[
    ("/deliveries", "Deliveries"),
    ("/files", "Files"),
    ("/subscriptions", "Subscriptions"),
    ("/applications", "Applications"),
    ("/accounts", "Accounts"),
    ("/api", "API"),
];
const ACCOUNT_LINKS: &[(&str, &str)] = &[
    ("/deliveries", "Deliveries"),
    ("/files", "Files"),
    ("/settings/user/file_upload_notification", "Connection"),
    ("/applications", "Applications"),
    ("/passwords", "Passwords"),
    ("/api", "API"),
];

impl Frame {
    /// The frame of the page at `here` (a path of the links at the head) for a visitor.
    pub(super) fn new(ops: &Ops, visitor: &Visitor, here: &'static str) -> Self {
        let (who, csrf) = (Some(visitor.who.clone()), visitor.form_token(ops));
        Self { base: base(ops), who, csrf, notice: None, here }
    }

    /// The frame of a page for nobody in particular.
    pub(super) fn bare(ops: &Ops) -> Self {
        Self { base: base(ops), who: None, csrf: String::new(), notice: None, here: "" }
    }

    /// The same with a word of what was just done.
    pub(super) fn with_notice(self, notice: Option<&'static str>) -> Self {
        Self { notice, ..self }
    }

    /// The links at the head.
    pub(super) fn links(&self) -> Vec<Link> {
        let links = match &self.who {
            None => return Vec::new(),
            Some(SignedIn::Operator) => OPERATOR_LINKS,
            Some(SignedIn::Account(_)) => ACCOUNT_LINKS,
        };
        links.iter().map(|(path, text)| Link { path, text, here: *path == self.here }).collect()
    }

    /// Who is signed in, as the head says it.
    pub(super) fn name(&self) -> Option<&str> {
        match self.who.as_ref()? {
            SignedIn::Operator => Some("operator"),
            SignedIn::Account(caller) => Some(&caller.account.name),
        }
    }

    pub(super) fn style(&self) -> &'static str {
        &STYLE_NAME
    }

    pub(super) fn script(&self) -> &'static str {
        &SCRIPT_NAME
    }

    pub(super) fn icon(&self) -> &'static str {
        &ICON_NAME
    }

    pub(super) fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}

/// What stands before every path of ours.
pub(super) fn base(ops: &Ops) -> String {
    Url::parse(ops.public_url()).map_or_else(|_| String::new(), |url| url.path().trim_end_matches('/').to_owned())
}

/// A page, as it is sent: nobody frames it, keeps it, or runs anything in it that is not ours.
pub(super) fn page(page: &impl Template) -> Response {
    page_with(StatusCode::OK, page)
}

/// The same with another status.
pub(super) fn page_with(status: StatusCode, page: &impl Template) -> Response {
    let text = match page.render() {
        Ok(text) => text,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "a page could not be rendered");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let mut response = (status, text).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
             form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// On to another page of ours, after something was done.
pub(super) fn see(ops: &Ops, path: &str) -> Response {
    (
        StatusCode::SEE_OTHER,
        [(header::LOCATION, format!("{}{path}", base(ops))), (header::CACHE_CONTROL, "no-store".into())],
    )
        .into_response()
}

/// Why a page is not shown.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Nobody is signed in; `back` is where the visitor wanted to go.
    SignedOut { back: Option<String> },
    /// A form did not come from a page of this session.
    Forged,
    /// A form is larger than any of ours.
    TooLarge,
    /// There is no such page, or none that this visitor may know of.
    NotFound,
    /// The page is the operator's.
    OperatorOnly,
    /// The page belongs to an account, and the operator has none.
    AccountOnly,
    /// What was asked for cannot be done.
    Ops(OpsError),
}

impl From<OpsError> for Refusal {
    fn from(error: OpsError) -> Self {
        Self::Ops(error)
    }
}

impl IntoResponse for Refusal {
    /// [`show_refusals`] makes the page: only it knows where the pages lie.
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(std::sync::Arc::new(self));
        response
    }
}

#[derive(Template)]
#[template(path = "pages/refused.html")]
struct Refused<'a> {
    frame: Frame,
    heading: &'a str,
    what: String,
}

/// Shows refusals: as a page, or as the way to the sign-in.
pub(super) async fn show_refusals(State(ops): State<Ops>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let Some(refusal) = response.extensions_mut().remove::<std::sync::Arc<Refusal>>() else { return response };
    let (status, heading, what) = match &*refusal {
        Refusal::SignedOut { back } => {
            let back = back.as_deref().filter(|back| *back != "/").map(|back| percent_encode(back.as_bytes()));
            return see(&ops, &back.map_or_else(|| "/sign-in".to_owned(), |back| format!("/sign-in?next={back}")));
        }
        Refusal::Forged => (
            StatusCode::FORBIDDEN,
            "This form came from elsewhere",
            "Nothing was changed. Go back, reload the page, and send the form again.".to_owned(),
        ),
        Refusal::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Too much", "Nothing was changed.".to_owned()),
        Refusal::NotFound => {
            (StatusCode::NOT_FOUND, "Nothing is here", "The link may be old, or what it led to is gone.".to_owned())
        }
        Refusal::OperatorOnly => {
            (StatusCode::FORBIDDEN, "Only for the operator", "Sign in with the admin token to see this.".to_owned())
        }
        Refusal::AccountOnly => {
            (StatusCode::FORBIDDEN, "Only for an account", "Sign in with an account's name and password.".to_owned())
        }
        Refusal::Ops(error) => {
            let (status, what) = told(error);
            (status, "This cannot be done", what)
        }
    };
    page_with(status, &Refused { frame: Frame::bare(&ops), heading, what })
}

/// What a person is told of an error, and with which status. A failure of ours is logged here, once.
pub(super) fn told(error: &OpsError) -> (StatusCode, String) {
    use StatusCode as S;
    let status = match error {
        OpsError::NotFound(_) => S::NOT_FOUND,
        OpsError::NotGranted(_) | OpsError::Credentials => S::FORBIDDEN,
        OpsError::Throttled | OpsError::Quota(_) | OpsError::Busy(_) => S::TOO_MANY_REQUESTS,
        OpsError::Exists(_) | OpsError::Managed(_) | OpsError::Conflict(_) => S::CONFLICT,
        OpsError::Store(_)
        | OpsError::Journal(_)
        | OpsError::File(_)
        | OpsError::NoRandomness
        | OpsError::NoSigningKey
        | OpsError::Signing(_) => {
            log_failure(error);
            return (S::SERVICE_UNAVAILABLE, "filebell could not do it now; its log says why. Try again.".to_owned());
        }
        _ => S::UNPROCESSABLE_ENTITY,
    };
    (status, sentence(&error.to_string()))
}

/// An error's text as a sentence.
pub(super) fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", characters.as_str())
}

/// Sets the session's cookie, or takes it away.
pub(super) fn set_session(ops: &Ops, response: &mut Response, name: &str, value: Option<&str>, life_secs: u64) {
    browser::set_cookie(ops.public_url(), response, name, value.unwrap_or_default(), "/", life_secs);
}

/// Where a request came from.
pub(super) fn address(peer: Option<axum::Extension<Peer>>) -> Option<std::net::IpAddr> {
    peer.map(|axum::Extension(Peer(address))| address)
}
