//! Subscriptions, and the replay of what they are owed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use filebell::config::parse_duration;
use filebell::ops::{Caller, NEXTCLOUD_INTERVAL, Ops, ProtocolRequest, Replay, SubscriptionRequest};
use filebell_core::filter::FilterText;
use filebell_core::subscription::{Protocol, Subscription, SubscriptionStatus};
use serde::Serialize;

use super::super::output::Output;
use super::super::{Global, Usage, secret_from};
use super::{Named, declared, fields, must_be_new, open, removed, secret_from_stdin};

#[derive(Subcommand)]
pub(in crate::cli) enum SubscriptionCommand {
    /// Add a subscription; a key that is made for it is shown only now
    #[command(after_help = "\
Examples:
  filebell subscription add shop --account test2 --protocol standard --url https://app.example.org/hook
  filebell subscription add rdm --account test2 --protocol nextcloud --url https://rdm.example.org/hook \\
      --connection-id https://cloud.example.org:test2 --min-interval 10s --key-file rdm.key

Sage X3 is told by grants: filebell application add, filebell application grant.")]
    Add(Box<SubscriptionAdd>),
    /// List subscriptions
    List,
    /// Show a subscription
    Show(Named),
    /// Remove a subscription with all it is owed
    Remove(Named),
    /// Stop telling a subscription; what it is owed is kept
    Pause(Named),
    /// Tell a subscription again
    Resume(Named),
}

#[derive(Args)]
pub(in crate::cli) struct SubscriptionAdd {
    /// Its name
    name: String,
    /// Whose events
    #[arg(long, value_name = "NAME")]
    account: String,
    /// How it is told
    #[arg(long, value_enum)]
    protocol: ProtocolChoice,
    /// Where it is told
    #[arg(long, value_name = "URL")]
    url: String,
    /// nextcloud: what the notification carries as `id`
    #[arg(long, value_name = "ID")]
    connection_id: Option<String>,
    /// The least time between two notifications [default: 10s for nextcloud, each file its own for standard]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    min_interval: Option<Duration>,
    /// Read the key from this file [default: a fresh one]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Read the key from stdin
    #[arg(long, conflicts_with = "key_file")]
    key_stdin: bool,
    /// Only this top-level directory; may be given several times
    #[arg(long = "folder", value_name = "FOLDER")]
    folders: Vec<String>,
    /// Only paths that match this glob; may be given several times
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// No path that matches this glob; may be given several times
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Only this kind of event: created, updated, moved, deleted [default: created and updated]
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum ProtocolChoice {
    Nextcloud,
    Standard,
}

#[derive(Serialize)]
struct SubscriptionView {
    name: String,
    account: String,
    protocol: &'static str,
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    min_interval_ms: u128,
    filter: FilterText,
    status: &'static str,
    status_reason: Option<String>,
    managed: bool,
}

impl SubscriptionView {
    fn new(subscription: &Subscription, with_key: bool) -> Self {
        Self {
            name: subscription.name.clone(),
            account: subscription.account_name.clone(),
            protocol: subscription.protocol.kind().as_str(),
            url: subscription.endpoint.to_string(),
            connection_id: match &subscription.protocol {
                Protocol::Nextcloud { connection_id } => Some(connection_id.clone()),
                Protocol::SageX3 { .. } | Protocol::Standard => None,
            },
            key: with_key.then(|| subscription.key.expose().to_owned()),
            min_interval_ms: subscription.min_interval.as_millis(),
            filter: subscription.filter.text().clone(),
            status: subscription.status.as_str(),
            status_reason: subscription.status_reason.clone(),
            managed: subscription.managed,
        }
    }

    fn fields(&self) -> String {
        let key = self.key.as_ref().map(|key| format!("{key}  (shown only now)"));
        let min_interval = match self.min_interval_ms {
            0 => "each file its own notification".to_owned(),
            ms => format!(
                "at most one notification in {:?}",
                Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
            ),
        };
        let status = match &self.status_reason {
            Some(reason) => format!("{}: {reason}", self.status),
            None => self.status.to_owned(),
        };
        fields(&[
            ("subscription", &self.name),
            ("account", &self.account),
            ("protocol", self.protocol),
            ("told at", &self.url),
            ("connection id", self.connection_id.as_deref().unwrap_or_default()),
            ("key", key.as_deref().unwrap_or_default()),
            ("interval", &min_interval),
            ("folders", &self.filter.folders.join(" ")),
            ("include", &self.filter.include.join(" ")),
            ("exclude", &self.filter.exclude.join(" ")),
            ("kinds", &self.filter.kinds.join(" ")),
            ("status", &status),
            ("declared in", if self.managed { "the configuration file" } else { "" }),
        ])
    }
}

impl SubscriptionAdd {
    /// The request, and whether its key is made for it.
    fn request(self) -> anyhow::Result<(SubscriptionRequest, bool)> {
        let key = match (&self.key_file, self.key_stdin) {
            (_, true) => Some(secret_from_stdin()?),
            (Some(file), false) => secret_from(Some(file), "")?,
            (None, false) => None,
        };
        let is_made = key.is_none();
        let (protocol, min_interval) = match (self.protocol, self.connection_id) {
            (ProtocolChoice::Nextcloud, Some(connection_id)) => {
                let min_interval = self.min_interval.unwrap_or(NEXTCLOUD_INTERVAL);
                if min_interval < Duration::from_secs(1) || min_interval.subsec_nanos() != 0 {
                    let what = "--min-interval: the nextcloud protocol counts in whole seconds, at least 1s";
                    return Err(Usage(what.to_owned()).into());
                }
                (ProtocolRequest::Nextcloud { connection_id }, min_interval)
            }
            (ProtocolChoice::Nextcloud, None) => {
                let what = "--connection-id is missing: what the receiver knows this connection by, such as \
                            https://cloud.example.org:test2";
                return Err(Usage(what.to_owned()).into());
            }
            (ProtocolChoice::Standard, None) => (ProtocolRequest::Standard, self.min_interval.unwrap_or_default()),
            (ProtocolChoice::Standard, Some(_)) => {
                return Err(Usage("--connection-id is for --protocol nextcloud only".to_owned()).into());
            }
        };
        let default = FilterText::default();
        let filter = FilterText {
            folders: self.folders,
            include: self.include,
            exclude: self.exclude,
            kinds: if self.kinds.is_empty() { default.kinds } else { self.kinds },
        };
        let (name, account, url) = (self.name, self.account, self.url);
        let request = SubscriptionRequest { name, account, protocol, url, key, min_interval, filter, managed: false };
        Ok((request, is_made))
    }
}

pub(in crate::cli) async fn subscription(
    command: SubscriptionCommand,
    global: &Global,
    out: &Output,
) -> anyhow::Result<()> {
    let ops = open(global, false).await?;
    match command {
        SubscriptionCommand::Add(args) => {
            must_be_new(ops.subscription(&args.name).await, format!("subscription `{}`", args.name))?;
            let (request, key_is_made) = args.request()?;
            let view = SubscriptionView::new(&ops.write_subscription(request).await?, key_is_made);
            out.result(&view, || view.fields())
        }
        SubscriptionCommand::List => {
            let subscriptions = ops.subscriptions().await?;
            let views: Vec<_> = subscriptions.iter().map(|one| SubscriptionView::new(one, false)).collect();
            out.rows(["NAME", "ACCOUNT", "PROTOCOL", "TOLD AT", "STATUS", "DECLARED"], &views, |view| {
                [
                    view.name.clone(),
                    view.account.clone(),
                    view.protocol.to_owned(),
                    view.url.clone(),
                    view.status.to_owned(),
                    declared(view.managed),
                ]
            })
        }
        SubscriptionCommand::Show(Named { name }) => {
            let view = SubscriptionView::new(&ops.subscription(&name).await?, false);
            out.result(&view, || view.fields())
        }
        SubscriptionCommand::Remove(Named { name }) => {
            ops.remove_subscription(&name).await?;
            removed(out, "subscription", &name)
        }
        SubscriptionCommand::Pause(Named { name }) => set_status(&ops, out, &name, SubscriptionStatus::Paused).await,
        SubscriptionCommand::Resume(Named { name }) => set_status(&ops, out, &name, SubscriptionStatus::Active).await,
    }
}

async fn set_status(ops: &Ops, out: &Output, name: &str, status: SubscriptionStatus) -> anyhow::Result<()> {
    ops.set_subscription_status(name, status).await?;
    let json = serde_json::json!({ "name": name, "status": status.as_str() });
    out.result(&json, || format!("subscription {name} is {status}"))
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(in crate::cli) struct ReplayArgs {
    /// One notification, by its id; also one that was delivered
    #[arg(value_name = "NOTIFICATION-ID")]
    notification: Option<String>,
    /// All dead ones of a subscription, by its name
    #[arg(long, value_name = "NAME")]
    subscription: Option<String>,
}

pub(in crate::cli) async fn replay(args: ReplayArgs, global: &Global, out: &Output) -> anyhow::Result<()> {
    let ops = open(global, false).await?;
    let Some(subscription) = args.subscription else {
        let id = args.notification.unwrap_or_default().parse()?;
        let why = match ops.replay(&Caller::Operator, id).await? {
            Replay::Due => {
                return out.result(&serde_json::json!({ "id": id.to_string(), "replayed": 1 }), || {
                    format!("{id} is due again")
                });
            }
            why => why,
        };
        anyhow::bail!("{id} was not changed: {why}");
    };
    let count = ops.replay_dead(&subscription).await?;
    let json = serde_json::json!({ "subscription": subscription, "replayed": count });
    out.result(&json, || match count {
        1 => "1 dead notification is due again".to_owned(),
        count => format!("{count} dead notifications are due again"),
    })
}
