//! `listen`: a whole receiving application, built on the client crate as anybody would.

mod fetch;
mod progress;
mod receiver;
mod state;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use filebell::config::parse_duration;
use filebell_client::pull::{Http, NextcloudClient};
use filebell_client::verify::StandardKey;
use filebell_core::secret::Secret;
use filebell_core::subscription::ProtocolKind;
use filebell_core::wire::nextcloud::common_key;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::output::Output;
use super::serve::Stop;
use super::{Usage, secret_from};
use fetch::{Puller, Side, Token};
pub(super) use receiver::Receiver;
use state::State;

/// How long one call to the server may take, and each wait for more bytes of a download.
const CALL_WITHIN: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// Which notifications come: nextcloud, sagex3 or standard
    #[arg(long, value_name = "PROTOCOL")]
    protocol: ProtocolKind,
    /// Where notifications come in; port 0 takes any that is free
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    bind: String,
    /// Base URL of the server to pull from
    #[arg(long, value_name = "URL")]
    server: String,
    /// The directory to download into; what was done is remembered there
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// The key: common key (nextcloud), client id (sagex3), whsec_... (standard); better by FILEBELL_KEY or --key-file
    #[arg(long, value_name = "KEY", conflicts_with = "key_file")]
    key: Option<String>,
    /// Read the key from this file
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// nextcloud, standard: whose files
    #[arg(long, value_name = "NAME", required_if_eq_any = [("protocol", "nextcloud"), ("protocol", "standard")])]
    account: Option<String>,
    /// nextcloud, standard: read the account's password from this file; or FILEBELL_PASSWORD
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// sagex3, standard: read the access token from this file at each pull; or FILEBELL_ACCESS_TOKEN
    #[arg(long, value_name = "FILE")]
    access_token_file: Option<PathBuf>,
    /// sagex3: delete a file on the server when it is safe here
    #[arg(long)]
    delete: bool,
    /// End after one notification and its pull
    #[arg(long, conflicts_with = "count")]
    once: bool,
    /// End after so many notifications and their pull
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Look without being told, so often
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "60s")]
    poll: Duration,
}

const HELP: &str = "\
Every notification is verified (401 if its signature is wrong), then everything new is pulled: at the start, when a
notification comes, and every --poll. Files get their name when they are whole. After a restart it goes on where it was.
With --json each step is a line of JSON. By standard, files are downloaded with the account's password if there is one,
else with the access token.

Examples:
  FILEBELL_KEY=4fdab23178d6c424 FILEBELL_PASSWORD=secret filebell listen --protocol nextcloud \\
      --server https://files.example.org --account test2 --into inbox
  filebell token --application ledger --account test2 | jq -r .access_token > token
  FILEBELL_KEY=<client id> filebell listen --protocol sagex3 --server https://files.example.org \\
      --access-token-file token --into inbox --delete
  FILEBELL_KEY=whsec_... filebell listen --protocol standard --server http://127.0.0.1:8080 --account test2 \\
      --access-token-file filebell-data/admin-token --into inbox";

/// What is said of a file that need not be fetched.
const HERE: &str = "it is here already";

/// What a receiver does, step by step.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Listening {
        address: SocketAddr,
    },
    Notified {
        at: Instant,
        headers: Vec<(String, String)>,
        body: String,
    },
    Refused {
        why: String,
    },
    Pulled {
        new: usize,
    },
    Event {
        kind: String,
        path: String,
    },
    Downloaded {
        path: PathBuf,
        size: u64,
        sha256: String,
        resumed_at: u64,
    },
    Deleted {
        what: String,
    },
    Skipped {
        what: String,
        why: String,
    },
    /// Skipped, because a pull before has brought it.
    Here {
        what: String,
    },
    Failed {
        why: String,
    },
}

/// What a receiver needs to know; the key and the rest as text.
pub(super) struct Setup {
    pub(super) protocol: ProtocolKind,
    pub(super) server: String,
    pub(super) into: PathBuf,
    pub(super) key: Secret,
    pub(super) account: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) token: Option<AccessToken>,
    pub(super) delete: bool,
    pub(super) poll: Duration,
}

/// Where the access token comes from.
pub(super) enum AccessToken {
    Text(Secret),
    File(PathBuf),
}

pub(super) async fn run(args: Args, out: &Output) -> anyhow::Result<()> {
    let mut stop = Stop::new()?;
    let count = args.count.or(args.once.then_some(1));
    let bind = args.bind.clone();
    let setup = args.setup()?;
    let listener = TcpListener::bind(&bind).await;
    let listener = listener.with_context(|| format!("cannot listen on {bind}: choose another with --bind"))?;
    let (receiver, mut steps) = setup.start(listener)?;
    loop {
        tokio::select! {
            // The steps first, so that none is left unsaid at the end.
            biased;
            Some(step) = steps.recv() => out.result(&step.to_json(), || step.to_text())?,
            () = receiver.done(count.unwrap_or(u64::MAX)) => return Ok(()),
            () = stop.asked() => return Ok(()),
        }
    }
}

impl Args {
    fn setup(self) -> anyhow::Result<Setup> {
        let key = match self.key {
            Some(key) => Some(Secret::new(key)),
            None => secret_from(self.key_file.as_ref(), "FILEBELL_KEY")?,
        };
        let Some(key) = key else {
            return Err(Usage("the key is missing: give it by FILEBELL_KEY or --key-file".to_owned()).into());
        };
        let token = match self.access_token_file {
            Some(file) => Some(AccessToken::File(file)),
            None => secret_from(None, "FILEBELL_ACCESS_TOKEN")?.map(AccessToken::Text),
        };
        Ok(Setup {
            protocol: self.protocol,
            server: self.server,
            into: self.into,
            key,
            account: self.account,
            password: secret_from(self.password_file.as_ref(), "FILEBELL_PASSWORD")?,
            token,
            delete: self.delete,
            poll: self.poll,
        })
    }
}

impl Setup {
    /// Starts a receiver on a listener; its steps come out of the channel.
    pub(super) fn start(self, listener: TcpListener) -> anyhow::Result<(Receiver, UnboundedReceiver<Step>)> {
        let http = Http::new(CALL_WITHIN)?;
        let missing = |what: &str| Usage(format!("--protocol {} needs {what}", self.protocol));
        let account = self.account.clone().unwrap_or_default();
        let server = self.server.trim_end_matches('/').to_owned();
        let files = |password: &Secret| NextcloudClient::new(http.clone(), &server, &account, password.clone());
        let token = self.token.map(|token| match token {
            AccessToken::Text(token) => Token::Text(token),
            AccessToken::File(file) => Token::File(file),
        });
        let token = token.ok_or_else(|| missing("an access token: FILEBELL_ACCESS_TOKEN or --access-token-file"));
        let side = match self.protocol {
            ProtocolKind::Nextcloud => {
                let password = self.password.as_ref();
                let password = password.ok_or_else(|| missing("a password: FILEBELL_PASSWORD or --password-file"))?;
                let key = common_key(self.key.expose()).map_err(|error| Usage(format!("the key: {error}")))?;
                Side::Nextcloud { key, client: files(password)? }
            }
            ProtocolKind::SageX3 => {
                let endpoint = if server.ends_with("/v1") { server.clone() } else { format!("{server}/v1") };
                Side::SageX3 { client_id: self.key, endpoint, token: token?, delete: self.delete }
            }
            ProtocolKind::Standard => {
                let key = StandardKey::parse(&self.key).map_err(|error| Usage(format!("the key: {error}")))?;
                let files = self.password.as_ref().map(files).transpose()?;
                Side::Standard { key, server: server.clone(), account: account.clone(), token: token?, files }
            }
        };
        let state = State::open(&self.into, self.protocol.as_str(), &server, &account)?;
        let (said, steps) = unbounded_channel();
        let puller =
            Puller { side, http, into: self.into, state: Mutex::new(state), steps: said, here: Mutex::default() };
        Ok((Receiver::start(listener, puller, self.poll)?, steps))
    }
}

impl Step {
    fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Listening { address } => json!({ "step": "listening", "url": format!("http://{address}") }),
            Self::Notified { headers, body, .. } => {
                let headers: serde_json::Map<_, _> =
                    headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
                json!({ "step": "notified", "headers": headers, "body": body })
            }
            Self::Refused { why } => json!({ "step": "refused", "why": why }),
            Self::Pulled { new } => json!({ "step": "pulled", "new": new }),
            Self::Event { kind, path } => json!({ "step": "event", "kind": kind, "path": path }),
            Self::Downloaded { path, size, sha256, resumed_at } => json!({
                "step": "downloaded", "path": path.to_string_lossy(), "size": size, "sha256": sha256,
                "resumed_at": resumed_at,
            }),
            Self::Deleted { what } => json!({ "step": "deleted", "what": what }),
            Self::Skipped { what, why } => json!({ "step": "skipped", "what": what, "why": why }),
            Self::Here { what } => json!({ "step": "skipped", "what": what, "why": HERE }),
            Self::Failed { why } => json!({ "step": "failed", "why": why }),
        }
    }

    /// For a person. Names come from the server: what could steer a terminal is escaped.
    pub(super) fn to_text(&self) -> String {
        let plain = |text: &str| text.escape_debug().to_string();
        match self {
            Self::Listening { address } => format!("listening on http://{address}"),
            Self::Notified { body, .. } => format!("notification verified: {}", body.replace(char::is_control, "?")),
            Self::Refused { why } => format!("notification refused: {}", plain(why)),
            Self::Pulled { new: 0 } => "pulled: nothing new".to_owned(),
            Self::Pulled { new } => format!("pulled: {new} new"),
            Self::Event { kind, path } => format!("{} {}", plain(kind), plain(path)),
            Self::Downloaded { path, size, sha256, resumed_at } => {
                let resumed = if *resumed_at > 0 { format!(", resumed at {resumed_at}") } else { String::new() };
                format!("downloaded {} ({size} bytes{resumed}) sha256 {sha256}", plain(&path.to_string_lossy()))
            }
            Self::Deleted { what } => format!("deleted {} on the server", plain(what)),
            Self::Skipped { what, why } => format!("skipped {}: {}", plain(what), plain(why)),
            Self::Here { what } => format!("skipped {}: {HERE}", plain(what)),
            Self::Failed { why } => format!("failed, will try again: {}", plain(why)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::Step;

    #[test]
    fn a_file_that_is_here_already_is_said_to_be_skipped() {
        let step = Step::Here { what: "SEED/hello.txt".to_owned() };
        assert_eq!(step.to_text(), "skipped SEED/hello.txt: it is here already");
        let json = r#"{"step":"skipped","what":"SEED/hello.txt","why":"it is here already"}"#;
        assert_eq!(step.to_json(), serde_json::from_str::<serde_json::Value>(json).unwrap());
    }
}
