//! `quickstart`: the whole job in one process. A server on temporary folders, a real receiver for each protocol, real
//! files; each step is shown and checked.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use filebell::app::App;
use filebell::config::{Config, Listen, SCOPE_DEFAULT, Sources};
use filebell::ops::{
    AccountRequest, ApplicationRequest, GrantRequest, ProtocolRequest, SubscriptionRequest, generate_admin_token,
    generate_key,
};
use filebell::seams::Seams;
use filebell_core::filter::FilterText;
use filebell_core::secret::Secret;
use filebell_core::subscription::{ProtocolKind, SignatureEncoding};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;

use super::listen::{AccessToken, Receiver, Setup, Step};
use super::output::Output;
use super::serve::Stop;

const ACCOUNT: &str = "demo";
const APPLICATION: &str = "demo-application";
const FOLDER: &str = "SEED";
/// Short, so that the trailing edge is seen soon.
const MIN_INTERVAL: Duration = Duration::from_secs(2);
/// A machine under load takes long; a step that is lost takes for ever.
const ALL_WITHIN: Duration = Duration::from_secs(60);
/// The pause between the pieces of the file that is written slowly.
const BETWEEN_PIECES: Duration = Duration::from_millis(100);
/// Receivers look by themselves so seldom that only notifications explain what they do here.
const POLL: Duration = Duration::from_secs(3600);
/// Clocks of sender and receiver are read apart.
const INTERVAL_SLACK: Duration = Duration::from_millis(100);

#[derive(clap::Args)]
pub(super) struct Args {
    /// End after the last step: exit code 0 if every step succeeded
    #[arg(long)]
    exit: bool,
}

pub(super) async fn run(args: Args, out: &Output) -> anyhow::Result<()> {
    let mut stop = Stop::new()?;
    let directory = tempfile::Builder::new().prefix("filebell-quickstart-").tempdir();
    let directory = directory.context("a temporary directory cannot be made")?;
    let mut stage = Stage::set(directory.path(), out.clone()).await?;
    let shown = stage.show(&mut stop, args.exit).await;
    // Before its directories go.
    stage.app.stop().await;
    shown
}

/// The server and the receivers.
struct Stage {
    out: Output,
    app: App,
    folder: PathBuf,
    receivers: Vec<Listening>,
    waiting_for: String,
}

/// A receiver, and what it has said.
struct Listening {
    protocol: ProtocolKind,
    into: PathBuf,
    steps: UnboundedReceiver<Step>,
    last_told_at: Option<Instant>,
    _receiver: Receiver,
}

/// A file that was dropped.
struct Dropped {
    name: &'static str,
    size: usize,
    sha256: String,
    closed_at: Instant,
}

/// What a receiver said about what was dropped.
struct Told {
    /// When the first notification came.
    at: Option<Instant>,
    notifications: usize,
}

impl Stage {
    async fn set(directory: &Path, out: Output) -> anyhow::Result<Self> {
        let root = directory.join("files");
        let folder = root.join(FOLDER);
        fs::create_dir_all(&folder)?;
        let mut doors = Vec::new();
        for protocol in [ProtocolKind::Nextcloud, ProtocolKind::SageX3, ProtocolKind::Standard] {
            let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen on 127.0.0.1")?;
            doors.push((protocol, listener.local_addr()?, listener));
        }
        let url = |wanted| {
            let address = doors.iter().find(|(protocol, ..)| *protocol == wanted).map(|(_, address, _)| *address);
            format!("http://{}/hook", address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))))
        };
        let secrets = Secrets::make()?;
        let config = config(directory, &root, &secrets, url)?;
        let app = App::start(config, Seams::real()).await?;
        let server = format!("http://{}", app.address());
        out.line(&format!(
            "filebell serves at {server}\naccount `{ACCOUNT}` owns {}\n\
             its folder `{FOLDER}` is told to three receivers, each in its own protocol:",
            root.display()
        ))?;
        let client_id = app.ops().application(APPLICATION).await?.client_id;
        let token = app.ops().issue_tokens(APPLICATION, ACCOUNT, Duration::from_secs(3600)).await?.access;
        let mut receivers = Vec::new();
        for (protocol, address, listener) in doors {
            let (key, token) = match protocol {
                ProtocolKind::Nextcloud => (secrets.nextcloud.clone(), None),
                ProtocolKind::SageX3 => (Secret::new(client_id.clone()), Some(token.clone())),
                ProtocolKind::Standard => (secrets.standard.clone(), Some(secrets.admin.clone())),
            };
            let into = directory.join(format!("received-{protocol}"));
            let setup = Setup {
                protocol,
                server: server.clone(),
                into: into.clone(),
                key,
                account: Some(ACCOUNT.to_owned()),
                password: Some(secrets.password.clone()),
                token: token.map(AccessToken::Text),
                delete: false,
                poll: POLL,
            };
            let (receiver, steps) = setup.start(listener)?;
            let shown = into.display();
            out.line(&format!("  {:<9} at http://{address}, downloads into {shown}", protocol.as_str()))?;
            receivers.push(Listening { protocol, into, steps, last_told_at: None, _receiver: receiver });
        }
        Ok(Self { out, app, folder, receivers, waiting_for: String::new() })
    }

    async fn show(&mut self, stop: &mut Stop, and_exit: bool) -> anyhow::Result<()> {
        let began = Instant::now();
        let played = tokio::select! {
            played = tokio::time::timeout(ALL_WITHIN, self.play()) => played,
            () = stop.asked() => return Ok(()),
        };
        let waiting_for = &self.waiting_for;
        let late = |_| anyhow::anyhow!("not done within {ALL_WITHIN:?}: still waiting for {waiting_for}");
        if let Err(error) = played.map_err(late).flatten() {
            self.out.line(&format!("\n✗ {error:#}"))?;
            anyhow::bail!("a step of the quickstart failed");
        }
        self.out.line(&format!("\nEvery step succeeded, in {:.1} s.", began.elapsed().as_secs_f32()))?;
        if !and_exit {
            self.invite()?;
            self.go_on(stop).await?;
        }
        Ok(())
    }

    async fn play(&mut self) -> anyhow::Result<()> {
        self.heading("1. A file lands")?;
        let hello = self.drop_file("hello.txt", b"Hello, application!\n")?;
        self.follow(&[hello], true).await?;

        self.heading("2. Three files in a burst: Nextcloud's receivers are rung once, when the interval ends")?;
        let burst = [
            self.drop_file("one.csv", b"1;one\n")?,
            self.drop_file("two.csv", b"2;two\n")?,
            self.drop_file("three.csv", b"3;three\n")?,
        ];
        self.follow(&burst, false).await?;

        self.heading("3. A file is written slowly: nobody is told before its end")?;
        let slow = self.drop_slowly("slow.bin").await?;
        self.follow(&[slow], false).await?;

        self.heading("4. A file gets new content")?;
        let changed = self.drop_file("hello.txt", b"Hello again, application!\n")?;
        self.follow(&[changed], false).await
    }

    fn heading(&self, text: &str) -> anyhow::Result<()> {
        Ok(self.out.line(&format!("\n{text}"))?)
    }

    fn drop_file(&self, name: &'static str, content: &[u8]) -> anyhow::Result<Dropped> {
        let mut file = File::create(self.folder.join(name))?;
        file.write_all(content)?;
        self.dropped(name, file, content)
    }

    async fn drop_slowly(&self, name: &'static str) -> anyhow::Result<Dropped> {
        const PIECES: u8 = 8;
        let mut content = Vec::new();
        let mut file = File::create(self.folder.join(name))?;
        for piece in 0..PIECES {
            let piece = vec![piece; 128 * 1024];
            file.write_all(&piece)?;
            content.extend(piece);
            tokio::time::sleep(BETWEEN_PIECES).await;
        }
        self.dropped(name, file, &content)
    }

    fn dropped(&self, name: &'static str, file: File, content: &[u8]) -> anyhow::Result<Dropped> {
        drop(file);
        let closed_at = Instant::now();
        let (size, sha256) = (content.len(), hex::encode(Sha256::digest(content)));
        self.out.line(&format!("  dropped {FOLDER}/{name}, {size} bytes, sha256 {sha256}"))?;
        Ok(Dropped { name, size, sha256, closed_at })
    }

    /// Waits until every receiver holds every dropped file, and shows how that came.
    async fn follow(&mut self, dropped: &[Dropped], in_full: bool) -> anyhow::Result<()> {
        for receiver in &mut self.receivers {
            let names: Vec<&str> = dropped.iter().map(|file| file.name).collect();
            self.waiting_for = format!("{} to receive {}", receiver.protocol, names.join(", "));
            self.out.line(&format!("  {}", receiver.protocol))?;
            let before = receiver.last_told_at;
            let told = receiver.receive(dropped, in_full, &self.out).await?;
            receiver.check(dropped, &told, before, &self.out)?;
        }
        Ok(())
    }

    fn invite(&self) -> anyhow::Result<()> {
        let (folder, server) = (self.folder.display(), self.app.address());
        Ok(self.out.line(&format!(
            "\nIt goes on until Ctrl-C. Try:\n  echo mine > {folder}/mine.txt\n  mv {folder}/mine.txt {folder}/yours.txt\n  \
             curl http://{server}/readyz\nThen, on a folder of your own: filebell serve --watch DIR --notify URL\n"
        ))?)
    }

    /// Shows what the receivers do until a signal comes.
    async fn go_on(&mut self, stop: &mut Stop) -> anyhow::Result<()> {
        let out = self.out.clone();
        let mut steps = Vec::new();
        for receiver in &mut self.receivers {
            let (protocol, out) = (receiver.protocol.as_str(), &out);
            steps.push(Box::pin(async move {
                while let Some(step) = receiver.steps.recv().await {
                    out.line(&format!("{protocol:<9} {}", step.to_text()))?;
                }
                anyhow::Ok(())
            }));
        }
        tokio::select! {
            ended = futures_util::future::try_join_all(steps) => ended.map(drop),
            () = stop.asked() => Ok(()),
        }
    }
}

impl Listening {
    /// Takes steps until every file has come with its right content.
    async fn receive(&mut self, dropped: &[Dropped], in_full: bool, out: &Output) -> anyhow::Result<Told> {
        let mut missing: Vec<&Dropped> = dropped.iter().collect();
        let mut told = Told { at: None, notifications: 0 };
        // Sage X3 and Standard Webhooks tell each file: the last notification may come after the last download.
        let notifications = if self.protocol == ProtocolKind::Nextcloud { 1 } else { dropped.len() };
        let is_alone = dropped.len() == 1;
        while !missing.is_empty() || told.notifications < notifications {
            let step = self.steps.recv().await.context("the receiver has ended")?;
            match &step {
                Step::Notified { at, headers, body } => {
                    let is_for_each = self.protocol != ProtocolKind::Nextcloud;
                    if let Some(early) = dropped.iter().find(|file| is_for_each && *at < file.closed_at && is_alone) {
                        anyhow::bail!("{} was told before its end", early.name);
                    }
                    told.notifications += 1;
                    told.at.get_or_insert(*at);
                    self.last_told_at = Some(*at);
                    if in_full {
                        show_whole(out, headers, body)?;
                    } else {
                        out.line(&format!("    ✓ signature checked: {body}"))?;
                    }
                }
                Step::Downloaded { path, size, sha256, .. } => {
                    let here = fs::read(self.into.join(path)).with_context(|| format!("{}", path.display()))?;
                    let found = hex::encode(Sha256::digest(&here));
                    let name = path.file_name().unwrap_or_default();
                    anyhow::ensure!(found == *sha256, "{} is not what was downloaded", path.display());
                    let is_part = |file: &&Dropped| file.name == name && file.sha256 != found;
                    anyhow::ensure!(!dropped.iter().any(|file| is_part(&file)), "{name:?} came half-written");
                    missing.retain(|file| !(file.name == name && file.sha256 == found));
                    out.line(&format!("    ✓ downloaded {}, {size} bytes, sha256 {found}", path.display()))?;
                }
                // At its start, and when a pull before has seen the same already.
                Step::Pulled { new: 0 } => (),
                Step::Pulled { new } => {
                    let how = match self.protocol {
                        ProtocolKind::Nextcloud => "GET recent",
                        ProtocolKind::SageX3 => "GET detail",
                        ProtocolKind::Standard => "GET changes",
                    };
                    out.line(&format!("    ✓ pulled by {how}: {new} new"))?;
                }
                Step::Failed { why } | Step::Refused { why } => anyhow::bail!("{}: {why}", self.protocol),
                Step::Skipped { what, why } => anyhow::bail!("{}: skipped {what}: {why}", self.protocol),
                // The pull at its start may have found the file before it was told.
                Step::Here { .. } => (),
                Step::Listening { .. } | Step::Event { .. } | Step::Deleted { .. } => (),
            }
        }
        Ok(told)
    }

    /// The content is equal; the timing is as promised.
    fn check(&self, dropped: &[Dropped], told: &Told, before: Option<Instant>, out: &Output) -> anyhow::Result<()> {
        let at = told.at.context("no notification came")?;
        let bytes: usize = dropped.iter().map(|file| file.size).sum();
        let closed_at = dropped.iter().map(|file| file.closed_at).min().context("nothing was dropped")?;
        let after = at.saturating_duration_since(closed_at).as_millis();
        let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let mut line = format!(
            "    ✓ {}, {bytes} bytes equal; {}, {after} ms after {} was closed",
            count(dropped.len(), "file"),
            count(told.notifications, "notification"),
            if dropped.len() == 1 { "it" } else { "the first" },
        );
        if let (ProtocolKind::Nextcloud, Some(before)) = (self.protocol, before) {
            let gap = at.saturating_duration_since(before);
            anyhow::ensure!(
                gap + INTERVAL_SLACK >= MIN_INTERVAL,
                "nextcloud was rung again after {gap:?}, before its interval of {MIN_INTERVAL:?} was over"
            );
            line.push_str(&format!(
                ", {} ms after the notification before (interval {MIN_INTERVAL:?})",
                gap.as_millis()
            ));
        }
        Ok(out.line(&line)?)
    }
}

fn show_whole(out: &Output, headers: &[(String, String)], body: &str) -> anyhow::Result<()> {
    out.line("    POST /hook")?;
    for (name, value) in headers {
        out.line(&format!("      {name}: {value}"))?;
    }
    out.line(&format!("      {body}"))?;
    Ok(out.line("    ✓ signature checked over these bytes")?)
}

struct Secrets {
    admin: Secret,
    password: Secret,
    nextcloud: Secret,
    standard: Secret,
}

impl Secrets {
    fn make() -> anyhow::Result<Self> {
        Ok(Self {
            admin: generate_admin_token()?,
            password: generate_key(ProtocolKind::Nextcloud)?,
            nextcloud: generate_key(ProtocolKind::Nextcloud)?,
            standard: generate_key(ProtocolKind::Standard)?,
        })
    }
}

/// What a configuration file with one account and a receiver for each protocol would say.
fn config(
    directory: &Path,
    root: &Path,
    secrets: &Secrets,
    url: impl Fn(ProtocolKind) -> String,
) -> anyhow::Result<Config> {
    let nothing = Sources { file: None, env: &|_| None, flags: Vec::new(), look_at_roots: false };
    let mut config = Config::load(&nothing)?;
    config.listen = Listen { host: "127.0.0.1".to_owned(), port: 0 };
    config.data_dir = directory.join("data");
    config.admin_token = Some(secrets.admin.clone());
    config.egress.allow_networks = vec!["127.0.0.0/8".parse()?];
    config.accounts = vec![AccountRequest {
        name: ACCOUNT.to_owned(),
        password: Some(secrets.password.clone()),
        root: Some(root.to_owned()),
        customer_url: "https://x3.example.com".to_owned(),
        customer_id: "9e0a7d54-6c1b-4d3f-8b2a-1f5e6c7d8a90".to_owned(),
        customer_code: ACCOUNT.to_owned(),
        quota_bytes: None,
        managed: true,
    }];
    let subscription = |name: &str, protocol, kind, key: &Secret, min_interval| SubscriptionRequest {
        name: name.to_owned(),
        account: ACCOUNT.to_owned(),
        protocol,
        url: url(kind),
        key: Some(key.clone()),
        min_interval,
        filter: FilterText { folders: vec![FOLDER.to_owned()], ..FilterText::default() },
        managed: true,
    };
    let connection = ProtocolRequest::Nextcloud { connection_id: format!("quickstart:{ACCOUNT}") };
    config.subscriptions = vec![
        subscription("demo-nextcloud", connection, ProtocolKind::Nextcloud, &secrets.nextcloud, MIN_INTERVAL),
        subscription(
            "demo-standard",
            ProtocolRequest::Standard,
            ProtocolKind::Standard,
            &secrets.standard,
            Duration::ZERO,
        ),
    ];
    let application = ApplicationRequest {
        name: APPLICATION.to_owned(),
        client_id: None,
        client_secret: None,
        redirect_urls: Vec::new(),
        notification_url: Some(url(ProtocolKind::SageX3)),
        signature_encoding: SignatureEncoding::Hex,
        managed: true,
    };
    let grant = GrantRequest {
        application: APPLICATION.to_owned(),
        account: ACCOUNT.to_owned(),
        folders: vec![FOLDER.to_owned()],
        scopes: vec![SCOPE_DEFAULT.to_owned()],
    };
    config.applications = vec![(application, vec![grant])];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    #[tokio::test]
    async fn a_file_that_was_fetched_before_it_was_told_is_received() {
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let setup = Setup {
            protocol: ProtocolKind::SageX3,
            server: format!("http://{}", listener.local_addr().unwrap()),
            into: directory.path().to_owned(),
            key: Secret::new("client id"),
            account: None,
            password: None,
            token: Some(AccessToken::Text(Secret::new("token"))),
            delete: false,
            poll: POLL,
        };
        let (receiver, _) = setup.start(listener).unwrap();
        let (say, steps) = unbounded_channel();
        let mut listening = Listening {
            protocol: ProtocolKind::SageX3,
            into: directory.path().to_owned(),
            steps,
            last_told_at: None,
            _receiver: receiver,
        };
        fs::write(directory.path().join("hello.txt"), "hello").unwrap();
        let (sha256, closed_at) = (hex::encode(Sha256::digest("hello")), Instant::now());
        let dropped = [Dropped { name: "hello.txt", size: 5, sha256: sha256.clone(), closed_at }];
        let downloaded =
            || Step::Downloaded { path: PathBuf::from("hello.txt"), size: 5, sha256: sha256.clone(), resumed_at: 0 };
        let notified = || Step::Notified { at: Instant::now(), headers: Vec::new(), body: String::new() };
        let here = Step::Here { what: "SEED/hello.txt".to_owned() };
        // The second time, what is left of the first comes before its own.
        for step in [downloaded(), notified(), Step::Pulled { new: 1 }, here, notified(), downloaded()] {
            say.send(step).unwrap();
        }
        for _ in 0..2 {
            listening.receive(&dropped, false, &Output::new(false)).await.unwrap();
        }
    }
}
