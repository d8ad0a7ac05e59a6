//! Applications, what they are granted, and the keys and tokens they are let in by.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use filebell::config::{SCOPE_DEFAULT, parse_duration};
use filebell::ops::{Application, ApplicationRequest, Caller, GrantRequest, Ops};
use filebell_core::id::{AccountId, ApplicationId};
use filebell_core::secret::Secret;
use filebell_core::subscription::SignatureEncoding;
use serde::Serialize;

use super::super::output::Output;
use super::super::{Global, secret_from};
use super::{Named, declared, fields, must_be_new, open, removed};

#[derive(Subcommand)]
pub(in crate::cli) enum ApplicationCommand {
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
pub(in crate::cli) struct ApplicationRotate {
    /// The application's name
    name: String,
    /// How long the old secret still counts
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "24h")]
    overlap: Duration,
}

#[derive(Args)]
pub(in crate::cli) struct ApplicationRevoke {
    /// The application's name
    name: String,
    /// The account's name
    #[arg(long, value_name = "NAME")]
    account: String,
}

#[derive(Subcommand)]
pub(in crate::cli) enum KeysCommand {
    /// Sign tokens with a new key from now on; the old ones verify until their tokens have ended
    Rotate,
}

pub(in crate::cli) async fn keys(command: KeysCommand, global: &Global, out: &Output) -> anyhow::Result<()> {
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
pub(in crate::cli) struct ApplicationAdd {
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
pub(in crate::cli) struct ApplicationGrant {
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

pub(in crate::cli) async fn application(
    command: ApplicationCommand,
    global: &Global,
    out: &Output,
) -> anyhow::Result<()> {
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

#[derive(Args)]
#[command(after_help = "\
Prints JSON: {\"access_token\", \"refresh_token\", \"scope\", \"token_type\", \"expires_in\"}.

Example:
  filebell token --application ledger --account test2")]
pub(in crate::cli) struct TokenArgs {
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

pub(in crate::cli) async fn token(args: TokenArgs, global: &Global, out: &Output) -> anyhow::Result<()> {
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
