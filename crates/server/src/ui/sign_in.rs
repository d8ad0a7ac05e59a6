//! Signing in and out.

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use filebell_core::secret::Secret;

use super::form::{Fields, Posted};
use super::frame::{Frame, Refusal, address, page_with, see, set_session, told};
use crate::http::browser::{self, SESSION_COOKIE};
use crate::http::{Peer, Query, retry_after};
use crate::ops::{Ops, OpsError, SESSION_LIFE};

/// The browser's cookie before it has signed in: it proves that the form is ours.
const BEFORE_COOKIE: &str = "filebell-before";
const BEFORE_SECS: u64 = 24 * 60 * 60;
const SIGN_IN_FORM: &str = "sign-in";

pub(super) fn router() -> Router<Ops> {
    Router::new().route("/sign-in", get(show).post(sign_in)).route("/sign-out", post(sign_out))
}

#[derive(Template)]
#[template(path = "pages/sign_in.html")]
struct SignInPage {
    frame: Frame,
    token: String,
    next: String,
    name: String,
    /// What was wrong, and whether the operator's form was sent.
    wrong: Option<String>,
    operator: bool,
}

async fn show(State(ops): State<Ops>, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Response, Refusal> {
    let next = local(&Query::new(query.as_deref()).last_text("next").unwrap_or_default());
    sign_in_page(&ops, &headers, next, String::new(), None, false)
}

async fn sign_in(
    State(ops): State<Ops>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Refusal> {
    let (next, name, from) = (local(&fields.verbatim("next")), fields.text("name"), address(peer));
    let before = browser::cookie(&headers, BEFORE_COOKIE);
    let operator = fields.text("as") == "operator";
    if !before.is_some_and(|before| ops.csrf_fits(SIGN_IN_FORM, &before, &fields.verbatim("csrf"))) {
        let wrong = "The form was old, or your browser keeps no cookies. Please try again.";
        return sign_in_page(&ops, &headers, next, name, Some((StatusCode::FORBIDDEN, wrong.to_owned())), operator);
    }
    let signed_in = if operator {
        ops.sign_in_operator(&Secret::new(fields.text("token")), from).await
    } else {
        ops.sign_in(&name, Secret::new(fields.verbatim("password")), from).await
    };
    let cookie = match signed_in {
        Ok(cookie) => cookie,
        Err(error) => {
            let wrong = match (&error, operator) {
                (OpsError::Credentials, true) => (StatusCode::FORBIDDEN, "This is not the admin token.".to_owned()),
                (OpsError::Credentials, false) => (StatusCode::FORBIDDEN, "Account or password is wrong.".to_owned()),
                _ => told(&error),
            };
            // The operator has no name.
            let wait = ops.throttled_for(if operator { "" } else { &name }, from);
            let mut response = sign_in_page(&ops, &headers, next, name, Some(wrong), operator)?;
            if let (OpsError::Throttled, Some(wait)) = (error, wait) {
                retry_after(&mut response, wait);
            }
            return Ok(response);
        }
    };
    let mut response = see(&ops, if next.is_empty() { "/" } else { &next });
    set_session(&ops, &mut response, SESSION_COOKIE, Some(cookie.expose()), SESSION_LIFE.as_secs());
    Ok(response)
}

async fn sign_out(State(ops): State<Ops>, Posted { visitor, .. }: Posted) -> Result<Response, Refusal> {
    ops.sign_out(visitor.cookie()).await?;
    let mut response = see(&ops, "/sign-in");
    set_session(&ops, &mut response, SESSION_COOKIE, None, 0);
    Ok(response)
}

fn sign_in_page(
    ops: &Ops,
    headers: &HeaderMap,
    next: String,
    name: String,
    wrong: Option<(StatusCode, String)>,
    operator: bool,
) -> Result<Response, Refusal> {
    let before = browser::cookie(headers, BEFORE_COOKIE).map_or_else(|| ops.fresh_session(), Ok)?;
    let token = ops.csrf(SIGN_IN_FORM, &before);
    let (status, wrong) = wrong.map_or((StatusCode::OK, None), |(status, wrong)| (status, Some(wrong)));
    let mut response =
        page_with(status, &SignInPage { frame: Frame::bare(ops), token, next, name, wrong, operator }).into_response();
    set_session(ops, &mut response, BEFORE_COOKIE, Some(before.expose()), BEFORE_SECS);
    Ok(response)
}

/// A path of ours; nothing that a browser could take for another host.
fn local(next: &str) -> String {
    let ours = next.starts_with('/') && !next.starts_with("//") && !next.contains(['\\', '\r', '\n', '\t']);
    if ours { next.to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests;
