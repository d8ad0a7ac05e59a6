//! Builds the rooms in order, connects them, and takes them down in order: the only room that knows all the others.

pub mod doctor;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use filebell_core::filter::FilterError;
use filebell_core::id::AccountId;
use filebell_core::retry::Outcome;
use filebell_core::secret::Secret;
use filebell_core::wire::SignedRequest;
use rustix::fs::{FlockOperation, flock};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::config::{Config, WatchConfig};
use crate::delivery::{Dispatcher, Egress, EgressError, Feed, Hints, Onlookers};
use crate::http;
use crate::journal::{Journal, JournalError};
use crate::metrics::Metrics;
use crate::ops::{Examine, Finding, Ops, OpsError, PostForm, SageX3Settings, SendTrial, generate_admin_token};
use crate::seams::Seams;
use crate::source::Roots;
use crate::source::folder::{Folder, FolderConfig, Ignore, RootError, identify};
use crate::store::{Account, KeyError, Span, Store, StoreError, StoreKey};
use crate::ui;

/// The file that says that somebody serves this data directory.
const LOCK_FILE: &str = "lock";
/// The file that holds a generated admin token.
const ADMIN_TOKEN_FILE: &str = "admin-token";
/// The file that says where the server of this data directory listens.
const ADDRESS_FILE: &str = "address";
/// How often everything is looked at that filebell depends on.
const EXAMINE_EVERY: Duration = Duration::from_secs(5 * 60);
/// How often it is looked whether a command has changed who is who, and whether a root that failed can be watched.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why filebell cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The data directory cannot be used.
    #[error("cannot write to the data directory {}: choose another with --data-dir, or correct its rights", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        why: io::Error,
    },
    /// Another process serves the data directory.
    #[error("another filebell already serves the data directory {}: stop it, or give this one its own --data-dir", .0.display())]
    Busy(PathBuf),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: choose another with --listen, or stop what uses it")]
    Listen {
        /// As configured.
        address: String,
        /// Why.
        #[source]
        why: io::Error,
    },
    /// The key for secrets at rest.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Outgoing HTTP.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// An object declared in the configuration.
    #[error("cannot take over {what} from the configuration")]
    Declared {
        /// Which.
        what: String,
        /// Why.
        #[source]
        why: OpsError,
    },
    /// An account whose root cannot be served.
    #[error("cannot serve the account `{account}`; `filebell account remove {account}` takes it away, files stay")]
    Root {
        /// Which.
        account: String,
        /// Why.
        #[source]
        why: OpsError,
    },
    /// The admin token.
    #[error(transparent)]
    AdminToken(OpsError),
    /// The ignore patterns.
    #[error(transparent)]
    Ignore(#[from] FilterError),
}

/// A running filebell.
pub struct App {
    address: SocketAddr,
    ops: Ops,
    stop: CancellationToken,
    /// In the order in which they are waited for.
    tasks: Vec<JoinHandle<()>>,
    address_file: PathBuf,
    _lock: File,
}

impl App {
    /// Starts everything; when it returns, requests are answered and files are being watched for.
    pub async fn start(config: Config, seams: Seams) -> Result<Self, AppError> {
        let (data_dir, examined) = (config.data_dir.clone(), config.clone());
        let lock = lock_data_dir(&data_dir)?;
        let (store, key) = open_store(&config.data_dir).await?;
        drop(key);
        store.seal_outstanding().await?;
        let admin_token = match config.admin_token {
            Some(token) => token,
            None => admin_token(&config.data_dir)?,
        };
        let listen = |why| AppError::Listen { address: config.listen.to_string(), why };
        let listener = TcpListener::bind(config.listen.to_string()).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let public_url = config.public_url.unwrap_or_else(|| url_of(address));

        let metrics = Metrics::new();
        let journal = Journal::open(store.clone(), seams.clone(), metrics.clone());
        store.set_public_url(public_url.to_string()).await?;
        let ops = Ops::with_sagex3(
            store.clone(),
            journal.clone(),
            seams.clone(),
            public_url.clone(),
            Some(admin_token),
            config.sagex3,
        );
        ops.keeping(data_dir.clone());
        ops.leaving_out(&config.watch.ignore)?;
        declare(&ops, config.accounts, config.subscriptions, config.applications).await?;
        for account in store.accounts().await? {
            ops.check_root_of(&account).map_err(|why| AppError::Root { account: account.name, why })?;
        }

        let egress = Egress::new(config.egress, seams.clone())?;
        let (change, changed) = watch::channel(0);
        ops.telling(change.clone());
        let hints = Hints { wake: Arc::new(Notify::new()), changed };
        let timeout = config.delivery.timeout;
        ops.posting(post_form(egress.clone(), timeout));
        ops.trying(send_trial(egress.clone(), public_url.to_string(), timeout));
        // What the last process did not come to count belongs to its time, not to this one's.
        sample(&ops).await;
        let feed = Feed::new(seams.now());
        let onlookers = Onlookers { metrics, feed: feed.clone() };
        ops.examining(examine(examined, seams.clone()));
        let sampling = keep_history(ops.clone(), seams.clone());
        let dispatcher = Dispatcher::new(store.clone(), egress, seams, config.delivery, &public_url, hints, onlookers);

        let stop = CancellationToken::new();
        let (config, roots) = (folder_config(config.watch)?, Roots::default());
        ops.serving(roots.clone(), feed);
        let mut sources = Sources { store, journal, config, roots, running: HashMap::new() };
        sources.follow().await;
        let address_file = write_address(&data_dir, address)?;
        let tasks = vec![
            tokio::spawn(http::serve(listener, http::router(ops.clone(), ui::router(&ops)), stop.clone(), timeout)),
            tokio::spawn(sources.run(change, stop.clone())),
            tokio::spawn(dispatcher.run(stop.clone())),
            tokio::spawn(until(stop.clone(), sampling)),
            tokio::spawn(until(stop.clone(), keep_examining(ops.clone()))),
        ];
        Ok(Self { address, ops, stop, tasks, address_file, _lock: lock })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What may be asked of it.
    pub fn ops(&self) -> &Ops {
        &self.ops
    }

    /// Stops: nothing new is begun, what is under way comes to its end within `delivery.timeout`.
    pub async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(error = &error as &dyn std::error::Error, "a task broke off");
            }
        }
        self.ops.write_fetches().await;
        sample(&self.ops).await;
        // One that stays behind misleads nobody: without the lock there is no server.
        let _ = fs::remove_file(self.address_file);
    }
}

/// Operations on a data directory that may or may not be served at the same time, for commands. A server notices.
pub async fn open_ops(
    data_dir: &Path,
    public_url: Option<Url>,
    sagex3: SageX3Settings,
    seams: Seams,
) -> Result<Ops, AppError> {
    make_data_dir(data_dir)?;
    let (store, _) = open_store(data_dir).await?;
    let journal = Journal::open(store.clone(), seams.clone(), Metrics::new());
    let said = store.public_url().await?.and_then(|said| said.parse().ok());
    let public_url = public_url.or(said).unwrap_or_else(|| url_of(SocketAddr::from(([127, 0, 0, 1], 8080))));
    let ops = Ops::with_sagex3(store, journal, seams, public_url, None, sagex3);
    ops.keeping(data_dir.to_owned());
    Ok(ops)
}

/// Runs what has no end of its own until `stop`.
async fn until(stop: CancellationToken, endless: impl Future<Output = ()>) {
    let _ = stop.run_until_cancelled(endless).await;
}

/// Counts what happened whenever a minute is over.
async fn keep_history(ops: Ops, seams: Seams) {
    loop {
        let minute = Span::Minute.begin(seams.now()).after(Span::Minute.length());
        tokio::time::sleep(minute.since(seams.now())).await;
        sample(&ops).await;
    }
}

async fn sample(ops: &Ops) {
    if let Err(error) = ops.sample().await {
        // It is counted the next time.
        tracing::error!(error = &error as &dyn std::error::Error, "what happened could not be counted");
    }
}

async fn keep_examining(ops: Ops) {
    loop {
        ops.examine().await;
        tokio::time::sleep(EXAMINE_EVERY).await;
    }
}

/// Looks at everything as `doctor` does; on a thread of its own, for much of it is files.
fn examine(config: Config, seams: Seams) -> Examine {
    let config = Arc::new(config);
    Box::new(move |ops| {
        let (config, seams) = (config.clone(), seams.clone());
        Box::pin(async move {
            let runtime = tokio::runtime::Handle::current();
            let look = move || runtime.block_on(doctor::examine_served(&config, &ops, &seams));
            tokio::task::spawn_blocking(look).await.unwrap_or_else(|error| {
                vec![Finding::wrong(format!("what filebell depends on could not be looked at: {error}"), "see its log")]
            })
        })
    })
}

/// Posts forms by `egress`, each within `deadline`.
pub(crate) fn post_form(egress: Egress, deadline: Duration) -> PostForm {
    Box::new(move |to, body| {
        let egress = egress.clone();
        Box::pin(async move {
            let headers = vec![("Content-Type", "application/x-www-form-urlencoded".to_owned())];
            let exchange = egress.post(&to, SignedRequest { headers, body }, deadline).await;
            match (exchange.outcome, exchange.status) {
                (Outcome::Accepted, _) => Ok(()),
                (_, Some(status)) => Err(format!("it answered {status}")),
                (_, None) => Err(exchange.detail.unwrap_or_else(|| "it did not answer".to_owned())),
            }
        })
    })
}

/// Delivers tests by `egress`, each within `deadline`.
pub(crate) fn send_trial(egress: Egress, public_url: String, deadline: Duration) -> SendTrial {
    Box::new(move |subscription, letter| {
        let (egress, public_url) = (egress.clone(), public_url.clone());
        Box::pin(async move { egress.trial(&subscription, &letter, &public_url, deadline).await })
    })
}

async fn open_store(data_dir: &Path) -> Result<(Store, StoreKey), AppError> {
    let key = StoreKey::load_or_create(data_dir)?;
    Ok((Store::open_sqlite(data_dir, key.clone()).await?, key))
}

fn make_data_dir(data_dir: &Path) -> Result<(), AppError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
    made.map_err(|why| AppError::DataDir { path: data_dir.to_owned(), why })
}

/// The lock is the kernel's: it goes with the process, however that ends.
fn lock_data_dir(data_dir: &Path) -> Result<File, AppError> {
    make_data_dir(data_dir)?;
    let wrong = |why| AppError::DataDir { path: data_dir.to_owned(), why };
    let file =
        fs::OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(data_dir.join(LOCK_FILE));
    let file = file.map_err(wrong)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(AppError::Busy(data_dir.to_owned())),
        Err(error) => Err(wrong(error.into())),
    }
}

/// Reads the generated admin token, or generates one (mode 0600).
fn admin_token(data_dir: &Path) -> Result<Secret, AppError> {
    let path = data_dir.join(ADMIN_TOKEN_FILE);
    match fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(Secret::new(text.trim())),
        Ok(_) => (),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (),
        Err(why) => return Err(AppError::DataDir { path, why }),
    }
    let token = generate_admin_token().map_err(AppError::AdminToken)?;
    let mut open = fs::OpenOptions::new();
    let written = open.create(true).write(true).truncate(true).mode(0o600).open(&path).and_then(|mut file| {
        io::Write::write_all(&mut file, format!("{}\n", token.expose()).as_bytes())?;
        file.sync_all()
    });
    written.map_err(|why| AppError::DataDir { path, why })?;
    Ok(token)
}

/// Where the server listens that serves a data directory now, and the operator's token for it if one was generated.
pub fn served_at(data_dir: &Path) -> Option<(Url, Option<Secret>)> {
    if !is_locked(&data_dir.join(LOCK_FILE)) {
        return None;
    }
    let url = fs::read_to_string(data_dir.join(ADDRESS_FILE)).ok()?.trim().parse().ok()?;
    let token = fs::read_to_string(data_dir.join(ADMIN_TOKEN_FILE)).ok();
    Some((url, token.map(|token| Secret::new(token.trim())).filter(|token| !token.expose().is_empty())))
}

/// Whether somebody holds the lock. Looked up and not tried: who tries it holds it, and keeps a server from starting.
fn is_locked(lock: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(about) = fs::metadata(lock) else { return false };
    let inode = about.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    // `1: FLOCK  ADVISORY  WRITE 4242 fd:01:1234 0 EOF`; which device it is, not every file system says truly.
    locks.lines().filter(|line| line.contains("FLOCK")).any(|line| {
        line.split_whitespace()
            .any(|word| word.rsplit_once(':').is_some_and(|(device, last)| device.contains(':') && last == inode))
    })
}

fn write_address(data_dir: &Path, address: SocketAddr) -> Result<PathBuf, AppError> {
    let path = data_dir.join(ADDRESS_FILE);
    match fs::write(&path, format!("{}\n", url_of(address))) {
        Ok(()) => Ok(path),
        Err(why) => Err(AppError::DataDir { path, why }),
    }
}

fn url_of(address: SocketAddr) -> Url {
    let unspecified = address.ip().is_unspecified();
    let host = if unspecified { format!("localhost:{}", address.port()) } else { address.to_string() };
    #[expect(clippy::expect_used, reason = "an address and a port are always a URL's authority")]
    Url::parse(&format!("http://{host}")).expect("a socket address makes a URL")
}

fn folder_config(watch: WatchConfig) -> Result<FolderConfig, FilterError> {
    let WatchConfig { settle, quiet, orphan_after, existing, rescan, mode, ignore } = watch;
    Ok(FolderConfig { settle, quiet, orphan_after, existing, rescan, mode, ignore: Ignore::new(&ignore)? })
}

/// Writes the objects that the configuration declares.
async fn declare(
    ops: &Ops,
    accounts: Vec<crate::ops::AccountRequest>,
    subscriptions: Vec<crate::ops::SubscriptionRequest>,
    applications: Vec<(crate::ops::ApplicationRequest, Vec<crate::ops::GrantRequest>)>,
) -> Result<(), AppError> {
    let declared = |what: String| move |why| AppError::Declared { what, why };
    for account in accounts {
        let what = format!("the account `{}`", account.name);
        ops.write_account(account).await.map_err(declared(what))?;
    }
    for subscription in subscriptions {
        let what = format!("the subscription `{}`", subscription.name);
        ops.write_subscription(subscription).await.map_err(declared(what))?;
    }
    for (application, grants) in applications {
        let what = format!("the application `{}`", application.name);
        ops.write_application(application).await.map_err(declared(what.clone()))?;
        for grant in grants {
            let account = grant.account.clone();
            if !ops.declare_grant(grant).await.map_err(declared(what.clone()))? {
                tracing::warn!(
                    account.name = account,
                    "{what} is declared with a grant that was taken back; it stays so"
                );
            }
        }
    }
    Ok(())
}

/// The watched roots, kept in step with the accounts.
struct Sources {
    store: Store,
    journal: Journal,
    config: FolderConfig,
    roots: Roots,
    running: HashMap<AccountId, (PathBuf, Folder)>,
}

impl Sources {
    /// Follows changes until `stop`, tells the dispatcher of them, then stops all sources.
    async fn run(mut self, change: watch::Sender<u64>, stop: CancellationToken) {
        let mut revision = None;
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            match self.store.revision().await {
                Ok(now) if revision != Some(now) => {
                    revision = Some(now);
                    change.send_modify(|turn| *turn = turn.wrapping_add(1));
                }
                Ok(_) => (),
                Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "the store does not answer"),
            }
            self.follow().await;
        }
        self.roots.keep(|_| false);
        for (_, folder) in self.running.into_values() {
            folder.stop().await;
        }
    }

    /// Watches every account's root, and no other.
    async fn follow(&mut self) {
        let accounts = match self.store.accounts().await {
            Ok(accounts) => accounts,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the accounts could not be read");
                return;
            }
        };
        let wanted: HashMap<AccountId, &Path> =
            accounts.iter().filter_map(|account| Some((account.id, account.root.as_deref()?))).collect();
        let left: Vec<AccountId> = self
            .running
            .iter()
            .filter(|(id, (root, _))| wanted.get(id) != Some(&root.as_path()))
            .map(|(id, _)| *id)
            .collect();
        for id in left {
            if let Some((root, folder)) = self.running.remove(&id) {
                tracing::info!(root = %root.display(), "no longer watched");
                folder.stop().await;
            }
        }
        self.roots.keep(|name| accounts.iter().any(|one| one.name == name && one.root.is_some()));
        for account in &accounts {
            self.watch(account).await;
        }
    }

    async fn watch(&mut self, account: &Account) {
        let Some(root) = account.root.as_deref().filter(|_| !self.running.contains_key(&account.id)) else { return };
        match self.start(account, root).await {
            Ok(folder) => {
                tracing::info!(account.name, root = %root.display(), "watched");
                self.roots.set(&account.name, Ok(folder.view()));
                self.running.insert(account.id, (root.to_owned(), folder));
            }
            // Tried again at the next look.
            Err(error) => {
                self.roots.set(&account.name, Err(error.to_string()));
                tracing::warn!(account.name, error = &error as &dyn std::error::Error, "the root cannot be watched");
            }
        }
    }

    async fn start(&self, account: &Account, root: &Path) -> Result<Folder, RootError> {
        let known = self.store.keep_root(account.id, identify(root)?).await.map_err(JournalError::from)?;
        let (config, journal) = (self.config.clone(), self.journal.clone());
        Folder::start(account.id, account.name.clone(), root, known, config, journal).await
    }
}
