//! `/api/v1/accounts`: the operator's, and of itself each account's.

use std::path::PathBuf;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{delete, get};
use axum::{Json, Router};
use filebell_core::secret::Secret;
use serde::{Deserialize, Serialize};

use super::super::auth;
use super::super::path_names::PathNames;
use super::super::problem::Problem;
use super::{Sent, body, given, operator};
use crate::ops::{Account, AccountChange, AccountRequest, Caller, Ops, OpsError};

pub(super) fn router() -> Router<Ops> {
    Router::new()
        .route("/api/v1/accounts", get(list).post(add))
        .route("/api/v1/accounts/{name}", get(show).patch(change).delete(remove))
        .route("/api/v1/accounts/{name}/app-passwords", get(passwords).post(add_password))
        .route("/api/v1/accounts/{name}/app-passwords/{password}", delete(remove_password))
}

#[derive(Serialize)]
struct AccountView {
    name: String,
    root: Option<String>,
    customer_url: String,
    customer_id: String,
    customer_code: String,
    used_bytes: u64,
    quota_bytes: Option<u64>,
    has_password: bool,
    managed: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountBody {
    name: String,
    password: Option<String>,
    root: Option<PathBuf>,
    #[serde(default)]
    customer_url: String,
    #[serde(default)]
    customer_id: String,
    #[serde(default)]
    customer_code: String,
    quota_bytes: Option<u64>,
}

/// What is not given stays; a root or a quota that is `null` is taken away.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    password: Option<String>,
    #[serde(default, deserialize_with = "given")]
    root: Option<Option<PathBuf>>,
    customer_url: Option<String>,
    customer_id: Option<String>,
    customer_code: Option<String>,
    #[serde(default, deserialize_with = "given")]
    quota_bytes: Option<Option<u64>>,
}

#[derive(Serialize)]
struct AppPasswordView {
    name: String,
    /// Only where it was made just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    created_at: String,
    last_used_at: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AppPasswordBody {
    name: String,
}

async fn view(ops: &Ops, account: Account) -> Result<AccountView, Problem> {
    let usage = ops.usage(&account).await?;
    Ok(AccountView {
        name: account.name,
        root: account.root.map(|root| root.display().to_string()),
        customer_url: account.customer_url,
        customer_id: account.customer_id,
        customer_code: account.customer_code,
        used_bytes: usage.used,
        quota_bytes: usage.quota,
        has_password: account.password_hash.is_some(),
        managed: account.managed,
    })
}

/// Goes on for the operator, and for the account itself; to others there is no such account.
async fn owner(ops: &Ops, request: &Parts, name: &str) -> Result<(), Problem> {
    match auth::caller(ops, request).await? {
        Caller::Operator => Ok(()),
        Caller::Account(caller) if caller.account.name == name => Ok(()),
        Caller::Account(_) | Caller::Application(_) => Err(OpsError::NotFound(format!("account `{name}`")).into()),
    }
}

async fn list(State(ops): State<Ops>, request: Parts) -> Result<Json<Vec<AccountView>>, Problem> {
    operator(&ops, &request).await?;
    let mut views = Vec::new();
    for account in ops.accounts().await? {
        views.push(view(&ops, account).await?);
    }
    Ok(Json(views))
}

async fn add(
    State(ops): State<Ops>,
    request: Parts,
    Sent(bytes): Sent,
) -> Result<(StatusCode, Json<AccountView>), Problem> {
    operator(&ops, &request).await?;
    let asked: AccountBody = body(&bytes)?;
    let request = AccountRequest {
        name: asked.name,
        password: asked.password.map(Secret::new),
        root: asked.root,
        customer_url: asked.customer_url,
        customer_id: asked.customer_id,
        customer_code: asked.customer_code,
        quota_bytes: asked.quota_bytes,
        managed: false,
    };
    Ok((StatusCode::CREATED, Json(view(&ops, ops.add_account(request).await?).await?)))
}

async fn show(
    State(ops): State<Ops>,
    PathNames([name]): PathNames<1>,
    request: Parts,
) -> Result<Json<AccountView>, Problem> {
    owner(&ops, &request, &name).await?;
    Ok(Json(view(&ops, ops.account(&name).await?).await?))
}

async fn change(
    State(ops): State<Ops>,
    PathNames([name]): PathNames<1>,
    request: Parts,
    Sent(bytes): Sent,
) -> Result<Json<AccountView>, Problem> {
    operator(&ops, &request).await?;
    let asked: ChangeBody = body(&bytes)?;
    let change = AccountChange {
        password: asked.password.map(Secret::new),
        root: asked.root,
        customer_url: asked.customer_url,
        customer_id: asked.customer_id,
        customer_code: asked.customer_code,
        quota_bytes: asked.quota_bytes,
    };
    Ok(Json(view(&ops, ops.change_account(&name, change).await?).await?))
}

async fn remove(
    State(ops): State<Ops>,
    PathNames([name]): PathNames<1>,
    request: Parts,
) -> Result<StatusCode, Problem> {
    operator(&ops, &request).await?;
    ops.remove_account(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn passwords(
    State(ops): State<Ops>,
    PathNames([name]): PathNames<1>,
    request: Parts,
) -> Result<Json<Vec<AppPasswordView>>, Problem> {
    owner(&ops, &request, &name).await?;
    let views = ops.app_passwords(&name).await?.into_iter().map(|one| AppPasswordView {
        name: one.name,
        password: None,
        created_at: one.created_at.to_string(),
        last_used_at: one.last_used_at.map(|at| at.to_string()),
    });
    Ok(Json(views.collect()))
}

async fn add_password(
    State(ops): State<Ops>,
    PathNames([name]): PathNames<1>,
    request: Parts,
    Sent(bytes): Sent,
) -> Result<(StatusCode, Json<AppPasswordView>), Problem> {
    owner(&ops, &request, &name).await?;
    let asked: AppPasswordBody = body(&bytes)?;
    let password = ops.add_app_password(&name, &asked.name).await?;
    let view = AppPasswordView {
        name: asked.name,
        password: Some(password.expose().to_owned()),
        created_at: ops.now().to_string(),
        last_used_at: None,
    };
    Ok((StatusCode::CREATED, Json(view)))
}

async fn remove_password(
    State(ops): State<Ops>,
    PathNames([name, password]): PathNames<2>,
    request: Parts,
) -> Result<StatusCode, Problem> {
    owner(&ops, &request, &name).await?;
    ops.remove_app_password(&name, &password).await?;
    Ok(StatusCode::NO_CONTENT)
}
