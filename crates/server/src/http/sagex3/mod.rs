//! Sage X3: pairing by consent, tokens, the detail of a notification, the listing, the bytes, the delete, the upload.

mod authorise;
mod delivery;
mod ingestion;
mod standard;
mod storage;
#[cfg(test)]
mod tests;
mod token;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use filebell_core::wire::sagex3::{ErrorForm, Failure};

use super::auth;
use super::problem::log_failure;
use crate::ops::{ApplicationCaller, AskError, Ops, OpsError};

/// The largest body of a form or a request for tokens.
const FORM_BYTES_MAX: usize = 128 * 1024;

pub(super) fn router() -> Router<Ops> {
    Router::new()
        .merge(authorise::router())
        .merge(token::router())
        .merge(standard::router())
        .merge(delivery::router())
        .merge(storage::router())
        .merge(ingestion::router())
}

/// A refusal in the protocol's own words.
struct Refused {
    failure: Failure,
    form: ErrorForm,
    retry_after_secs: Option<u64>,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { failure, form: ErrorForm::Documented, retry_after_secs: None }
    }
}

impl From<AskError> for Refused {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Refused(failure) => failure.into(),
            AskError::Failed(OpsError::Credentials | OpsError::Expired) => Failure::Unauthorised.into(),
            AskError::Failed(error @ OpsError::NoSigningKey) => {
                log_failure(&error);
                Failure::NoKey.into()
            }
            AskError::Failed(error) => {
                log_failure(&error);
                Failure::TokenInternal("try again later".to_owned()).into()
            }
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.failure.status_in(self.form));
        let mut response = json(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), self.failure.body_in(self.form));
        if let Some(secs) = self.retry_after_secs {
            response.headers_mut().insert(header::RETRY_AFTER, secs.into());
        }
        response
    }
}

/// Says what an error of a data call means here; `missing` is what "not found" is called.
fn refuse(ops: &Ops, missing: Failure) -> impl FnOnce(OpsError) -> Refused {
    refuse_as(ops, missing, Failure::Internal)
}

/// The same, where `inside` says that it failed inside.
fn refuse_as(ops: &Ops, missing: Failure, inside: Failure) -> impl FnOnce(OpsError) -> Refused {
    let form = ops.sagex3().errors;
    move |error| {
        let mut retry_after_secs = None;
        let failure = match error {
            OpsError::Credentials | OpsError::Expired => Failure::Unauthorised,
            OpsError::NotGranted(_) => Failure::Forbidden,
            OpsError::NotFound(_) | OpsError::Path(_) => missing,
            OpsError::Exists(_) => Failure::FileExists,
            OpsError::NoRoom { .. } => Failure::NoRoom,
            OpsError::File(why) if is_full(&why) => Failure::NoRoom,
            OpsError::Quota(left) => {
                retry_after_secs = Some(left.as_secs().saturating_add(1));
                Failure::TooManyRequests
            }
            other => {
                log_failure(&other);
                inside
            }
        };
        Refused { failure, form, retry_after_secs }
    }
}

/// Whether the disk is full, or what it gives us.
fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// The same for what is wrong with a request itself.
fn wrong(ops: &Ops, failure: Failure) -> Refused {
    Refused { failure, form: ops.sagex3().errors, retry_after_secs: None }
}

/// The application that asks; counts against its quota.
async fn caller(ops: &Ops, headers: &HeaderMap) -> Result<ApplicationCaller, Refused> {
    let caller = auth::application(ops, headers).await.map_err(refuse(ops, Failure::Unauthorised))?;
    ops.count_call(&caller).map_err(refuse(ops, Failure::Unauthorised))?;
    Ok(caller)
}

fn json(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// An answer that holds a secret, or depends on one, is kept by nobody.
fn not_stored(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// A body that is small enough to be a form.
async fn small_body(body: Body) -> Result<axum::body::Bytes, Response> {
    let too_large = || json(StatusCode::PAYLOAD_TOO_LARGE, br#"{"message":"Content Too Large"}"#.to_vec());
    axum::body::to_bytes(body, FORM_BYTES_MAX).await.map_err(|_| too_large())
}
