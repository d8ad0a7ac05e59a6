//! Accounts, as the operator sees them, and the passwords that an account makes for its clients.

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use askama::Template;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::routing::get;
use filebell_core::secret::Secret;

use super::form::{Form, Posted};
use super::frame::{Frame, Refusal, page, page_with, see, sentence};
use super::list::{Page, page_of};
use super::text::{At, Size};
use super::trial::SecretPage;
use super::visitor::Visitor;
use crate::config::{parse_size, size_text};
use crate::http::{PathNames, Query};
use crate::ops::{Account, AccountChange, AccountRequest, AppPassword, Ops, OpsError, SourceReport, Usage};

const HERE: &str = "/accounts";
const PASSWORDS: &str = "/passwords";

pub(super) fn router() -> Router<Ops> {
    Router::new()
        .route("/accounts", get(list).post(add))
        .route("/accounts/{name}", get(show).post(change))
        .route("/passwords", get(passwords).post(change_passwords))
}

#[derive(Template)]
#[template(path = "pages/accounts.html")]
struct AccountsPage {
    frame: Frame,
    page: Page<Row>,
    form: Form,
}

struct Row {
    account: Account,
    usage: Usage,
    source: Option<SourceReport>,
}

#[derive(Template)]
#[template(path = "pages/account.html")]
struct AccountPage {
    frame: Frame,
    account: Account,
    usage: Usage,
    source: Option<SourceReport>,
    passwords: Vec<AppPassword>,
    forms: Forms,
}

/// The forms of one account's page.
struct Forms {
    password: Form,
    change: Form,
    app_password: Form,
}

#[derive(Template)]
#[template(path = "pages/passwords.html")]
struct PasswordsPage {
    frame: Frame,
    passwords: Vec<AppPassword>,
    form: Form,
}

async fn list(State(ops): State<Ops>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    visitor.operator()?;
    let query = Query::new(query.as_deref());
    let notice = match query.last_text("done").as_deref() {
        Some("removed") => Some("The account is removed. Its files stay where they are."),
        _ => None,
    };
    let frame = Frame::new(&ops, &visitor, HERE).with_notice(notice);
    accounts_page(&ops, &visitor, frame, &query.last_text("after").unwrap_or_default(), Form::default()).await
}

async fn accounts_page(
    ops: &Ops,
    visitor: &Visitor,
    frame: Frame,
    after: &str,
    form: Form,
) -> Result<Response, Refusal> {
    let mut sources = ops.status(&visitor.caller()).await?.sources;
    let mut source = |name: &str| {
        let at = sources.iter().position(|source| source.account == name)?;
        Some(sources.swap_remove(at))
    };
    let rows = ops.accounts().await?;
    let Page { rows, next, later } = page_of(rows, after, |account| &account.name);
    let mut page = Page { rows: Vec::new(), next, later };
    for account in rows {
        page.rows.push(Row { usage: ops.usage(&account).await?, source: source(&account.name), account });
    }
    Ok(page_with(form.status(), &AccountsPage { frame, page, form }))
}

fn root(typed: &str) -> Option<PathBuf> {
    (!typed.is_empty()).then(|| PathBuf::from(typed))
}

async fn add(State(ops): State<Ops>, Posted { visitor, fields }: Posted) -> Result<Response, Refusal> {
    visitor.operator()?;
    let form = Form::typed(&fields, &["name", "root"]);
    let request = AccountRequest {
        name: fields.text("name"),
        password: Some(fields.verbatim("password")).filter(|password| !password.is_empty()).map(Secret::new),
        root: root(&fields.text("root")),
        customer_url: String::new(),
        customer_id: String::new(),
        customer_code: String::new(),
        quota_bytes: None,
        managed: false,
    };
    match ops.add_account(request).await {
        Ok(account) => Ok(see(&ops, &format!("{HERE}/{}?done=added", account.name))),
        Err(error) => {
            let field = match error {
                OpsError::Name(_) | OpsError::Exists(_) => Some("name"),
                OpsError::Root { .. } => Some("root"),
                _ => None,
            };
            let form = form.refuse_by(error, field)?;
            accounts_page(&ops, &visitor, Frame::new(&ops, &visitor, HERE), "", form).await
        }
    }
}

async fn show(
    State(ops): State<Ops>,
    visitor: Visitor,
    PathNames([name]): PathNames<1>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    visitor.operator()?;
    let notice = match Query::new(query.as_deref()).last_text("done").as_deref() {
        Some("added") => Some("The account is added. Its directory is watched within a second."),
        Some("changed") => Some("Saved."),
        Some("password") => Some("The password is changed. Who was signed in with the old one is signed out."),
        Some("revoked") => Some("The app password does not count any more."),
        _ => None,
    };
    let account = ops.account(&name).await?;
    let forms = Forms::of(&account);
    account_page(&ops, &visitor, Frame::new(&ops, &visitor, HERE).with_notice(notice), account, forms).await
}

impl Forms {
    fn of(account: &Account) -> Self {
        let root = account.root.as_ref().map(|root| root.display().to_string()).unwrap_or_default();
        let change = Form::default()
            .with("root", root)
            .with("customer_url", account.customer_url.as_str())
            .with("customer_id", account.customer_id.as_str())
            .with("customer_code", account.customer_code.as_str())
            .with("quota", account.quota_bytes.map(size_text).unwrap_or_default());
        Self { password: Form::default(), change, app_password: Form::default() }
    }
}

async fn account_page(
    ops: &Ops,
    visitor: &Visitor,
    frame: Frame,
    account: Account,
    forms: Forms,
) -> Result<Response, Refusal> {
    let mut sources = ops.status(&visitor.caller()).await?.sources;
    sources.retain(|source| source.account == account.name);
    let passwords = ops.app_passwords(&account.name).await?;
    let wrong = [&forms.password, &forms.change, &forms.app_password].into_iter().find(|form| !form.is_right());
    let status = wrong.unwrap_or(&forms.change).status();
    let usage = ops.usage(&account).await?;
    Ok(page_with(status, &AccountPage { frame, account, usage, source: sources.pop(), passwords, forms }))
}

async fn change(
    State(ops): State<Ops>,
    PathNames([name]): PathNames<1>,
    Posted { visitor, fields }: Posted,
) -> Result<Response, Refusal> {
    visitor.operator()?;
    let account = ops.account(&name).await?;
    let mut forms = Forms::of(&account);
    let back = format!("{HERE}/{name}");
    let done = match fields.text("do").as_str() {
        "password" => {
            let password = fields.verbatim("password");
            if password.is_empty() {
                forms.password.refuse("password", "Give a password.");
                None
            } else {
                let password = Some(Secret::new(password));
                ops.change_account(&name, AccountChange { password, ..AccountChange::default() }).await?;
                Some("password")
            }
        }
        "change" => {
            forms.change = Form::typed(&fields, &["root", "quota", "customer_url", "customer_id", "customer_code"]);
            let quota = Some(fields.text("quota")).filter(|text| !text.is_empty()).map(|text| parse_size(&text));
            match quota.transpose() {
                Err(error) => {
                    forms.change.refuse("quota", sentence(&error.to_string()));
                    None
                }
                Ok(quota) => {
                    let change = AccountChange {
                        password: None,
                        root: Some(root(&fields.text("root"))),
                        customer_url: Some(fields.text("customer_url")),
                        customer_id: Some(fields.text("customer_id")),
                        customer_code: Some(fields.text("customer_code")),
                        quota_bytes: Some(quota),
                    };
                    match ops.change_account(&name, change).await {
                        Ok(_) => Some("changed"),
                        Err(error) => {
                            let field = matches!(error, OpsError::Root { .. }).then_some("root");
                            forms.change = forms.change.refuse_by(error, field)?;
                            None
                        }
                    }
                }
            }
        }
        "make" => {
            forms.app_password = Form::typed(&fields, &["name"]);
            match ops.add_app_password(&name, &fields.text("name")).await {
                Ok(password) => {
                    let frame = Frame::new(&ops, &visitor, HERE);
                    return Ok(password_page(&ops, frame, &name, &fields.text("name"), password, back));
                }
                Err(error) => forms.app_password = app_password_refused(forms.app_password, error)?,
            }
            None
        }
        "revoke" => {
            ops.remove_app_password(&name, &fields.text("name")).await?;
            Some("revoked")
        }
        "remove" => {
            ops.remove_account(&name).await?;
            return Ok(see(&ops, "/accounts?done=removed"));
        }
        _ => return Err(Refusal::NotFound),
    };
    match done {
        Some(done) => Ok(see(&ops, &format!("{back}?done={done}"))),
        None => account_page(&ops, &visitor, Frame::new(&ops, &visitor, HERE), account, forms).await,
    }
}

fn app_password_refused(form: Form, error: OpsError) -> Result<Form, Refusal> {
    let field = matches!(error, OpsError::Name(_) | OpsError::Exists(_)).then_some("name");
    form.refuse_by(error, field)
}

/// A fresh app password, with what it is good for.
fn password_page(ops: &Ops, frame: Frame, account: &str, name: &str, secret: Secret, back: String) -> Response {
    let (base, shown) = (ops.public_url(), secret.expose());
    let examples = vec![
        ("WebDAV with curl", format!("curl --user {account}:{shown} {base}/remote.php/dav/files/{account}/")),
        (
            "rclone",
            format!(
                "rclone config create filebell webdav url={base}/remote.php/dav/files/{account} vendor=nextcloud \
                 user={account} pass={shown} --obscure\nrclone copy ./outbox filebell:inbox"
            ),
        ),
        (
            "Which files are new",
            format!(
                "curl --user {account}:{shown} --header 'OCS-APIRequest: true' \\\n  \
                 '{base}/ocs/v2.php/apps/file_upload_notification/api/recent?since=0&format=json'"
            ),
        ),
    ];
    page(&SecretPage {
        frame,
        heading: format!("App password {name}"),
        what: "App password",
        facts: vec![("Account", account.to_owned())],
        next: "It signs in to WebDAV and the API as the account's own password does, and can be revoked alone.",
        secret,
        back,
        examples,
    })
}

async fn passwords(State(ops): State<Ops>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    visitor.account()?;
    let notice = match Query::new(query.as_deref()).last_text("done").as_deref() {
        Some("revoked") => Some("The app password does not count any more."),
        _ => None,
    };
    let frame = Frame::new(&ops, &visitor, PASSWORDS).with_notice(notice);
    passwords_page(&ops, &visitor, frame, Form::default()).await
}

async fn passwords_page(ops: &Ops, visitor: &Visitor, frame: Frame, form: Form) -> Result<Response, Refusal> {
    let passwords = ops.app_passwords(&visitor.account()?.account.name).await?;
    Ok(page_with(form.status(), &PasswordsPage { frame, passwords, form }))
}

async fn change_passwords(State(ops): State<Ops>, Posted { visitor, fields }: Posted) -> Result<Response, Refusal> {
    let (account, name) = (visitor.account()?.account.name.clone(), fields.text("name"));
    let frame = Frame::new(&ops, &visitor, PASSWORDS);
    match fields.text("do").as_str() {
        "make" => match ops.add_app_password(&account, &name).await {
            Ok(password) => Ok(password_page(&ops, frame, &account, &name, password, PASSWORDS.to_owned())),
            Err(error) => {
                let form = app_password_refused(Form::typed(&fields, &["name"]), error)?;
                passwords_page(&ops, &visitor, frame, form).await
            }
        },
        "revoke" => {
            ops.remove_app_password(&account, &name).await?;
            Ok(see(&ops, "/passwords?done=revoked"))
        }
        _ => Err(Refusal::NotFound),
    }
}
