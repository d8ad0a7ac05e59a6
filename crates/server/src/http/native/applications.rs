//! `/api/v1/applications` and `/api/v1/grants`: who may see what, as the operator and each account may change it.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use filebell_core::secret::Secret;
use filebell_core::subscription::SignatureEncoding;
use serde::{Deserialize, Serialize};

use super::super::auth;
use super::super::path_names::PathNames;
use super::super::problem::Problem;
use super::{Sent, body, given, operator};
use crate::ops::{Application, ApplicationRequest, GrantRequest, Ops};

/// How long an old secret still counts if nothing is said.
const OVERLAP_SECS: u64 = 24 * 60 * 60;
/// The scope of a grant that names none.
const SCOPE: &str = "api.dataDelivery";

pub(super) fn router() -> Router<Ops> {
    Router::new()
        .route("/api/v1/applications", get(list).post(add))
        .route("/api/v1/applications/{name}", get(show).patch(change).delete(remove))
        .route("/api/v1/applications/{name}/rotate-secret", post(rotate))
        .route("/api/v1/applications/{name}/disable", post(disable))
        .route("/api/v1/applications/{name}/enable", post(enable))
        .route("/api/v1/grants", get(grants).post(grant))
        .route("/api/v1/grants/{application}/{account}", delete(revoke))
}

#[derive(Serialize)]
struct ApplicationView {
    name: String,
    application_id: String,
    client_id: String,
    /// Only where it was made, or given, just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
    redirect_urls: Vec<String>,
    notification_url: Option<String>,
    signature_encoding: String,
    disabled: bool,
    managed: bool,
}

impl ApplicationView {
    fn new(application: Application, secret: Option<&Secret>) -> Self {
        Self {
            name: application.name,
            application_id: application.application_id,
            client_id: application.client_id,
            client_secret: secret.map(|secret| secret.expose().to_owned()),
            redirect_urls: application.redirect_urls,
            notification_url: application.notification_url,
            signature_encoding: application.signature_encoding,
            disabled: application.disabled,
            managed: application.managed,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ApplicationBody {
    name: String,
    client_id: Option<String>,
    client_secret: Option<String>,
    #[serde(default)]
    redirect_urls: Vec<String>,
    notification_url: Option<String>,
    signature_encoding: Option<String>,
}

/// What is not given stays.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    redirect_urls: Option<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    notification_url: Option<Option<String>>,
    signature_encoding: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RotateBody {
    overlap_seconds: Option<u64>,
}

#[derive(Serialize)]
struct GrantView {
    application: String,
    account: String,
    folders: Vec<String>,
    scopes: Vec<String>,
    granted_at: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantBody {
    application: String,
    account: String,
    folders: Vec<String>,
    scopes: Option<Vec<String>>,
}

async fn list(State(ops): State<Ops>, request: Parts) -> Result<Json<Vec<ApplicationView>>, Problem> {
    operator(&ops, &request).await?;
    let applications = ops.applications().await?;
    Ok(Json(applications.into_iter().map(|one| ApplicationView::new(one, None)).collect()))
}

async fn add(
    State(ops): State<Ops>,
    request: Parts,
    Sent(bytes): Sent,
) -> Result<(StatusCode, Json<ApplicationView>), Problem> {
    operator(&ops, &request).await?;
    let asked: ApplicationBody = body(&bytes)?;
    let signature_encoding = encoding(asked.signature_encoding.as_deref().unwrap_or("hex"))?;
    let request = ApplicationRequest {
        name: asked.name,
        client_id: asked.client_id,
        client_secret: asked.client_secret.map(Secret::new),
        redirect_urls: asked.redirect_urls,
        notification_url: asked.notification_url,
        signature_encoding,
        managed: false,
    };
    let (application, secret) = ops.add_application(request).await?;
    Ok((StatusCode::CREATED, Json(ApplicationView::new(application, secret.as_ref()))))
}

async fn show(
    State(ops): State<Ops>,
    PathNames([name]): PathNames<1>,
    request: Parts,
) -> Result<Json<ApplicationView>, Problem> {
    operator(&ops, &request).await?;
    Ok(Json(ApplicationView::new(ops.application(&name).await?, None)))
}

async fn change(
    State(ops): State<Ops>,
    PathNames([name]): PathNames<1>,
    request: Parts,
    Sent(bytes): Sent,
) -> Result<Json<ApplicationView>, Problem> {
    operator(&ops, &request).await?;
    let asked: ChangeBody = body(&bytes)?;
    let known = ops.application(&name).await?;
    let application = ops
        .change_application(
            &name,
            asked.redirect_urls.unwrap_or(known.redirect_urls),
            asked.notification_url.unwrap_or(known.notification_url),
            encoding(asked.signature_encoding.as_deref().unwrap_or(&known.signature_encoding))?,
        )
        .await?;
    Ok(Json(ApplicationView::new(application, None)))
}

fn encoding(text: &str) -> Result<SignatureEncoding, Problem> {
    text.parse().map_err(|_| Problem::bad_parameter("signature_encoding: give `hex` or `base64`"))
}

async fn remove(
    State(ops): State<Ops>,
    PathNames([name]): PathNames<1>,
    request: Parts,
) -> Result<StatusCode, Problem> {
    operator(&ops, &request).await?;
    ops.remove_application(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn rotate(
    State(ops): State<Ops>,
    PathNames([name]): PathNames<1>,
    request: Parts,
    Sent(bytes): Sent,
) -> Result<Json<ApplicationView>, Problem> {
    operator(&ops, &request).await?;
    let asked: RotateBody = if bytes.is_empty() { RotateBody::default() } else { body(&bytes)? };
    let overlap = Duration::from_secs(asked.overlap_seconds.unwrap_or(OVERLAP_SECS));
    let secret = ops.rotate_application_secret(&name, overlap).await?;
    Ok(Json(ApplicationView::new(ops.application(&name).await?, Some(&secret))))
}

async fn disable(
    State(ops): State<Ops>,
    PathNames([name]): PathNames<1>,
    request: Parts,
) -> Result<StatusCode, Problem> {
    operator(&ops, &request).await?;
    ops.set_application_disabled(&name, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn enable(
    State(ops): State<Ops>,
    PathNames([name]): PathNames<1>,
    request: Parts,
) -> Result<StatusCode, Problem> {
    operator(&ops, &request).await?;
    ops.set_application_disabled(&name, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The grants that the caller may know of: all of them, or its own.
async fn grants(State(ops): State<Ops>, request: Parts) -> Result<Json<Vec<GrantView>>, Problem> {
    let caller = auth::caller(&ops, &request).await?;
    let view = |(grant, application, account): (crate::ops::Grant, String, String)| GrantView {
        application,
        account,
        folders: grant.folders,
        scopes: grant.scopes,
        granted_at: grant.granted_at.to_string(),
    };
    Ok(Json(ops.grants_of(&caller).await?.into_iter().map(view).collect()))
}

async fn grant(
    State(ops): State<Ops>,
    request: Parts,
    Sent(bytes): Sent,
) -> Result<(StatusCode, Json<GrantView>), Problem> {
    operator(&ops, &request).await?;
    let asked: GrantBody = body(&bytes)?;
    let request = GrantRequest {
        application: asked.application.clone(),
        account: asked.account.clone(),
        folders: asked.folders,
        scopes: asked.scopes.unwrap_or_else(|| vec![SCOPE.to_owned()]),
    };
    let grant = ops.write_grant(request).await?;
    let view = GrantView {
        application: asked.application,
        account: asked.account,
        folders: grant.folders,
        scopes: grant.scopes,
        granted_at: grant.granted_at.to_string(),
    };
    Ok((StatusCode::CREATED, Json(view)))
}

/// Takes a grant back: the operator any, an account or an application its own.
async fn revoke(
    State(ops): State<Ops>,
    PathNames([application, account]): PathNames<2>,
    request: Parts,
) -> Result<StatusCode, Problem> {
    let caller = auth::caller(&ops, &request).await?;
    ops.revoke_grant(&caller, &application, &account).await?;
    Ok(StatusCode::NO_CONTENT)
}
