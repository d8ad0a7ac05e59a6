//! Who is who, from the command line: straight on the store in the data directory, also while a server runs on it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use filebell::app::open_ops;
use filebell::config::{SCOPE_DEFAULT, parse_duration, parse_size, size_text};
use filebell::ops::{
    Account, AccountRequest, Application, ApplicationRequest, Caller, GrantRequest, Ops, OpsError, ProtocolRequest,
    Replay, SubscriptionRequest,
};
use filebell::seams::Seams;
use filebell_core::filter::FilterText;
use filebell_core::id::{AccountId, ApplicationId};
use filebell_core::secret::Secret;
use filebell_core::subscription::{Protocol, SignatureEncoding, Subscription, SubscriptionStatus};
use serde::Serialize;

use super::output::Output;
use super::{Global, Usage, secret_from};

/// A Nextcloud connection rings at most so often if nothing else is said.
const NEXTCLOUD_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Subcommand)]
pub(super) enum AccountCommand {
    /// Add an account
    #[command(after_help = "\
The password is read from a file, from stdin, or from FILEBELL_PASSWORD; never from the command line, which everybody
on the machine can read. Without one the account cannot log in.

Examples:
  filebell account add test2 --root /srv/files/test2 --password-file test2.password
  FILEBELL_PASSWORD=secret filebell account add test2 --root /srv/files/test2")]
    Add(AccountAdd),
    /// Give an account another password
    Password(AccountPassword),
    /// Let an account hold so much, or as much as it likes; what it holds already stays
    #[command(after_help = "\
Examples:
  filebell account quota test2 10GiB
  filebell account quota test2 none")]
    Quota(AccountQuota),
    /// Make, list and revoke passwords for single clients of an account
    #[command(subcommand)]
    AppPassword(AppPasswordCommand),
    /// List accounts
    List,
    /// Show an account
    Show(Named),
    /// Remove an account with all that filebell knows of it; its files stay
    Remove(Named),
}

#[derive(Subcommand)]
pub(super) enum AppPasswordCommand {
    /// Make a password; it is shown this once
    Add(AppPassword),
    /// List an account's app passwords
    List(Named),
    /// Revoke a password
    Remove(AppPassword),
}

#[derive(Args)]
pub(super) struct AppPassword {
    /// The account's name
    account: String,
    /// What the password is for, such as `laptop`
    name: String,
}

#[derive(Args)]
pub(super) struct Named {
    /// Its name
    name: String,
}

#[derive(Args)]
pub(super) struct AccountAdd {
    /// Its name: letters, digits and . _ @ -
    name: String,
    /// The directory its files lie in
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    #[command(flatten)]
    password: PasswordFrom,
    /// Sage X3: base URL of the customer's X3
    #[arg(long, value_name = "URL", default_value = "")]
    customer_url: String,
    /// Sage X3: the customer's id
    #[arg(long, value_name = "ID", default_value = "")]
    customer_id: String,
    /// Sage X3: a short readable code
    #[arg(long, value_name = "CODE", default_value = "")]
    customer_code: String,
    /// How much it may hold, such as `10GiB` [default: as much as it likes]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    quota: Option<u64>,
}

#[derive(Args)]
pub(super) struct AccountPassword {
    /// The account's name
    name: String,
    #[command(flatten)]
    password: PasswordFrom,
}

#[derive(Args)]
pub(super) struct AccountQuota {
    /// The account's name
    name: String,
    /// A size such as `10GiB`, or `none`
    #[arg(value_parser = parse_quota)]
    quota: Quota,
}

/// What an account may hold.
#[derive(Clone, Copy)]
struct Quota(Option<u64>);

fn parse_quota(text: &str) -> Result<Quota, filebell::config::NotASize> {
    if text == "none" { Ok(Quota(None)) } else { parse_size(text).map(|bytes| Quota(Some(bytes))) }
}

#[derive(Args)]
struct PasswordFrom {
    /// Read the password from this file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Read the password from stdin
    #[arg(long, conflicts_with = "password_file")]
    password_stdin: bool,
}

impl PasswordFrom {
    fn read(&self) -> anyhow::Result<Option<Secret>> {
        match self.password_stdin {
            true => Ok(Some(secret_from_stdin()?)),
            false => secret_from(self.password_file.as_ref(), "FILEBELL_PASSWORD"),
        }
    }
}

fn secret_from_stdin() -> anyhow::Result<Secret> {
    let text = std::io::read_to_string(std::io::stdin()).context("stdin cannot be read")?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() { Err(Usage("nothing came on stdin".to_owned()).into()) } else { Ok(Secret::new(text)) }
}

/// Opens the store. To look or to take away there must be one already; a mistyped directory is not made.
async fn open(global: &Global, to_add: bool) -> anyhow::Result<Ops> {
    let config = global.load(Vec::new(), false)?;
    if !to_add && !config.data_dir.exists() {
        let data_dir = config.data_dir.display();
        anyhow::bail!("there is no data directory {data_dir}: give the server's by --data-dir or --config");
    }
    Ok(open_ops(&config.data_dir, config.public_url, config.sagex3, Seams::real()).await?)
}

/// `add` makes, it does not change.
fn must_be_new<T>(found: Result<T, OpsError>, what: String) -> Result<(), OpsError> {
    match found {
        Ok(_) => Err(OpsError::Exists(what)),
        Err(OpsError::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

#[derive(Serialize)]
struct AccountView {
    name: String,
    root: Option<String>,
    has_password: bool,
    customer_url: String,
    customer_id: String,
    customer_code: String,
    used_bytes: u64,
    quota_bytes: Option<u64>,
    managed: bool,
}

impl AccountView {
    async fn new(ops: &Ops, account: &Account) -> Result<Self, OpsError> {
        let usage = ops.usage(account).await?;
        Ok(Self {
            name: account.name.clone(),
            root: account.root.as_ref().map(|root| root.display().to_string()),
            has_password: account.password_hash.is_some(),
            customer_url: account.customer_url.clone(),
            customer_id: account.customer_id.clone(),
            customer_code: account.customer_code.clone(),
            used_bytes: usage.used,
            quota_bytes: usage.quota,
            managed: account.managed,
        })
    }

    fn quota(&self) -> String {
        self.quota_bytes.map_or_else(|| "none".to_owned(), size_text)
    }

    fn fields(&self) -> String {
        fields(&[
            ("account", &self.name),
            ("root", self.root.as_deref().unwrap_or("none")),
            ("password", if self.has_password { "set" } else { "none: it cannot log in" }),
            ("used", &size_text(self.used_bytes)),
            ("quota", &self.quota()),
            ("customer url", &self.customer_url),
            ("customer id", &self.customer_id),
            ("customer code", &self.customer_code),
            ("declared in", if self.managed { "the configuration file" } else { "" }),
        ])
    }
}

/// One line for each field that says something.
fn fields(fields: &[(&str, &str)]) -> String {
    let said = fields.iter().filter(|(_, text)| !text.is_empty());
    said.map(|(name, text)| format!("{name:<15}{text}")).collect::<Vec<_>>().join("\n")
}

pub(super) async fn account(command: AccountCommand, global: &Global, out: &Output) -> anyhow::Result<()> {
    let ops = open(global, matches!(command, AccountCommand::Add(_))).await?;
    match command {
        AccountCommand::Add(args) => {
            must_be_new(ops.account(&args.name).await, format!("account `{}`", args.name))?;
            let account = ops.write_account(AccountRequest {
                password: args.password.read()?,
                name: args.name,
                root: args.root,
                customer_url: args.customer_url,
                customer_id: args.customer_id,
                customer_code: args.customer_code,
                quota_bytes: args.quota,
                managed: false,
            });
            let view = AccountView::new(&ops, &account.await?).await?;
            out.result(&view, || view.fields())
        }
        AccountCommand::Password(args) => {
            let account = ops.account(&args.name).await?;
            if account.managed {
                return Err(OpsError::Managed(format!("account `{}`", args.name)).into());
            }
            let Some(password) = args.password.read()? else {
                let what = "give the new password by --password-file, --password-stdin or FILEBELL_PASSWORD";
                return Err(Usage(what.to_owned()).into());
            };
            let account = ops.write_account(AccountRequest {
                name: account.name,
                password: Some(password),
                root: account.root,
                customer_url: account.customer_url,
                customer_id: account.customer_id,
                customer_code: account.customer_code,
                quota_bytes: None,
                managed: false,
            });
            let view = AccountView::new(&ops, &account.await?).await?;
            out.result(&view, || view.fields())
        }
        AccountCommand::Quota(args) => {
            ops.set_quota(&args.name, args.quota.0).await?;
            let view = AccountView::new(&ops, &ops.account(&args.name).await?).await?;
            out.result(&view, || view.fields())
        }
        AccountCommand::AppPassword(command) => app_password(&ops, out, command).await,
        AccountCommand::List => {
            let mut views = Vec::new();
            for account in ops.accounts().await? {
                views.push(AccountView::new(&ops, &account).await?);
            }
            out.rows(["NAME", "ROOT", "PASSWORD", "CUSTOMER", "USED", "QUOTA", "DECLARED"], &views, |view| {
                [
                    view.name.clone(),
                    view.root.clone().unwrap_or_else(|| "-".to_owned()),
                    if view.has_password { "yes" } else { "no" }.to_owned(),
                    if view.customer_code.is_empty() { "-".to_owned() } else { view.customer_code.clone() },
                    size_text(view.used_bytes),
                    view.quota(),
                    declared(view.managed),
                ]
            })
        }
        AccountCommand::Show(Named { name }) => {
            let view = AccountView::new(&ops, &ops.account(&name).await?).await?;
            out.result(&view, || view.fields())
        }
        AccountCommand::Remove(Named { name }) => {
            ops.remove_account(&name).await?;
            removed(out, "account", &name)
        }
    }
}

async fn app_password(ops: &Ops, out: &Output, command: AppPasswordCommand) -> anyhow::Result<()> {
    match command {
        AppPasswordCommand::Add(AppPassword { account, name }) => {
            let password = ops.add_app_password(&account, &name).await?;
            let shown = serde_json::json!({ "account": account, "name": name, "password": password.expose() });
            out.result(&shown, || format!("password  {}\nIt is shown this once.", password.expose()))
        }
        AppPasswordCommand::List(Named { name }) => {
            let views: Vec<AppPasswordView> =
                ops.app_passwords(&name).await?.into_iter().map(AppPasswordView::new).collect();
            out.rows(["NAME", "MADE", "LAST USED"], &views, |view| {
                [view.name.clone(), view.made.clone(), view.last_used.clone().unwrap_or_else(|| "never".to_owned())]
            })
        }
        AppPasswordCommand::Remove(AppPassword { account, name }) => {
            ops.remove_app_password(&account, &name).await?;
            removed(out, "app password", &name)
        }
    }
}

#[derive(Serialize)]
struct AppPasswordView {
    name: String,
    made: String,
    last_used: Option<String>,
}

impl AppPasswordView {
    fn new(password: filebell::ops::AppPassword) -> Self {
        let last_used = password.last_used_at.map(|at| at.to_string());
        Self { name: password.name, made: password.created_at.to_string(), last_used }
    }
}

fn declared(managed: bool) -> String {
    if managed { "file" } else { "-" }.to_owned()
}

fn removed(out: &Output, what: &str, name: &str) -> anyhow::Result<()> {
    out.result(&serde_json::json!({ "removed": name }), || format!("removed {what} {name}"))
}

#[derive(Subcommand)]
pub(super) enum ApplicationCommand {
    /// Add an application; its client secret is shown only now
    Add(ApplicationAdd),
    /// Let an application see folders of an account; with a notification URL it is told of them from now on
    Grant(ApplicationGrant),
    /// List applications
    List,
    /// Show an application and its grants
    Show(Named),
    /// Remove an application with its grants and tokens
    Remove(Named),
    /// Give an application a new secret, shown only now; the old one counts a while longer
    RotateSecret(ApplicationRotate),
    /// Refuse an application everywhere, and tell it nothing; what it is owed is kept
    Disable(Named),
    /// Take an application up again
    Enable(Named),
    /// Take an account's grant back: its tokens end at once, and what is pending for it
    Revoke(ApplicationRevoke),
}

#[derive(Args)]
pub(super) struct ApplicationRotate {
    /// The application's name
    name: String,
    /// How long the old secret still counts
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "24h")]
    overlap: Duration,
}

#[derive(Args)]
pub(super) struct ApplicationRevoke {
    /// The application's name
    name: String,
    /// The account's name
    #[arg(long, value_name = "NAME")]
    account: String,
}

#[derive(Subcommand)]
pub(super) enum KeysCommand {
    /// Sign tokens with a new key from now on; the old ones verify until their tokens have ended
    Rotate,
}

pub(super) async fn keys(command: KeysCommand, global: &Global, out: &Output) -> anyhow::Result<()> {
    let ops = open(global, false).await?;
    match command {
        KeysCommand::Rotate => {
            let kid = ops.rotate_keys().await?;
            out.result(&serde_json::json!({ "kid": kid }), || {
                format!("tokens are signed with the key {kid} from now on")
            })
        }
    }
}

#[derive(Args)]
pub(super) struct ApplicationAdd {
    /// Its name
    name: String,
    /// Where it is told
    #[arg(long, value_name = "URL")]
    notification_url: Option<String>,
    /// Where a pairing may return to; may be given several times
    #[arg(long = "redirect-url", value_name = "URL")]
    redirect_urls: Vec<String>,
    /// Its public id [default: a fresh UUID]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Read its secret from this file [default: a fresh one]
    #[arg(long, value_name = "FILE")]
    client_secret_file: Option<PathBuf>,
    /// How its signatures are written: hex or base64
    #[arg(long, value_name = "ENCODING", default_value = "hex")]
    signature_encoding: SignatureEncoding,
}

#[derive(Args)]
pub(super) struct ApplicationGrant {
    /// The application's name
    name: String,
    /// The account's name
    #[arg(long, value_name = "NAME")]
    account: String,
    /// A top-level directory it may see; may be given several times
    #[arg(long = "folder", value_name = "FOLDER", required = true)]
    folders: Vec<String>,
    /// What it may do; may be given several times
    #[arg(long = "scope", value_name = "SCOPE", default_value = SCOPE_DEFAULT)]
    scopes: Vec<String>,
}

#[derive(Serialize)]
struct ApplicationView {
    name: String,
    client_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
    notification_url: Option<String>,
    redirect_urls: Vec<String>,
    signature_encoding: String,
    grants: Vec<GrantView>,
    disabled: bool,
    managed: bool,
}

#[derive(Clone, Serialize)]
struct GrantView {
    account: String,
    folders: Vec<String>,
    scopes: Vec<String>,
}

impl ApplicationView {
    fn new(application: &Application, secret: Option<&Secret>, grants: Vec<GrantView>) -> Self {
        Self {
            name: application.name.clone(),
            client_id: application.client_id.clone(),
            client_secret: secret.map(|secret| secret.expose().to_owned()),
            notification_url: application.notification_url.clone(),
            redirect_urls: application.redirect_urls.clone(),
            signature_encoding: application.signature_encoding.clone(),
            grants,
            disabled: application.disabled,
            managed: application.managed,
        }
    }

    fn fields(&self) -> String {
        let secret = self.client_secret.as_ref().map(|secret| format!("{secret}  (shown only now)"));
        let granted = |grant: &GrantView| format!("{} ({})", grant.account, grant.folders.join(", "));
        fields(&[
            ("application", &self.name),
            ("client id", &self.client_id),
            ("client secret", secret.as_deref().unwrap_or_default()),
            ("told at", self.notification_url.as_deref().unwrap_or("nowhere: it has no notification URL")),
            ("redirects", &self.redirect_urls.join(" ")),
            ("signature", &self.signature_encoding),
            ("disabled", if self.disabled { "yes: it is refused, and told nothing" } else { "" }),
            ("granted by", &self.grants.iter().map(granted).collect::<Vec<_>>().join("; ")),
            ("declared in", if self.managed { "the configuration file" } else { "" }),
        ])
    }
}

/// The grants of each application.
async fn grants(ops: &Ops) -> anyhow::Result<HashMap<ApplicationId, Vec<GrantView>>> {
    let accounts: HashMap<AccountId, String> =
        ops.accounts().await?.into_iter().map(|account| (account.id, account.name)).collect();
    let mut grants: HashMap<ApplicationId, Vec<GrantView>> = HashMap::new();
    for grant in ops.grants().await? {
        let account = accounts.get(&grant.account).cloned().unwrap_or_default();
        let view = GrantView { account, folders: grant.folders, scopes: grant.scopes };
        grants.entry(grant.application).or_default().push(view);
    }
    Ok(grants)
}

pub(super) async fn application(command: ApplicationCommand, global: &Global, out: &Output) -> anyhow::Result<()> {
    let ops = open(global, matches!(command, ApplicationCommand::Add(_))).await?;
    match command {
        ApplicationCommand::Add(args) => {
            must_be_new(ops.application(&args.name).await, format!("application `{}`", args.name))?;
            let client_secret = match &args.client_secret_file {
                Some(file) => secret_from(Some(file), "")?,
                None => None,
            };
            let written = ops.write_application(ApplicationRequest {
                name: args.name,
                client_id: args.client_id,
                client_secret,
                redirect_urls: args.redirect_urls,
                notification_url: args.notification_url,
                signature_encoding: args.signature_encoding,
                managed: false,
            });
            let (application, secret) = written.await?;
            let view = ApplicationView::new(&application, secret.as_ref(), Vec::new());
            out.result(&view, || view.fields())
        }
        ApplicationCommand::Grant(args) => {
            let request = GrantRequest {
                application: args.name.clone(),
                account: args.account.clone(),
                folders: args.folders,
                scopes: args.scopes,
            };
            let grant = ops.write_grant(request).await?;
            let view = GrantView { account: args.account, folders: grant.folders, scopes: grant.scopes };
            out.result(&view, || format!("{} granted {} its {}", view.account, args.name, view.folders.join(", ")))
        }
        ApplicationCommand::List => {
            let mut grants = grants(&ops).await?;
            let applications = ops.applications().await?;
            let view = |one: &Application| ApplicationView::new(one, None, grants.remove(&one.id).unwrap_or_default());
            let views: Vec<ApplicationView> = applications.iter().map(view).collect();
            out.rows(["NAME", "CLIENT ID", "TOLD AT", "GRANTED BY", "DECLARED"], &views, |view| {
                let granted: Vec<&str> = view.grants.iter().map(|grant| grant.account.as_str()).collect();
                [
                    view.name.clone(),
                    view.client_id.clone(),
                    view.notification_url.clone().unwrap_or_else(|| "-".to_owned()),
                    if granted.is_empty() { "-".to_owned() } else { granted.join(", ") },
                    declared(view.managed),
                ]
            })
        }
        ApplicationCommand::Show(Named { name }) => {
            let application = ops.application(&name).await?;
            let grants = grants(&ops).await?.remove(&application.id).unwrap_or_default();
            let view = ApplicationView::new(&application, None, grants);
            out.result(&view, || view.fields())
        }
        ApplicationCommand::Remove(Named { name }) => {
            ops.remove_application(&name).await?;
            removed(out, "application", &name)
        }
        ApplicationCommand::RotateSecret(ApplicationRotate { name, overlap }) => {
            let secret = ops.rotate_application_secret(&name, overlap).await?;
            let json = serde_json::json!({ "name": name, "client_secret": secret.expose() });
            out.result(&json, || {
                format!("{}  (shown only now; the old one counts {overlap:?} longer)", secret.expose())
            })
        }
        ApplicationCommand::Disable(Named { name }) => set_disabled(&ops, out, &name, true).await,
        ApplicationCommand::Enable(Named { name }) => set_disabled(&ops, out, &name, false).await,
        ApplicationCommand::Revoke(ApplicationRevoke { name, account }) => {
            ops.revoke_grant(&Caller::Operator, &name, &account).await?;
            let json = serde_json::json!({ "application": name, "revoked": account });
            out.result(&json, || format!("the grant of {account} to {name} is taken back"))
        }
    }
}

async fn set_disabled(ops: &Ops, out: &Output, name: &str, disabled: bool) -> anyhow::Result<()> {
    ops.set_application_disabled(name, disabled).await?;
    let json = serde_json::json!({ "name": name, "disabled": disabled });
    out.result(&json, || format!("application {name} is {}", if disabled { "disabled" } else { "enabled" }))
}

#[derive(Subcommand)]
pub(super) enum SubscriptionCommand {
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
pub(super) struct SubscriptionAdd {
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

pub(super) async fn subscription(command: SubscriptionCommand, global: &Global, out: &Output) -> anyhow::Result<()> {
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
#[command(after_help = "\
Prints JSON: {\"access_token\", \"refresh_token\", \"scope\", \"token_type\", \"expires_in\"}.

Example:
  filebell token --application ledger --account test2")]
pub(super) struct TokenArgs {
    /// The application that will call
    #[arg(long, value_name = "NAME")]
    application: String,
    /// The account that granted it
    #[arg(long, value_name = "NAME")]
    account: String,
    /// How long the access token lives
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "1h")]
    access_for: Duration,
}

#[derive(Serialize)]
struct TokenView<'a> {
    access_token: &'a str,
    refresh_token: &'a str,
    scope: &'a str,
    token_type: &'static str,
    expires_in: u64,
}

pub(super) async fn token(args: TokenArgs, global: &Global, out: &Output) -> anyhow::Result<()> {
    let ops = open(global, false).await?;
    let pair = ops.issue_tokens(&args.application, &args.account, args.access_for).await?;
    let view = TokenView {
        access_token: pair.access.expose(),
        refresh_token: pair.refresh.expose(),
        scope: &pair.scope,
        token_type: "Bearer",
        expires_in: pair.access_for.as_secs(),
    };
    Ok(out.line(&serde_json::to_string(&view)?)?)
}

#[derive(Args)]
pub(super) struct ReplayArgs {
    /// One notification, by its id; also one that was delivered
    #[arg(value_name = "NOTIFICATION-ID", required_unless_present = "subscription", conflicts_with = "subscription")]
    notification: Option<String>,
    /// All dead ones of a subscription, by its name
    #[arg(long, value_name = "NAME")]
    subscription: Option<String>,
}

pub(super) async fn replay(args: ReplayArgs, global: &Global, out: &Output) -> anyhow::Result<()> {
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
