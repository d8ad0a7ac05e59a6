//! The same tokens for standard OAuth clients: metadata (RFC 8414), keys (RFC 7517), token (RFC 6749, with
//! `client_credentials`), revocation (RFC 7009), introspection (RFC 7662); errors as those write them.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use filebell_core::secret::Secret;
use filebell_core::wire::sagex3::Failure;
use filebell_core::wire::sagex3::ask::{Parameters, SCOPES, TokenRequest};
use serde_json::json;

use super::super::problem::{Problem, log_failure};
use super::{not_stored, token};
use crate::ops::{Application, AskError, Ops, OpsError};

pub(super) fn router() -> Router<Ops> {
    Router::new()
        .route("/.well-known/oauth-authorization-server", get(metadata))
        .route("/.well-known/jwks.json", get(keys))
        .route("/oauth/token", post(exchange))
        .route("/oauth/revoke", post(revoke))
        .route("/oauth/introspect", post(introspect))
}

async fn metadata(State(ops): State<Ops>) -> Response {
    let base = ops.public_url();
    let methods = ["client_secret_basic", "client_secret_post"];
    Json(json!({
        "issuer": base,
        "authorization_endpoint": format!("{base}/v1/token/authorise"),
        "token_endpoint": format!("{base}/oauth/token"),
        "revocation_endpoint": format!("{base}/oauth/revoke"),
        "introspection_endpoint": format!("{base}/oauth/introspect"),
        "jwks_uri": format!("{base}/.well-known/jwks.json"),
        "scopes_supported": SCOPES,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "token_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_methods_supported": methods,
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
    }))
    .into_response()
}

async fn keys(State(ops): State<Ops>) -> Result<Response, Problem> {
    Ok(Json(ops.public_keys().await?).into_response())
}

/// A refusal as OAuth writes it (RFC 6749, 5.2).
struct Refused(AskError);

impl<E: Into<AskError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, error) = match &self.0 {
            AskError::Refused(Failure::MissingParameters | Failure::InvalidParameter(_)) => {
                (StatusCode::BAD_REQUEST, "invalid_request")
            }
            AskError::Refused(Failure::GrantType) => (StatusCode::BAD_REQUEST, "unsupported_grant_type"),
            AskError::Refused(Failure::UnknownClient | Failure::ApplicationDisabled)
            | AskError::Failed(OpsError::Credentials) => (StatusCode::UNAUTHORIZED, "invalid_client"),
            AskError::Refused(_) => (StatusCode::BAD_REQUEST, "invalid_grant"),
            AskError::Failed(error) => {
                log_failure(error);
                (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
            }
        };
        let description = match &self.0 {
            AskError::Refused(failure) => failure.to_string(),
            AskError::Failed(_) => "try again later".to_owned(),
        };
        let body = Json(json!({ "error": error, "error_description": description }));
        let mut response = not_stored((status, body).into_response());
        if status == StatusCode::UNAUTHORIZED {
            let realm = HeaderValue::from_static("Basic realm=\"filebell\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
        }
        response
    }
}

async fn exchange(State(ops): State<Ops>, headers: HeaderMap, body: Body) -> Result<Response, Response> {
    let answer = async {
        let request = TokenRequest::from_parameters(&read(&headers, body).await?, true)?;
        Ok::<_, Refused>(token::tokens(&ops.tokens(request).await?))
    };
    answer.await.map_err(IntoResponse::into_response)
}

/// Ends a token with all others of its pairing; one that is none is as good as ended.
async fn revoke(State(ops): State<Ops>, headers: HeaderMap, body: Body) -> Result<StatusCode, Response> {
    let ended = async {
        let parameters = read(&headers, body).await?;
        let application = client(&ops, &parameters).await?;
        ops.revoke_token(&application, &Secret::new(parameters.need("token")?)).await?;
        Ok::<_, Refused>(StatusCode::OK)
    };
    ended.await.map_err(IntoResponse::into_response)
}

async fn introspect(State(ops): State<Ops>, headers: HeaderMap, body: Body) -> Result<Response, Response> {
    let told = async {
        let parameters = read(&headers, body).await?;
        let application = client(&ops, &parameters).await?;
        let found = ops.introspect(application.id, &Secret::new(parameters.need("token")?)).await?;
        let told = found.map_or(json!({ "active": false }), |token| {
            json!({
                "active": true,
                "scope": token.scope,
                "client_id": token.client_id,
                "username": token.account,
                "sub": token.subject,
                "iss": token.issuer,
                "aud": token.issuer,
                "iat": token.issued_at,
                "exp": token.expires_at,
                "token_type": "Bearer",
            })
        });
        Ok::<_, Refused>(not_stored(Json(told).into_response()))
    };
    told.await.map_err(IntoResponse::into_response)
}

async fn client(ops: &Ops, parameters: &Parameters) -> Result<Application, AskError> {
    let secret = Secret::new(parameters.need("client_secret")?);
    ops.authenticate(parameters.need("client_id")?, &secret).await
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Parameters, Failure> {
    token::read_parameters(headers, body).await
}
