//! The connection settings of the File Upload Notification app.

#[cfg(test)]
mod tests;

use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::routing::{get, post};
use filebell_core::endpoint::EndpointUrl;
use filebell_core::secret::Secret;
use filebell_core::subscription::{Protocol, SubscriptionStatus};
use filebell_core::time::TimestampSecs;
use filebell_core::wire::nextcloud;
use filebell_core::wire::nextcloud::settings::{Settings, SettingsError};
use filebell_core::wire::percent_encode;
use serde_json::{Map, Value};

use super::form::{Form, Posted};
use super::frame::{Frame, Refusal, page_with, see, sentence};
use super::text::Took;
use super::trial::{as_sent, trial_page};
use super::visitor::Visitor;
use crate::http::Query;
use crate::ops::{Connections, Ops, OpsError};

const HERE: &str = "/settings/user/file_upload_notification";
const FIELDS: [&str; 4] = ["id", "url", "interval", "secret"];
/// What the interval is before anything was saved.
const INTERVAL: &str = "10";
/// Bytes of a fresh key, as the original makes it.
const KEY_BYTES: usize = 16;

pub(super) fn router() -> Router<Ops> {
    Router::new()
        .route("/settings/user/file_upload_notification", get(show).post(change))
        .route("/index.php/settings/user/file_upload_notification", get(show).post(change))
        .route("/settings/user/file_upload_notification/test", post(test))
        .route("/settings/user/file_upload_notification/disconnect", post(disconnect))
        .route("/login", get(login))
        .route("/index.php/login", get(login))
}

#[derive(Template)]
#[template(path = "pages/connection.html")]
struct ConnectionPage {
    frame: Frame,
    others: Vec<Other>,
    form: Form,
    state: Option<Standing>,
    saved: bool,
    testable: bool,
    notification: String,
    receipt: String,
    recent: String,
    download: String,
}

/// A connection that somebody else set up.
struct Other {
    name: String,
    why: &'static str,
    url: String,
    interval: Duration,
    id: String,
    state: &'static str,
}

/// How the own connection stands.
struct Standing {
    class: &'static str,
    word: &'static str,
    why: String,
}

async fn show(State(ops): State<Ops>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let connections = ops.connections(visitor.account()?).await?;
    let form = match connections.settings.as_ref().map(Settings::texts) {
        Some([id, url, interval, secret]) => {
            Form::default().with("id", id).with("url", url).with("interval", interval).with("secret", secret)
        }
        None => {
            let id = format!("{}:{}", ops.public_url(), visitor.account()?.account.name);
            Form::default().with("id", id).with("interval", INTERVAL)
        }
    };
    let notice = match Query::new(query.as_deref()).last_text("done").as_deref() {
        Some("saved") => Some("The connection is saved. Test it, to see that the receiver accepts it."),
        Some("disconnected") => Some("Disconnected: nobody is told any more."),
        _ => None,
    };
    connection_page(&ops, &visitor, connections, form, notice)
}

async fn change(State(ops): State<Ops>, Posted { visitor, fields }: Posted) -> Result<Response, Refusal> {
    let caller = visitor.account()?;
    let mut form = Form::typed(&fields, &FIELDS);
    if fields.text("do") == "generate" {
        let form = form.with("secret", ops.connection_secret(KEY_BYTES)?.expose());
        return connection_page(&ops, &visitor, ops.connections(caller).await?, form, None);
    }
    let posted = FIELDS.map(|name| (name.to_owned(), Value::from(form.value(name)))).into_iter().collect();
    match check(posted, &mut form) {
        Some(settings) => {
            ops.set_connection(caller, &settings).await?;
            Ok(see(&ops, &format!("{HERE}?done=saved")))
        }
        None => connection_page(&ops, &visitor, ops.connections(caller).await?, form, None),
    }
}

/// The settings, if all of them can be used; else what is wrong is noted at each field. A person is told at once what
/// a program may keep although nothing can come of it.
fn check(mut posted: Map<String, Value>, form: &mut Form) -> Option<Settings> {
    for (name, fault) in [("id", SettingsError::Id), ("url", SettingsError::Url), ("secret", SettingsError::Secret)] {
        if form.value(name).is_empty() {
            form.refuse(name, fault.to_string());
        }
    }
    if !form.value("url").is_empty()
        && let Err(error) = form.value("url").parse::<EndpointUrl>()
    {
        form.refuse("url", format!("{}. {}", SettingsError::Url, sentence(&error.to_string())));
    }
    loop {
        let fault = match Settings::check(posted.clone()) {
            Ok(settings) => return form.is_right().then_some(settings),
            Err(fault) => fault,
        };
        // The first fault hides those behind it: it is put right to see them.
        let (name, right) = match fault {
            SettingsError::Id => ("id", "x"),
            SettingsError::Url => ("url", "x"),
            SettingsError::Interval => ("interval", INTERVAL),
            SettingsError::Secret => ("secret", "4f"),
        };
        form.refuse(name, fault.to_string());
        posted.insert(name.to_owned(), right.into());
    }
}

async fn test(State(ops): State<Ops>, Posted { visitor, fields }: Posted) -> Result<Response, Refusal> {
    let connections = ops.connections(visitor.account()?).await?;
    let name = match fields.text("name") {
        name if name.is_empty() => connections.own.map(|own| own.name),
        name => connections.others.into_iter().map(|other| other.name).find(|other| *other == name),
    };
    let missing = || OpsError::NotFound("connection to test: save one first".to_owned());
    let trial = ops.try_subscription(&visitor.caller(), &name.ok_or_else(missing)?).await?;
    Ok(trial_page(Frame::new(&ops, &visitor, HERE), &trial, HERE))
}

async fn disconnect(State(ops): State<Ops>, Posted { visitor, .. }: Posted) -> Result<Response, Refusal> {
    ops.remove_connection(visitor.account()?).await?;
    Ok(see(&ops, &format!("{HERE}?done=disconnected")))
}

/// Where the original's clients are sent to sign in.
async fn login(State(ops): State<Ops>, RawQuery(query): RawQuery) -> Response {
    let back = Query::new(query.as_deref()).last_text("redirect_url").unwrap_or_default();
    see(&ops, &format!("/sign-in?next={}", percent_encode(back.as_bytes())))
}

fn connection_page(
    ops: &Ops,
    visitor: &Visitor,
    connections: Connections,
    form: Form,
    notice: Option<&'static str>,
) -> Result<Response, Refusal> {
    let Connections { settings, own, others } = connections;
    let name = &visitor.account()?.account.name;
    let state = settings.as_ref().map(|_| match &own {
        Some(own) => {
            let (class, word) = state_of(own.status);
            Standing { class, word, why: own.status_reason.as_deref().map(sentence).unwrap_or_default() }
        }
        None => Standing {
            class: "warn",
            word: "told nothing",
            why: "The settings that are saved have no key, or no URL that can be reached.".to_owned(),
        },
    });
    let (base, examples) = (ops.public_url(), Examples::of(&form, ops.now().to_secs()));
    let others = others.into_iter().filter_map(|other| {
        let Protocol::Nextcloud { connection_id } = other.protocol else { return None };
        Some(Other {
            why: if other.managed {
                "Declared in the configuration file: only the operator changes it, and only there."
            } else {
                "Set up by the operator, who alone can change it."
            },
            name: other.name,
            url: other.endpoint.to_string(),
            interval: other.min_interval,
            id: connection_id,
            state: state_of(other.status).1,
        })
    });
    let view = ConnectionPage {
        frame: Frame::new(ops, visitor, HERE).with_notice(notice),
        others: others.collect(),
        saved: settings.is_some(),
        testable: own.is_some(),
        state,
        notification: examples.notification,
        receipt: examples.receipt,
        recent: format!(
            "curl --user {name} --header 'OCS-APIRequest: true' \\\n  \
             '{base}/ocs/v2.php/apps/file_upload_notification/api/recent?since=0&format=json'"
        ),
        download: format!("curl --user {name} --remote-name '{base}/remote.php/dav/files/{name}/FOLDER/FILE'"),
        form,
    };
    Ok(page_with(view.form.status(), &view))
}

pub(super) fn state_of(status: SubscriptionStatus) -> (&'static str, &'static str) {
    match status {
        SubscriptionStatus::Active => ("good", "active"),
        SubscriptionStatus::Paused => ("warn", "paused"),
        SubscriptionStatus::Disabled => ("bad", "disabled"),
        SubscriptionStatus::Revoked => ("quiet", "revoked"),
    }
}

/// Examples with the values that stand in the form.
struct Examples {
    notification: String,
    receipt: String,
}

impl Examples {
    fn of(form: &Form, since: TimestampSecs) -> Self {
        let secs = form.value("interval").parse().unwrap_or(10);
        let path = form.value("url").parse::<EndpointUrl>().map(|url| url.url().path().to_owned());
        let body = nextcloud::body(form.value("id"), Duration::from_secs(secs), since);
        let quoted = String::from_utf8_lossy(&body).replace('\'', r"'\''");
        let request = nextcloud::sign(body, &Secret::new(form.value("secret")));
        let path = path.unwrap_or_else(|_| "/hook".to_owned());
        Self {
            notification: format!("POST {path} HTTP/1.1\n{}", as_sent(&request)),
            receipt: format!(
                "# the signature that this body must have\nprintf '%s' '{quoted}' | openssl dgst -sha256 -hmac \
                 \"$COMMON_KEY\"\n\n# the same in Python, with the body as bytes\nexpected = \
                 hmac.new(os.environ[\"COMMON_KEY\"].encode(), body, hashlib.sha256).hexdigest()\nright = \
                 hmac.compare_digest(expected, \
                 headers[\"X-Nextcloud-File-Upload-Notification-Signature\"])"
            ),
        }
    }
}
