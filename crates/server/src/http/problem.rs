//! Errors of our own API: RFC 9457, with a stable machine-readable code. The only room that turns errors into status
//! codes; the two historical protocols have bodies of their own.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::ops::OpsError;

/// One problem, ready to be answered.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into() }
    }

    pub(crate) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no-such-route", "nothing is served here")
    }

    pub(crate) fn wrong_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "this is not served by that method")
    }

    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "filebell failed; its log says why")
    }

    pub(crate) fn unauthorised() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorised",
            "send `Authorization: Bearer` with an access token or the admin token, or Basic with an account's password",
        )
    }

    pub(crate) fn bad_parameter(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-parameter", detail)
    }
}

impl From<OpsError> for Problem {
    fn from(error: OpsError) -> Self {
        use StatusCode as S;
        let text = error.to_string();
        match &error {
            OpsError::Credentials => Self::unauthorised(),
            OpsError::Throttled => Self::new(S::TOO_MANY_REQUESTS, "too-many-logins", text),
            OpsError::TooManyListeners => Self::new(S::TOO_MANY_REQUESTS, "too-many-streams", text),
            OpsError::Expired => Self::new(S::UNAUTHORIZED, "token-expired", text),
            OpsError::NotGranted(_) => Self::new(S::FORBIDDEN, "not-granted", text),
            OpsError::NotFound(_) => Self::new(S::NOT_FOUND, "not-found", text),
            OpsError::Exists(_) => Self::new(S::CONFLICT, "exists", text),
            OpsError::Managed(_) => Self::new(S::CONFLICT, "managed", text),
            OpsError::Conflict(_) => Self::new(S::CONFLICT, "conflict", text),
            OpsError::Busy(_) => Self::new(S::TOO_MANY_REQUESTS, "busy", text),
            OpsError::Name(_) => Self::new(S::UNPROCESSABLE_ENTITY, "bad-name", text),
            OpsError::Root { .. } => Self::new(S::UNPROCESSABLE_ENTITY, "bad-root", text),
            OpsError::Endpoint(_) => Self::new(S::UNPROCESSABLE_ENTITY, "bad-endpoint", text),
            OpsError::Filter(_) => Self::new(S::UNPROCESSABLE_ENTITY, "bad-filter", text),
            OpsError::Key(_) => Self::new(S::UNPROCESSABLE_ENTITY, "bad-key", text),
            OpsError::Path(_) => Self::new(S::BAD_REQUEST, "bad-path", text),
            OpsError::Ahead { .. } => Self::new(S::BAD_REQUEST, "unknown-position", text),
            OpsError::NoRoom { .. } => Self::new(S::INSUFFICIENT_STORAGE, "no-room", text),
            OpsError::Upload(_) => Self::new(S::BAD_REQUEST, "bad-upload", text),
            OpsError::Quota(_) => Self::new(S::TOO_MANY_REQUESTS, "quota", text),
            OpsError::File(_)
            | OpsError::Store(_)
            | OpsError::Journal(_)
            | OpsError::NoRandomness
            | OpsError::NoSigningKey
            | OpsError::Signing(_) => {
                log_failure(&error);
                Self::new(S::SERVICE_UNAVAILABLE, "try-again", "filebell could not do it now; its log says why")
            }
        }
    }
}

/// Logs a failure of ours once, with its chain, where it is answered.
pub(crate) fn log_failure(error: &OpsError) {
    tracing::error!(error = error as &dyn std::error::Error, "a request failed");
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Body {
            r#type: format!("urn:filebell:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"filebell\""));
        }
        response
    }
}
