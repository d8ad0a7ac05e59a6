//! `serve`: the app, until a signal ends it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use filebell::app::{App, open_ops};
use filebell::beneath::keep_apart;
use filebell::config::Config;
use filebell::ops::{AccountRequest, OpsError, ProtocolRequest, SubscriptionRequest, generate_key};
use filebell::seams::Seams;
use filebell_core::endpoint::EndpointUrl;
use filebell_core::filter::FilterText;
use filebell_core::secret::Secret;
use filebell_core::subscription::ProtocolKind;
use ipnet::IpNet;
use tokio::signal::unix::{Signal, SignalKind, signal};
use url::Host;

use super::output::{Output, say};
use super::{Global, Usage, secret_from};

/// The subscription that `--notify` makes.
const NOTIFY: &str = "notify";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Where to listen; port 0 takes any that is free [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Base of every URL handed out [default: from --listen]
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// PostgreSQL instead of the embedded store
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// The file that holds the operator's token [default: one is made in the data directory]
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<String>,
    /// Without a configuration file: the one directory to watch
    #[arg(long, value_name = "DIR", requires = "notify")]
    watch: Option<PathBuf>,
    /// Without a configuration file: the one webhook to tell, by Standard Webhooks
    #[arg(long, value_name = "URL", requires = "watch")]
    notify: Option<EndpointUrl>,
}

const EXAMPLES: &str = "\
Prints one line `listening on http://HOST:PORT` on stdout when it is ready. SIGTERM ends it when what is under way has
come to its end; kill -9 loses nothing.

With --watch the account is named after the directory; FILEBELL_PASSWORD gives it a password, with which its files can
be downloaded.

Examples:
  filebell serve --config /etc/filebell.toml
  filebell serve --watch /srv/inbox --notify https://app.example.org/hook
  FILEBELL_WATCH_SETTLE=5s filebell serve --config filebell.toml --listen 0.0.0.0:8080";

pub(super) async fn run(args: Args, global: &Global, out: &Output) -> anyhow::Result<()> {
    let mut stop = Stop::new()?;
    let flags = vec![
        ("listen", args.listen),
        ("public_url", args.public_url),
        ("database_url", args.database_url),
        ("admin_token_file", args.admin_token_file),
    ];
    let mut config = global.load(flags, true)?;
    let quick = match args.watch.zip(args.notify) {
        Some((root, url)) if global.config.is_none() => Some(watch_and_notify(&mut config, &root, url).await?),
        Some(_) => {
            let what = "--watch and --notify are for running without a configuration file; declare the account and \
                        the subscription in the file instead";
            return Err(Usage(what.to_owned()).into());
        }
        None => None,
    };
    let data_dir = config.data_dir.clone();
    let app = tokio::select! {
        app = App::start(config, Seams::real()) => app?,
        () = stop.asked() => return Ok(()),
    };
    let address = app.address();
    if let Some(quick) = quick {
        quick.explain(app.ops().public_url(), &data_dir);
    }
    out.line(&format!("listening on http://{address}"))?;
    stop.asked().await;
    tracing::info!("stopping");
    tokio::select! {
        () = app.stop() => Ok(()),
        () = stop.asked() => anyhow::bail!("stopped at once, as asked twice; what is owed is told after the next start"),
    }
}

/// The signals that end the program.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    pub(super) fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be received");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits for the next of them.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
        }
    }
}

/// What `--watch` and `--notify` set up.
struct Quick {
    account: String,
    url: EndpointUrl,
    /// Only when it was made now: it is shown once.
    new_key: Option<Secret>,
}

/// One account, one subscription. A key that was made at an earlier start is kept.
async fn watch_and_notify(config: &mut Config, root: &Path, url: EndpointUrl) -> anyhow::Result<Quick> {
    if !root.is_dir() {
        return Err(
            Usage(format!("--watch {}: there is no such directory; make it first (mkdir -p)", root.display())).into()
        );
    }
    keep_apart(root, &config.data_dir).map_err(|error| Usage(format!("--watch {}: {error}", root.display())))?;
    allow(config, &url)?;
    let account = account_name(&std::fs::canonicalize(root)?);
    let ops = open_ops(&config.data_dir, None, config.sagex3.clone(), Seams::real()).await?;
    let (key, is_new) = match ops.subscription(NOTIFY).await {
        Ok(known) => (known.key, false),
        Err(OpsError::NotFound(_)) => (generate_key(ProtocolKind::Standard)?, true),
        Err(error) => return Err(error.into()),
    };
    config.accounts.push(AccountRequest {
        name: account.clone(),
        password: secret_from(None, "FILEBELL_PASSWORD")?,
        root: Some(root.to_owned()),
        customer_url: String::new(),
        customer_id: String::new(),
        customer_code: String::new(),
        quota_bytes: None,
        managed: false,
    });
    config.subscriptions.push(SubscriptionRequest {
        name: NOTIFY.to_owned(),
        account: account.clone(),
        protocol: ProtocolRequest::Standard,
        url: url.to_string(),
        key: Some(key.clone()),
        min_interval: std::time::Duration::ZERO,
        filter: FilterText::default(),
        managed: false,
    });
    Ok(Quick { account, url, new_key: is_new.then_some(key) })
}

/// Who types an address of this machine or a bare address means it: that, and no more, is allowed.
fn allow(config: &mut Config, url: &EndpointUrl) -> anyhow::Result<()> {
    let network = match url.url().host() {
        Some(Host::Ipv4(address)) => vec![IpNet::from(IpAddr::from(address))],
        Some(Host::Ipv6(address)) => vec![IpNet::from(IpAddr::from(address))],
        Some(Host::Domain("localhost")) => vec!["127.0.0.0/8".parse()?, "::1/128".parse()?],
        _ => Vec::new(),
    };
    let reachable = !network.is_empty() || config.egress.allow_http || !config.egress.allow_networks.is_empty();
    if url.url().scheme() == "http" && !reachable {
        let what = format!(
            "--notify {url}: http:// to another machine can be read on the way; write https://, or set \
             FILEBELL_EGRESS_ALLOW_HTTP=true"
        );
        return Err(Usage(what).into());
    }
    config.egress.allow_networks.extend(network);
    Ok(())
}

/// The directory's name, with `-` for what cannot stand in a name.
fn account_name(root: &Path) -> String {
    let name = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._@-".contains(c) { c } else { '-' };
    let name: String = name.chars().map(plain).skip_while(|c| !c.is_ascii_alphanumeric()).take(64).collect();
    if name.is_empty() { "inbox".to_owned() } else { name }
}

impl Quick {
    /// Says what to do with the key, once.
    fn explain(&self, server: &str, data_dir: &Path) {
        let Some(key) = &self.new_key else { return };
        let (account, url, key, data_dir) = (&self.account, &self.url, key.expose(), data_dir.display());
        let bind = match (url.url().host_str(), url.url().port_or_known_default()) {
            (Some("localhost" | "127.0.0.1"), Some(port)) => format!("127.0.0.1:{port}"),
            _ => "127.0.0.1:9000".to_owned(),
        };
        say(&format!(
            "Files that arrive in account `{account}` are told to {url} by Standard Webhooks.\n\
             The key, shown only now:\n\n    {key}\n\n\
             Verify each notification with it, by any Standard Webhooks library. Or try the receiver that comes with \
             filebell:\n\n    FILEBELL_KEY={key} filebell listen --protocol standard --bind {bind} \\\n        \
             --server {server} --account {account} --access-token-file {data_dir}/admin-token --into received\n"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_gives_its_account_a_name() {
        for (root, name) in [("/srv/inbox", "inbox"), ("/srv/My Files!", "My-Files-"), ("/", "inbox"), ("/a/.x", "x")] {
            assert_eq!(account_name(Path::new(root)), name, "{root}");
        }
    }
}
