//! Applications: for the operator all of them, for an account those that may see its files.

#[cfg(test)]
mod tests;

use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::routing::get;
use filebell_core::endpoint::EndpointUrl;
use filebell_core::subscription::SignatureEncoding;

use super::form::{Fields, Form, Posted, items};
use super::frame::{Frame, Refusal, page, page_with, see, sentence};
use super::list::{Page, page_of};
use super::text::At;
use super::trial::SecretPage;
use super::visitor::Visitor;
use crate::http::{PathNames, Query};
use crate::ops::{Application, ApplicationRequest, Caller, Grant, GrantRequest, Ops, OpsError};

const HERE: &str = "/applications";
/// How long an old secret counts beside the new one, if nothing else is typed; and at most.
const OVERLAP_HOURS: &str = "24";
const OVERLAP_HOURS_MAX: u32 = 90 * 24;
const HOUR: Duration = Duration::from_secs(60 * 60);
/// What may be granted, and what that means.
const SCOPES: [(&str, &str); 2] =
    [("api.dataDelivery", "list, download and delete files"), ("api.dataIngestion", "put new files there")];

pub(super) fn router() -> Router<Ops> {
    Router::new().route("/applications", get(list).post(post)).route("/applications/{name}", get(show).post(change))
}

#[derive(Template)]
#[template(path = "pages/applications.html")]
struct ApplicationsPage {
    frame: Frame,
    page: Page<Row>,
    form: Form,
}

struct Row {
    application: Application,
    grants: usize,
}

#[derive(Template)]
#[template(path = "pages/application.html")]
struct ApplicationPage {
    frame: Frame,
    application: Application,
    grants: Vec<Given>,
    accounts: Vec<String>,
    forms: Forms,
}

#[derive(Template)]
#[template(path = "pages/grants.html")]
struct GrantsPage {
    frame: Frame,
    grants: Vec<Given>,
    asks_at: String,
}

/// A grant as it is shown.
struct Given {
    application: String,
    account: String,
    may: Vec<String>,
    grant: Grant,
}

/// The forms of one application's page.
struct Forms {
    change: Form,
    rotate: Form,
    grant: Form,
    /// Each scope, what it means, and whether it is chosen.
    scopes: Vec<(&'static str, &'static str, bool)>,
}

async fn list(State(ops): State<Ops>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let query = Query::new(query.as_deref());
    let notice = match query.last_text("done").as_deref() {
        Some("removed") => Some("The application is removed, with its grants and tokens."),
        Some("revoked") => Some("Taken back: the application may not see your files any more."),
        _ => None,
    };
    let frame = Frame::new(&ops, &visitor, HERE).with_notice(notice);
    if visitor.is_operator() {
        return applications_page(&ops, frame, &query.last_text("after").unwrap_or_default(), Form::default()).await;
    }
    let asks_at = format!("{}/v1/token/authorise", ops.public_url());
    let grants = grants(&ops, &visitor.caller()).await?;
    Ok(page(&GrantsPage { frame, grants, asks_at }))
}

async fn applications_page(ops: &Ops, frame: Frame, after: &str, form: Form) -> Result<Response, Refusal> {
    let grants = ops.grants().await?;
    let row = |application: Application| Row {
        grants: grants.iter().filter(|grant| grant.application == application.id).count(),
        application,
    };
    let rows = ops.applications().await?.into_iter().map(row).collect();
    let view = ApplicationsPage { frame, page: page_of(rows, after, |row| &row.application.name), form };
    Ok(page_with(view.form.status(), &view))
}

/// The operator registers an application; an account takes a grant back.
async fn post(State(ops): State<Ops>, posted: Posted) -> Result<Response, Refusal> {
    if let Ok(caller) = posted.visitor.account() {
        let (application, account) = (posted.fields.text("application"), &caller.account.name);
        ops.revoke_grant(&posted.visitor.caller(), &application, account).await?;
        return Ok(see(&ops, "/applications?done=revoked"));
    }
    register(&ops, posted).await
}

async fn register(ops: &Ops, Posted { visitor, fields }: Posted) -> Result<Response, Refusal> {
    visitor.operator()?;
    let mut form = Form::typed(&fields, &["name", "redirect_urls", "notification_url", "signature_encoding"]);
    let (redirect_urls, notification_url, signature_encoding) = settings(&fields, &mut form);
    let request = ApplicationRequest {
        name: fields.text("name"),
        client_id: None,
        client_secret: None,
        redirect_urls,
        notification_url,
        signature_encoding,
        managed: false,
    };
    let frame = Frame::new(ops, &visitor, HERE);
    let added = if form.is_right() { Some(ops.add_application(request).await) } else { None };
    match added {
        Some(Ok((application, Some(secret)))) => Ok(page(&SecretPage {
            frame,
            heading: format!("{} is registered", application.name),
            what: "Client secret",
            secret,
            facts: vec![("Client id", application.client_id)],
            next: "The application asks for tokens with both. It sees nothing before an account consents, or you \
                   grant it something.",
            back: format!("{HERE}/{}", application.name),
            examples: Vec::new(),
        })),
        Some(Ok((application, None))) => Ok(see(ops, &format!("{HERE}/{}", application.name))),
        Some(Err(error)) => {
            let field = matches!(error, OpsError::Name(_) | OpsError::Exists(_)).then_some("name");
            applications_page(ops, frame, "", form.refuse_by(error, field)?).await
        }
        None => applications_page(ops, frame, "", form).await,
    }
}

/// What is set in the form of an application; what is wrong is noted at its field.
fn settings(fields: &Fields, form: &mut Form) -> (Vec<String>, Option<String>, SignatureEncoding) {
    let redirect_urls = items(&fields.text("redirect_urls"));
    for url in &redirect_urls {
        if let Err(error) = url.parse::<EndpointUrl>() {
            form.refuse("redirect_urls", sentence(&error.to_string()));
        }
    }
    let notification_url = Some(fields.text("notification_url")).filter(|url| !url.is_empty());
    if let Some(Err(error)) = notification_url.as_ref().map(|url| url.parse::<EndpointUrl>()) {
        form.refuse("notification_url", sentence(&error.to_string()));
    }
    let encoding = fields.text("signature_encoding").parse().unwrap_or(SignatureEncoding::Hex);
    (redirect_urls, notification_url, encoding)
}

async fn show(
    State(ops): State<Ops>,
    visitor: Visitor,
    PathNames([name]): PathNames<1>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    visitor.operator()?;
    let notice = match Query::new(query.as_deref()).last_text("done").as_deref() {
        Some("changed") => Some("Saved."),
        Some("disabled") => {
            Some("Disabled: none of its tokens counts, and it is told nothing. What it is owed is kept.")
        }
        Some("enabled") => Some("Enabled: it is told again, also what came meanwhile."),
        Some("granted") => Some("Granted."),
        Some("revoked") => Some("Taken back: its tokens for that account have ended."),
        _ => None,
    };
    let application = ops.application(&name).await?;
    let forms = Forms::of(&application);
    application_page(&ops, Frame::new(&ops, &visitor, HERE).with_notice(notice), application, forms).await
}

impl Forms {
    fn of(application: &Application) -> Self {
        let change = Form::default()
            .with("redirect_urls", application.redirect_urls.join("\n"))
            .with("notification_url", application.notification_url.as_deref().unwrap_or_default())
            .with("signature_encoding", application.signature_encoding.as_str());
        Self {
            change,
            rotate: Form::default().with("overlap", OVERLAP_HOURS),
            grant: Form::default(),
            scopes: scopes(&[SCOPES[0].0.to_owned()]),
        }
    }
}

fn scopes(chosen: &[String]) -> Vec<(&'static str, &'static str, bool)> {
    SCOPES.map(|(scope, means)| (scope, means, chosen.iter().any(|one| one == scope))).into()
}

async fn application_page(
    ops: &Ops,
    frame: Frame,
    application: Application,
    forms: Forms,
) -> Result<Response, Refusal> {
    let mut grants = grants(ops, &Caller::Operator).await?;
    grants.retain(|given| given.application == application.name);
    let accounts = ops.accounts().await?.into_iter().map(|account| account.name).collect();
    let wrong = [&forms.change, &forms.rotate, &forms.grant].into_iter().find(|form| !form.is_right());
    let status = wrong.unwrap_or(&forms.change).status();
    Ok(page_with(status, &ApplicationPage { frame, application, grants, accounts, forms }))
}

async fn change(
    State(ops): State<Ops>,
    PathNames([name]): PathNames<1>,
    Posted { visitor, fields }: Posted,
) -> Result<Response, Refusal> {
    visitor.operator()?;
    let application = ops.application(&name).await?;
    let mut forms = Forms::of(&application);
    let done = match fields.text("do").as_str() {
        "change" => {
            forms.change = Form::typed(&fields, &["redirect_urls", "notification_url", "signature_encoding"]);
            let (redirect_urls, notification_url, encoding) = settings(&fields, &mut forms.change);
            if forms.change.is_right() {
                ops.change_application(&name, redirect_urls, notification_url, encoding).await?;
                Some("changed")
            } else {
                None
            }
        }
        "rotate" => {
            forms.rotate = Form::typed(&fields, &["overlap"]);
            match fields.text("overlap").parse::<u32>().ok().filter(|hours| *hours <= OVERLAP_HOURS_MAX) {
                Some(hours) => return rotate(&ops, &visitor, &application, HOUR.saturating_mul(hours)).await,
                None => forms.rotate.refuse("overlap", "Give a number of hours, at most 2160 (90 days)."),
            }
            None
        }
        "disable" => ops.set_application_disabled(&name, true).await.map(|()| Some("disabled"))?,
        "enable" => ops.set_application_disabled(&name, false).await.map(|()| Some("enabled"))?,
        "remove" => {
            ops.remove_application(&name).await?;
            return Ok(see(&ops, "/applications?done=removed"));
        }
        "revoke" => {
            ops.revoke_grant(&visitor.caller(), &name, &fields.text("account")).await?;
            Some("revoked")
        }
        "grant" => {
            forms.scopes = scopes(&fields.all("scope"));
            let form = Form::typed(&fields, &["account", "folders"]);
            forms.grant = grant(&ops, &name, &fields, form).await?;
            forms.grant.is_right().then_some("granted")
        }
        _ => return Err(Refusal::NotFound),
    };
    match done {
        Some(done) => Ok(see(&ops, &format!("{HERE}/{name}?done={done}"))),
        None => application_page(&ops, Frame::new(&ops, &visitor, HERE), application, forms).await,
    }
}

async fn rotate(
    ops: &Ops,
    visitor: &Visitor,
    application: &Application,
    overlap: Duration,
) -> Result<Response, Refusal> {
    let secret = ops.rotate_application_secret(&application.name, overlap).await?;
    let until = ops.now().after(overlap);
    Ok(page(&SecretPage {
        frame: Frame::new(ops, visitor, HERE),
        heading: format!("{} has a new secret", application.name),
        what: "Client secret",
        secret,
        facts: vec![
            ("Client id", application.client_id.clone()),
            ("The secret before it counts until", until.to_string()),
        ],
        next: "Give it to the application before the old one ends. Tokens that it has stay valid.",
        back: format!("{HERE}/{}", application.name),
        examples: Vec::new(),
    }))
}

/// Grants by hand; answers the form with what is wrong in it.
async fn grant(ops: &Ops, application: &str, fields: &Fields, mut form: Form) -> Result<Form, Refusal> {
    let (folders, scopes) = (items(&fields.text("folders")), fields.all("scope"));
    if folders.is_empty() {
        form.refuse("folders", "Name at least one folder.");
    }
    if scopes.is_empty() || !scopes.iter().all(|scope| SCOPES.iter().any(|(known, _)| known == scope)) {
        form.refuse("scope", "Choose what it may do.");
    }
    if !form.is_right() {
        return Ok(form);
    }
    let (application, account) = (application.to_owned(), fields.text("account"));
    match ops.write_grant(GrantRequest { application, account, folders, scopes }).await {
        Ok(_) => Ok(form),
        Err(error) => {
            let field = match error {
                OpsError::Filter(_) => Some("folders"),
                OpsError::NotFound(_) => Some("account"),
                _ => None,
            };
            form.refuse_by(error, field)
        }
    }
}

async fn grants(ops: &Ops, caller: &Caller) -> Result<Vec<Given>, Refusal> {
    let means = |scope: &String| {
        let known = SCOPES.iter().find(|(known, _)| known == scope);
        known.map_or_else(|| scope.clone(), |(_, means)| (*means).to_owned())
    };
    let given = |(grant, application, account): (Grant, String, String)| Given {
        application,
        account,
        may: grant.scopes.iter().map(means).collect(),
        grant,
    };
    Ok(ops.grants_of(caller).await?.into_iter().map(given).collect())
}
