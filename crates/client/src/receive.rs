//! An axum extractor: a handler that takes a [`Verified`] runs only for a notification whose signature fits.

use std::time::{SystemTime, UNIX_EPOCH};

use axum_core::extract::{FromRef, FromRequest, Request};
use axum_core::response::{IntoResponse, Response};
use filebell_core::time::TimestampSecs;
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::verify::{BODY_BYTES_MAX, Verifier, VerifyError};

/// A notification that was verified with the key `K`, which is taken from the router's state.
///
/// Takes the body, so it stands last among the arguments of a handler.
#[derive(Debug, Clone)]
pub struct Verified<K: Verifier>(pub K::Notification);

/// Why a handler was not run.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// The body is larger than [`BODY_BYTES_MAX`]: 413.
    #[error("the body is larger than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    /// The body did not come to its end: 400.
    #[error("the body could not be read")]
    Unreadable,
    /// It is not signed as it should be (401), or is signed and no notification (400).
    #[error(transparent)]
    Refused(#[from] VerifyError),
}

impl Rejection {
    /// The HTTP status it is answered with.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unreadable => StatusCode::BAD_REQUEST,
            Self::Refused(error) if error.is_malformed() => StatusCode::BAD_REQUEST,
            Self::Refused(_) => StatusCode::UNAUTHORIZED,
        }
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        (self.status(), self.to_string()).into_response()
    }
}

impl<K, S> FromRequest<S> for Verified<K>
where
    K: Verifier + FromRef<S> + Send,
    S: Send + Sync,
{
    type Rejection = Rejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, Rejection> {
        let key = K::from_ref(state);
        let (parts, body) = request.into_parts();
        let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(Rejection::TooLarge),
            Err(_) => return Err(Rejection::Unreadable),
        };
        Ok(Self(key.verify(&parts.headers, &body, now())?))
    }
}

fn now() -> TimestampSecs {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimestampSecs::from_secs(i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX))
}
