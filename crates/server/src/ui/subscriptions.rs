//! Subscriptions, as the operator sees them: how each stands, and what can be done with it.

#[cfg(test)]
mod tests;

use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::routing::get;
use filebell_core::endpoint::EndpointUrl;
use filebell_core::event::EventKind;
use filebell_core::filter::FilterText;
use filebell_core::secret::Secret;
use filebell_core::subscription::{Protocol, ProtocolKind, Subscription, SubscriptionStatus};

use super::form::{Fields, Form, Posted, items};
use super::frame::{Frame, Refusal, page, page_with, see, sentence};
use super::list::{Page, page_of};
use super::trial::{SecretPage, trial_page};
use super::visitor::Visitor;
use crate::config::parse_duration;
use crate::http::{PathNames, Query};
use crate::ops::{Ops, OpsError, ProtocolRequest, SubscriptionChange, SubscriptionReport, SubscriptionRequest};

const HERE: &str = "/subscriptions";
const KINDS: [EventKind; 4] = [EventKind::Created, EventKind::Updated, EventKind::Moved, EventKind::Deleted];
/// Fields that are shown again as they were typed: all but the key.
const FIELDS: [&str; 9] =
    ["name", "account", "protocol", "url", "connection_id", "min_interval", "folders", "include", "exclude"];
/// What the interval is where nothing is typed.
const INTERVAL: &str = "10s";

pub(super) fn router() -> Router<Ops> {
    // A name may hold a slash: `APPLICATION/ACCOUNT`.
    Router::new().route("/subscriptions", get(list).post(add)).route("/subscriptions/{*name}", get(show).post(change))
}

#[derive(Template)]
#[template(path = "pages/subscriptions.html")]
struct SubscriptionsPage {
    frame: Frame,
    page: Page<SubscriptionReport>,
    accounts: Vec<String>,
    form: Form,
    kinds: Vec<(&'static str, bool)>,
}

#[derive(Template)]
#[template(path = "pages/subscription.html")]
struct SubscriptionPage {
    frame: Frame,
    report: SubscriptionReport,
    endpoint: String,
    interval: String,
    connection_id: Option<String>,
    /// Why it cannot be changed here; `None` if it can.
    fixed: Option<String>,
    removable: bool,
    filter: FilterText,
    form: Form,
    kinds: Vec<(&'static str, bool)>,
}

/// What is set in the form, apart from name, account and protocol.
struct Settings {
    url: String,
    connection_id: String,
    min_interval: Duration,
    filter: FilterText,
}

async fn list(State(ops): State<Ops>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    visitor.operator()?;
    let query = Query::new(query.as_deref());
    let notice = match query.last_text("done").as_deref() {
        Some("added") => Some("The subscription is added, and told from now on."),
        Some("removed") => Some("The subscription is removed, with all it was still to be told."),
        _ => None,
    };
    let frame = Frame::new(&ops, &visitor, HERE).with_notice(notice);
    let form = Form::default().with("protocol", "standard").with("min_interval", INTERVAL);
    let after = query.last_text("after").unwrap_or_default();
    subscriptions_page(&ops, &visitor, frame, &after, form, kinds(&FilterText::default().kinds)).await
}

async fn subscriptions_page(
    ops: &Ops,
    visitor: &Visitor,
    frame: Frame,
    after: &str,
    form: Form,
    kinds: Vec<(&'static str, bool)>,
) -> Result<Response, Refusal> {
    let reports = ops.status(&visitor.caller()).await?.subscriptions;
    let accounts = ops.accounts().await?.into_iter().map(|account| account.name).collect();
    let page = page_of(reports, after, |one| &one.name);
    Ok(page_with(form.status(), &SubscriptionsPage { frame, page, accounts, form, kinds }))
}

fn kinds(chosen: &[String]) -> Vec<(&'static str, bool)> {
    KINDS.map(|kind| (kind.as_str(), chosen.iter().any(|one| one == kind.as_str()))).into()
}

/// Reads the settings; what is wrong is noted at its field.
fn settings(fields: &Fields, nextcloud: bool, form: &mut Form) -> Option<Settings> {
    let url = fields.text("url");
    if let Err(error) = url.parse::<EndpointUrl>() {
        form.refuse("url", sentence(&error.to_string()));
    }
    let interval = parse_duration(&fields.text("min_interval"));
    match &interval {
        Err(error) => form.refuse("min_interval", sentence(&error.to_string())),
        Ok(interval) if nextcloud && (interval.is_zero() || interval.subsec_nanos() > 0) => {
            form.refuse("min_interval", "Nextcloud's protocol has whole seconds, at least one.");
        }
        Ok(_) => (),
    }
    let connection_id = fields.text("connection_id");
    if nextcloud && connection_id.is_empty() {
        form.refuse("connection_id", "A Nextcloud receiver needs a connection id.");
    }
    let [folders, include, exclude] = ["folders", "include", "exclude"].map(|name| items(&fields.text(name)));
    let filter = FilterText { folders, include, exclude, kinds: fields.all("kind") };
    if filter.kinds.is_empty() {
        form.refuse("kind", "Choose at least one: nothing would ever be told.");
    }
    form.is_right().then_some(Settings { url, connection_id, min_interval: interval.ok()?, filter })
}

/// The field that a refusal is about.
fn field_of(error: &OpsError) -> Option<&'static str> {
    match error {
        OpsError::Name(_) | OpsError::Exists(_) => Some("name"),
        OpsError::NotFound(_) => Some("account"),
        OpsError::Endpoint(_) => Some("url"),
        OpsError::Key(_) => Some("key"),
        OpsError::Filter(_) => Some("include"),
        _ => None,
    }
}

async fn add(State(ops): State<Ops>, Posted { visitor, fields }: Posted) -> Result<Response, Refusal> {
    visitor.operator()?;
    let mut form = Form::typed(&fields, &FIELDS);
    let nextcloud = fields.text("protocol") == ProtocolKind::Nextcloud.as_str();
    let frame = Frame::new(&ops, &visitor, HERE);
    if let Some(settings) = settings(&fields, nextcloud, &mut form) {
        let key = Some(fields.text("key")).filter(|key| !key.is_empty()).map(Secret::new);
        let made = key.is_none();
        let request = SubscriptionRequest {
            name: fields.text("name"),
            account: fields.text("account"),
            protocol: match nextcloud {
                true => ProtocolRequest::Nextcloud { connection_id: settings.connection_id },
                false => ProtocolRequest::Standard,
            },
            url: settings.url,
            key,
            min_interval: settings.min_interval,
            filter: settings.filter,
            managed: false,
        };
        match ops.add_subscription(request).await {
            Ok(added) if made => return Ok(key_page(frame, &added.name, "is added", added.key)),
            Ok(_) => return Ok(see(&ops, "/subscriptions?done=added")),
            Err(error) => {
                let field = field_of(&error);
                form = form.refuse_by(error, field)?;
            }
        }
    }
    subscriptions_page(&ops, &visitor, frame, "", form, kinds(&fields.all("kind"))).await
}

fn key_page(frame: Frame, name: &str, happened: &str, secret: Secret) -> Response {
    page(&SecretPage {
        frame,
        heading: format!("{name} {happened}"),
        what: "Signing key",
        secret,
        facts: Vec::new(),
        next: "The receiver checks the signature of every notification with it.",
        back: format!("{HERE}/{name}"),
        examples: Vec::new(),
    })
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
        Some("paused") => Some("Paused: what it is owed is kept."),
        Some("resumed") => Some("Resumed: it is told what came meanwhile."),
        _ => None,
    };
    let subscription = ops.subscription(&name).await?;
    let frame = Frame::new(&ops, &visitor, HERE).with_notice(notice);
    let (form, kinds) = (form_of(&subscription), kinds(&subscription.filter.text().kinds));
    subscription_page(&ops, &visitor, frame, subscription, form, kinds).await
}

fn form_of(subscription: &Subscription) -> Form {
    let filter = subscription.filter.text();
    let form = Form::default()
        .with("url", subscription.endpoint.to_string())
        .with("min_interval", duration(subscription.min_interval))
        .with("folders", filter.folders.join("\n"))
        .with("include", filter.include.join("\n"))
        .with("exclude", filter.exclude.join("\n"));
    match &subscription.protocol {
        Protocol::Nextcloud { connection_id } => form.with("connection_id", connection_id),
        Protocol::SageX3 { .. } | Protocol::Standard => form,
    }
}

/// A duration as it can be typed.
fn duration(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    }
}

async fn subscription_page(
    ops: &Ops,
    visitor: &Visitor,
    frame: Frame,
    subscription: Subscription,
    form: Form,
    kinds: Vec<(&'static str, bool)>,
) -> Result<Response, Refusal> {
    let mut reports = ops.status(&visitor.caller()).await?.subscriptions;
    reports.retain(|one| one.name == subscription.name);
    let report = reports.pop().ok_or(Refusal::NotFound)?;
    let view = SubscriptionPage {
        frame,
        report,
        endpoint: subscription.endpoint.to_string(),
        interval: duration(subscription.min_interval),
        connection_id: match &subscription.protocol {
            Protocol::Nextcloud { connection_id } => Some(connection_id.clone()),
            Protocol::SageX3 { .. } | Protocol::Standard => None,
        },
        fixed: ops.why_fixed(&subscription).map(|why| sentence(&why.to_string())),
        removable: !subscription.managed && subscription.protocol.kind() != ProtocolKind::SageX3,
        filter: subscription.filter.text().clone(),
        form,
        kinds,
    };
    Ok(page_with(view.form.status(), &view))
}

async fn change(
    State(ops): State<Ops>,
    PathNames([name]): PathNames<1>,
    Posted { visitor, fields }: Posted,
) -> Result<Response, Refusal> {
    visitor.operator()?;
    let subscription = ops.subscription(&name).await?;
    let frame = Frame::new(&ops, &visitor, HERE);
    let back = format!("{HERE}/{name}");
    let done = match fields.text("do").as_str() {
        "test" => {
            let trial = ops.try_subscription(&visitor.caller(), &name).await?;
            return Ok(trial_page(frame, &trial, &back));
        }
        "pause" => {
            ops.set_subscription_status(&name, SubscriptionStatus::Paused).await?;
            "paused"
        }
        "resume" => {
            ops.set_subscription_status(&name, SubscriptionStatus::Active).await?;
            "resumed"
        }
        "rotate" => {
            let key = ops.rotate_subscription_key(&name).await?;
            return Ok(key_page(frame, &name, "has a new key", key));
        }
        "remove" => {
            ops.remove_subscription(&name).await?;
            return Ok(see(&ops, "/subscriptions?done=removed"));
        }
        "change" => {
            let mut form = Form::typed(&fields, &FIELDS);
            let nextcloud = subscription.protocol.kind() == ProtocolKind::Nextcloud;
            if let Some(settings) = settings(&fields, nextcloud, &mut form) {
                let change = SubscriptionChange {
                    url: Some(settings.url),
                    connection_id: nextcloud.then_some(settings.connection_id),
                    min_interval: Some(settings.min_interval),
                    filter: Some(settings.filter),
                    key: None,
                };
                match ops.change_subscription(&name, change).await {
                    Ok(_) => return Ok(see(&ops, &format!("{back}?done=changed"))),
                    Err(error) => {
                        let field = field_of(&error);
                        form = form.refuse_by(error, field)?;
                    }
                }
            }
            return subscription_page(&ops, &visitor, frame, subscription, form, kinds(&fields.all("kind"))).await;
        }
        _ => return Err(Refusal::NotFound),
    };
    Ok(see(&ops, &format!("{back}?done={done}")))
}
