//! Accounts and their app passwords.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use filebell::config::{parse_size, size_text};
use filebell::ops::{Account, AccountRequest, Ops, OpsError};
use filebell_core::secret::Secret;
use serde::Serialize;

use super::super::output::Output;
use super::super::{Global, Usage, secret_from};
use super::{Named, declared, fields, must_be_new, open, removed, secret_from_stdin};

#[derive(Subcommand)]
pub(in crate::cli) enum AccountCommand {
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
pub(in crate::cli) enum AppPasswordCommand {
    /// Make a password; it is shown this once
    Add(AppPassword),
    /// List an account's app passwords
    List(Named),
    /// Revoke a password
    Remove(AppPassword),
}

#[derive(Args)]
pub(in crate::cli) struct AppPassword {
    /// The account's name
    account: String,
    /// What the password is for, such as `laptop`
    name: String,
}

#[derive(Args)]
pub(in crate::cli) struct AccountAdd {
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
pub(in crate::cli) struct AccountPassword {
    /// The account's name
    name: String,
    #[command(flatten)]
    password: PasswordFrom,
}

#[derive(Args)]
pub(in crate::cli) struct AccountQuota {
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

pub(in crate::cli) async fn account(command: AccountCommand, global: &Global, out: &Output) -> anyhow::Result<()> {
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
