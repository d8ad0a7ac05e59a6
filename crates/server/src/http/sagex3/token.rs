//! `POST /v1/token` and `DELETE /v1/token` (section 3): in the protocol's own words, whoever asks.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use filebell_core::secret::Secret;
use filebell_core::wire::sagex3::ask::{Parameters, TokenRequest};
use filebell_core::wire::sagex3::{self, Failure};
use percent_encoding::percent_decode_str;
use uuid::Uuid;

use super::super::auth::{Given, given};
use super::super::path_names::PathNames;
use super::{FORM_BYTES_MAX, Refused, json, not_stored};
use crate::ops::{Application, AskError, Issued, Ops};

pub(super) fn router() -> Router<Ops> {
    Router::new().route("/v1/token", post(token).delete(remove)).route("/v1/token/{id}", delete(remove_by_id))
}

/// `POST /v1/token`: a code or a refresh token is exchanged.
async fn token(State(ops): State<Ops>, headers: HeaderMap, body: Body) -> Result<Response, Response> {
    let parameters = parameters(&headers, body).await?;
    let answer = async {
        let request = TokenRequest::from_parameters(&parameters, false)?;
        ops.tokens(request).await
    };
    let issued = answer.await.map_err(|error| not_stored(Refused::from(error).into_response()))?;
    Ok(tokens(&issued))
}

pub(super) fn tokens(issued: &Issued) -> Response {
    let body = sagex3::tokens(&issued.access, issued.refresh.as_ref(), &issued.scope, issued.access_for);
    not_stored(json(StatusCode::OK, body))
}

/// `DELETE /v1/token` (GAP-16): ends the refresh token in the body, or the tokens of the bearer.
async fn remove(State(ops): State<Ops>, headers: HeaderMap, body: Body) -> Result<StatusCode, Response> {
    let parameters = parameters(&headers, body).await?;
    let ended = async {
        let application = deleting_application(&ops, &headers, &parameters).await?;
        let bearer = match given(&headers) {
            Given::Token(token) => Some(token),
            Given::Nothing | Given::Password(_) | Given::Unreadable => None,
        };
        let named = parameters.get("refresh_token").map(Secret::new).or(bearer);
        let token = named.ok_or(Failure::MissingParameters)?;
        Ok::<_, AskError>(ops.revoke_token(&application, &token).await?)
    };
    ended.await.map_err(|error| Refused::from(error).into_response())?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v1/token/{id}`: ends the refresh token with this id.
async fn remove_by_id(
    State(ops): State<Ops>,
    PathNames([id]): PathNames<1>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Response> {
    let parameters = parameters(&headers, body).await?;
    let ended = async {
        let application = deleting_application(&ops, &headers, &parameters).await?;
        if let Ok(id) = Uuid::try_parse(&id) {
            ops.revoke_token_id(&application, id).await?;
        }
        Ok::<_, AskError>(())
    };
    ended.await.map_err(|error| Refused::from(error).into_response())?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who deletes: by client id and secret, or by an access token.
async fn deleting_application(
    ops: &Ops,
    headers: &HeaderMap,
    parameters: &Parameters,
) -> Result<Application, AskError> {
    match (parameters.get("client_id"), given(headers)) {
        (Some(client_id), _) => ops.authenticate(client_id, &Secret::new(parameters.need("client_secret")?)).await,
        (None, Given::Token(token)) => Ok(ops.bearer_application(&token).await?),
        (None, _) => Err(Failure::Unauthorised.into()),
    }
}

/// The parameters of a request, or its refusal in the protocol's own words.
async fn parameters(headers: &HeaderMap, body: Body) -> Result<Parameters, Response> {
    read_parameters(headers, body).await.map_err(|failure| not_stored(Refused::from(failure).into_response()))
}

/// The parameters of a form or of JSON, with client id and secret of the `Authorization` header if it is Basic.
pub(super) async fn read_parameters(headers: &HeaderMap, body: Body) -> Result<Parameters, Failure> {
    let body = axum::body::to_bytes(body, FORM_BYTES_MAX).await.map_err(|_| Failure::MissingParameters)?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_form = kind.trim_start().to_ascii_lowercase().starts_with("application/x-www-form-urlencoded");
    let mut parameters = match (is_form, body.is_empty()) {
        (_, true) => Parameters::default(),
        (true, false) => Parameters::from_form(&body)?,
        (false, false) => Parameters::from_json(&body)?,
    };
    if let Given::Password(basic) = given(headers) {
        for (name, value) in [("client_id", basic.username()), ("client_secret", basic.password())] {
            // Percent-encoded before it is put together (RFC 6749, 2.3.1).
            let value = percent_decode_str(value).decode_utf8_lossy();
            if parameters.get(name) != Some(&*value) {
                parameters.add(name, &value)?;
            }
        }
    }
    Ok(parameters)
}
