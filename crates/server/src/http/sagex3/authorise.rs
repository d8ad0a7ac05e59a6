//! `GET /v1/token/authorise` (section 2): log in, decide, back to the application. Plain pages, no script.

use std::fmt::Write as _;
use std::sync::LazyLock;

use askama::Template;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use filebell_core::id::PairingId;
use filebell_core::secret::Secret;
use filebell_core::wire::percent_encode;
use filebell_core::wire::sagex3::Failure;
use filebell_core::wire::sagex3::ask::{Authorise, Parameters, Transport};
use sha2::{Digest, Sha256};
use url::Url;
use uuid::Uuid;

use super::super::auth::Peer;
use super::super::browser::{self, cookie};
use super::super::path_names::PathNames;
use super::super::problem::log_failure;
use super::super::query::Query;
use super::{Refused, not_stored, small_body};
use crate::ops::{Answer, AskError, Asked, Consent, Ops, OpsError};

const STYLE: &str = include_str!("../../../templates/pairing/style.css");
/// The style is named by its hash, so that no other style, and no script at all, is taken.
static STYLE_HASH: LazyLock<String> = LazyLock::new(|| STANDARD.encode(Sha256::digest(STYLE)));
/// The browser's cookie before, and after it has logged in.
const LOGIN_COOKIE: &str = "filebell-login";
const PAIRING_COOKIE: &str = "filebell-pairing";
const COOKIE_SECS: u64 = 24 * 60 * 60;
const LOGIN_PAGE: &str = "login";

pub(super) fn router() -> Router<Ops> {
    Router::new()
        .route("/v1/token/authorise", get(ask).post(log_in))
        .route("/v1/token/authorise/{id}", get(consent).post(decide))
}

#[derive(Template)]
#[template(path = "pairing/login.html")]
struct LoginPage<'a> {
    style: &'static str,
    application: &'a str,
    wrong: Option<&'a str>,
    fields: Vec<(&'static str, String)>,
    csrf: String,
}

#[derive(Template)]
#[template(path = "pairing/consent.html")]
struct ConsentPage<'a> {
    style: &'static str,
    id: String,
    consent: &'a Consent,
    scopes: Vec<(&'a str, &'static str)>,
    wrong: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "pairing/callback.html")]
struct CallbackPage<'a> {
    style: &'static str,
    heading: &'a str,
    application: &'a str,
    action: &'a str,
    fields: [(&'static str, &'a str); 2],
}

#[derive(Template)]
#[template(path = "pairing/told.html")]
struct ToldPage<'a> {
    style: &'static str,
    heading: &'a str,
    application: &'a str,
    failed: Option<String>,
}

#[derive(Template)]
#[template(path = "pairing/refused.html")]
struct RefusedPage<'a> {
    style: &'static str,
    message: &'a str,
}

/// `GET /v1/token/authorise`: the login, or a refusal.
async fn ask(State(ops): State<Ops>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let asked = async {
        let parameters = Parameters::from_form(query.unwrap_or_default().as_bytes())?;
        let request = Authorise::from_parameters(&parameters)?;
        let asked = ops.asked(&request).await?;
        Ok::<_, AskError>((request, asked))
    };
    match asked.await {
        Ok((_, Asked { refused: Some(answer), .. })) => back(&ops, &answer).await,
        Ok((request, asked)) => login_page(&ops, &headers, &request, &asked.application, None),
        Err(error) => refused(error, &headers),
    }
}

/// `POST /v1/token/authorise`: name and password.
async fn log_in(
    State(ops): State<Ops>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Response> {
    let body = small_body(body).await?;
    let logged_in = async {
        let parameters = Parameters::from_form(&body)?;
        let request = Authorise::from_parameters(&parameters)?;
        let asked = ops.asked(&request).await?;
        let session = cookie(&headers, LOGIN_COOKIE).unwrap_or(Secret::new(""));
        let csrf = parameters.get("csrf").unwrap_or_default();
        if session.expose().is_empty() || !ops.csrf_fits(LOGIN_PAGE, &session, csrf) {
            let wrong = "This form came from elsewhere, or your browser keeps no cookies. Please try again.";
            return Ok(login_page(&ops, &headers, &request, &asked.application, Some(wrong)));
        }
        let (name, password) = (parameters.get("name").unwrap_or_default(), parameters.get("password"));
        let password = Secret::new(password.unwrap_or_default());
        let from = peer.map(|Extension(Peer(address))| address);
        match ops.begin_pairing(&request, name, password, from).await {
            Ok((id, session)) => Ok(to_consent(&ops, id, &session)),
            Err(AskError::Failed(OpsError::Credentials)) => {
                let wrong = "Account or password is wrong, or the account is not one of this customer.";
                Ok(login_page(&ops, &headers, &request, &asked.application, Some(wrong)))
            }
            Err(AskError::Failed(OpsError::Throttled)) => {
                let wrong = "Too many wrong tries. Wait half an hour, then try again.";
                Ok(login_page(&ops, &headers, &request, &asked.application, Some(wrong)))
            }
            Err(error) => Err(error),
        }
    };
    Ok(logged_in.await.unwrap_or_else(|error: AskError| refused(error, &headers)))
}

/// `GET /v1/token/authorise/{id}`: what is asked for.
async fn consent(State(ops): State<Ops>, PathNames([id]): PathNames<1>, headers: HeaderMap) -> Response {
    match shown(&ops, &id, &headers).await {
        Ok((id, consent)) => consent_page(id, &consent, None, StatusCode::OK),
        Err(error) => refused(error, &headers),
    }
}

async fn shown(ops: &Ops, id: &str, headers: &HeaderMap) -> Result<(PairingId, Consent), AskError> {
    let (id, session) = browser(id, headers)?;
    let consent = ops.consent(id, &session).await?;
    Ok((id, consent))
}

fn browser(id: &str, headers: &HeaderMap) -> Result<(PairingId, Secret), Failure> {
    let id = Uuid::try_parse(id).map(PairingId::new).map_err(|_| Failure::PairingNotFound)?;
    Ok((id, cookie(headers, PAIRING_COOKIE).ok_or(Failure::PairingNotFound)?))
}

/// `POST /v1/token/authorise/{id}`: the decision.
async fn decide(
    State(ops): State<Ops>,
    PathNames([id]): PathNames<1>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Response> {
    let body = small_body(body).await?;
    let form = Query::new(Some(&String::from_utf8_lossy(&body)));
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let csrf = form.one("csrf").ok().flatten().map(text).unwrap_or_default();
    let folders: Vec<String> = form.all("folder").map(text).collect();
    let decided = async {
        let (id, session) = browser(&id, &headers)?;
        match form.one("decision") {
            Ok(Some(b"accept")) => match ops.accept_pairing(id, &session, &csrf, folders).await {
                Err(AskError::Refused(Failure::InvalidParameter("folder"))) => {
                    let consent = ops.consent(id, &session).await?;
                    Ok(consent_page(id, &consent, Some("Choose at least one folder."), StatusCode::BAD_REQUEST))
                }
                answer => Ok(back(&ops, &answer?).await),
            },
            Ok(Some(b"reject")) => Ok(back(&ops, &ops.reject_pairing(id, &session, &csrf).await?).await),
            _ => Err(AskError::from(Failure::InvalidParameter("decision"))),
        }
    };
    Ok(decided.await.unwrap_or_else(|error| refused(error, &headers)))
}

fn login_page(ops: &Ops, headers: &HeaderMap, request: &Authorise, application: &str, wrong: Option<&str>) -> Response {
    let session = match cookie(headers, LOGIN_COOKIE).map_or_else(|| ops.fresh_session(), Ok) {
        Ok(session) => session,
        Err(error) => return refused(error.into(), headers),
    };
    let mut fields = vec![
        ("client_id", request.client_id.clone()),
        ("scope", request.scopes.join(" ")),
        ("customer", request.customer.clone()),
        ("redirect_uri", request.redirect_uri.clone()),
        ("state", request.state.clone()),
    ];
    if let Some(challenge) = &request.challenge {
        fields.extend([("code_challenge", challenge.clone()), ("code_challenge_method", "S256".to_owned())]);
    }
    if let Some(transport) = request.transport {
        let mode = if transport == Transport::Query { "query" } else { "form_post" };
        fields.push(("response_mode", mode.to_owned()));
    }
    let csrf = ops.csrf(LOGIN_PAGE, &session);
    let page = LoginPage { style: STYLE, application, wrong, fields, csrf };
    let status = if wrong.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    let mut response = html(status, &page, "'self'");
    set_cookie(ops, &mut response, LOGIN_COOKIE, &session, "/v1/token/authorise");
    response
}

fn to_consent(ops: &Ops, id: PairingId, session: &Secret) -> Response {
    let id = id.uuid().simple();
    let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, format!("authorise/{id}"))]).into_response();
    set_cookie(ops, &mut response, PAIRING_COOKIE, session, &format!("/v1/token/authorise/{id}"));
    not_stored(response)
}

fn consent_page(id: PairingId, consent: &Consent, wrong: Option<&str>, status: StatusCode) -> Response {
    let meaning = |scope: &str| match scope {
        "api.dataDelivery" => "list, download and delete files",
        "api.dataIngestion" => "put new files there",
        _ => "use",
    };
    let scopes = consent.scopes.iter().map(|scope| (scope.as_str(), meaning(scope))).collect();
    let page = ConsentPage { style: STYLE, id: id.uuid().simple().to_string(), consent, scopes, wrong };
    // Browsers ask about the redirect that follows the form, too.
    html(status, &page, &format!("'self' {}", origin(&consent.redirect_uri)))
}

/// Takes the browser back to the application with what came of it (section 2.3).
async fn back(ops: &Ops, answer: &Answer) -> Response {
    let heading = answer.outcome.as_ref().map_or_else(String::as_str, |_| "Accepted");
    let application = answer.application.as_str();
    match answer.transport {
        Transport::Query => to_query(ops, answer),
        Transport::Form => {
            let (action, fields) = (answer.redirect_uri.as_str(), answer.fields());
            let page = CallbackPage { style: STYLE, heading, application, action, fields };
            let status = match &answer.outcome {
                Err(error) if *error == Failure::UnknownCustomer.to_string() => StatusCode::NOT_FOUND,
                _ => StatusCode::OK,
            };
            html(status, &page, &origin(&answer.redirect_uri))
        }
        Transport::Server => {
            let failed = ops.tell(answer).await.err();
            let status = if failed.is_some() { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
            html(status, &ToldPage { style: STYLE, heading, application, failed }, "'none'")
        }
    }
}

/// With `code` and `iss` beside the protocol's own names, for standard clients.
fn to_query(ops: &Ops, answer: &Answer) -> Response {
    let mut url = answer.redirect_uri.clone();
    let mut separator = if url.contains('?') { '&' } else { '?' };
    let mut pairs = answer.fields().to_vec();
    pairs.push(("iss", ops.public_url()));
    if let Ok(code) = &answer.outcome {
        pairs.push(("code", code.expose()));
    }
    for (name, value) in pairs {
        // Writing to a text cannot fail.
        let _ = write!(url, "{separator}{name}={}", percent_encode(value.as_bytes()));
        separator = '&';
    }
    not_stored((StatusCode::SEE_OTHER, [(header::LOCATION, url)]).into_response())
}

/// A refusal: a page for a person, the protocol's own words for a program.
fn refused(error: AskError, headers: &HeaderMap) -> Response {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let refused = match error {
        AskError::Failed(error) => {
            log_failure(&error);
            Refused::from(Failure::TokenInternal("try again later".to_owned()))
        }
        error @ AskError::Refused(_) => Refused::from(error),
    };
    if !accepts.contains("text/html") {
        return not_stored(refused.into_response());
    }
    let status = StatusCode::from_u16(refused.failure.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    html(status, &RefusedPage { style: STYLE, message: &refused.failure.to_string() }, "'none'")
}

/// A page that nobody can frame, that runs no script, and whose forms go where they should.
fn html(status: StatusCode, page: &impl Template, form_action: &str) -> Response {
    let text = match page.render() {
        Ok(text) => text,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "a page could not be rendered");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; form-action {form_action}; frame-ancestors 'none'; base-uri 'none'",
        *STYLE_HASH
    );
    let mut response = not_stored((status, text).into_response());
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let strictest = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::try_from(policy).unwrap_or(strictest));
    response
}

fn origin(url: &str) -> String {
    Url::parse(url).map_or_else(|_| "'none'".to_owned(), |url| url.origin().ascii_serialization())
}

fn set_cookie(ops: &Ops, response: &mut Response, name: &str, value: &Secret, path: &str) {
    browser::set_cookie(ops.public_url(), response, name, value.expose(), path, COOKIE_SECS);
}
