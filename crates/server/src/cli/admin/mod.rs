//! Who is who, from the command line: straight on the store in the data directory, also while a server runs on it.

mod account;
mod application;
mod subscription;

use anyhow::Context as _;
use clap::Args;
use filebell::app::open_ops;
use filebell::ops::{Ops, OpsError};
use filebell::seams::Seams;
use filebell_core::secret::Secret;

pub(super) use account::{AccountCommand, account};
pub(super) use application::{ApplicationCommand, KeysCommand, TokenArgs, application, keys, token};
pub(super) use subscription::{ReplayArgs, SubscriptionCommand, replay, subscription};

use super::output::Output;
use super::{Global, Usage, must_exist};

#[derive(Args)]
pub(super) struct Named {
    /// Its name
    name: String,
}

fn secret_from_stdin() -> anyhow::Result<Secret> {
    let text = std::io::read_to_string(std::io::stdin()).context("stdin cannot be read")?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() { Err(Usage("nothing came on stdin".to_owned()).into()) } else { Ok(Secret::new(text)) }
}

/// Opens the store. To look or to take away there must be one already; a mistyped directory is not made.
async fn open(global: &Global, to_add: bool) -> anyhow::Result<Ops> {
    let config = global.load(Vec::new(), false)?;
    if !to_add {
        must_exist(&config)?;
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

/// One line for each field that says something.
fn fields(fields: &[(&str, &str)]) -> String {
    let said = fields.iter().filter(|(_, text)| !text.is_empty());
    said.map(|(name, text)| format!("{name:<15}{text}")).collect::<Vec<_>>().join("\n")
}

fn declared(managed: bool) -> String {
    if managed { "file" } else { "-" }.to_owned()
}

fn removed(out: &Output, what: &str, name: &str) -> anyhow::Result<()> {
    out.result(&serde_json::json!({ "removed": name }), || format!("removed {what} {name}"))
}
