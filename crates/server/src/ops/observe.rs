//! Looking on: how everything stands, why a file was told or was not, and the numbers for Prometheus.
//!
//! The reports are what HTTP answers with and what commands print, so they are read and written as JSON.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use filebell_core::event::{Event, EventKind};
use filebell_core::filter::FilterError;
use filebell_core::id::AccountId;
use filebell_core::path::FilePath;
use filebell_core::subscription::{Subscription, SubscriptionStatus};
use filebell_core::time::TimestampMs;
use serde::{Deserialize, Serialize};

use super::{Caller, Ops, OpsError};
use crate::delivery::Feed;
use crate::metrics::Gauges;
use crate::source::folder::{Ignore, Lies, RootState, RootStatus, View, Waiting, foreign_root, identify};
use crate::source::{Roots, Watched, writers};
use crate::store::fetches::Fetched;
use crate::store::{Account, NotificationState, Standing};

/// Events of a file that `why` shows.
const EVENTS_SHOWN_MAX: u32 = 10;
/// How long a request may wait for the scan it asked for.
const SCAN_WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Where the system says how many watches a user may have.
const WATCHES_ALLOWED: &str = "/proc/sys/fs/inotify/max_user_watches";

/// What a serving filebell knows besides its store.
pub(super) struct Served {
    pub(super) roots: Roots,
    feed: Feed,
    since: TimestampMs,
}

impl Served {
    /// When it started.
    pub(super) fn since(&self) -> TimestampMs {
        self.since
    }

    /// The attempts that ended last.
    pub(super) fn feed(&self) -> &Feed {
        &self.feed
    }
}

/// How many watches the user may have, if the system says so.
pub(super) fn watches_allowed() -> Option<u64> {
    std::fs::read_to_string(WATCHES_ALLOWED).ok().and_then(|text| text.trim().parse().ok())
}

/// How everything stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusReport {
    /// Of filebell.
    pub version: String,
    /// The server that answered; `None` if the store was read without one.
    pub server: Option<ServerReport>,
    /// One for each account with a root.
    pub sources: Vec<SourceReport>,
    /// By name.
    pub subscriptions: Vec<SubscriptionReport>,
    /// The store.
    pub store: StoreReport,
}

/// The server that answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServerReport {
    /// RFC 3339.
    pub started_at: String,
    /// Since then.
    pub uptime_secs: u64,
}

/// One watched root.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SourceReport {
    /// Whose.
    pub account: String,
    /// The directory.
    pub root: String,
    /// `live`, `polling`, `degraded`, `unusable`, or `not watched` where no server runs.
    pub state: String,
    /// Why it is not live.
    pub reason: Option<String>,
    /// Paths that wait to be decided.
    pub dirty: u64,
    /// Directories that are watched.
    pub watches: u64,
    /// The scan under way, or the last one.
    pub scan: ScanReport,
    /// When the last whole scan came to its end, RFC 3339.
    pub last_scan_at: Option<String>,
    /// When the watch last saw a file of our own making, RFC 3339.
    pub last_probe_at: Option<String>,
}

/// How far a scan is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ScanReport {
    /// It is under way.
    pub running: bool,
    /// Directories listed.
    pub directories: u64,
    /// Files seen.
    pub files: u64,
    /// Files that differed from their rows, and rows without a file.
    pub differing: u64,
    /// How many files are likely to be seen; `None` where nothing is known of that.
    #[serde(default)]
    pub expected: Option<u64>,
    /// How long it has given way to what waited to be decided.
    #[serde(default)]
    pub throttled_ms: u64,
}

/// One subscription.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SubscriptionReport {
    /// Its name.
    pub name: String,
    /// Whose events.
    pub account: String,
    /// In which format.
    pub protocol: String,
    /// `active`, `paused` or `disabled`.
    pub status: String,
    /// Why it is not active.
    pub status_reason: Option<String>,
    /// Notifications that wait.
    pub pending: u64,
    /// Notifications that were accepted.
    pub delivered: u64,
    /// Notifications that were given up.
    pub dead: u64,
    /// Dead ones that a later one made up for.
    pub superseded: u64,
    /// When the oldest event was recorded that is still to be told, RFC 3339.
    pub oldest_untold_at: Option<String>,
    /// When an attempt last ended well, RFC 3339.
    pub last_success_at: Option<String>,
    /// When an attempt last ended badly, RFC 3339.
    pub last_failure_at: Option<String>,
    /// What was wrong then.
    pub last_failure: Option<String>,
    /// When it was told for the last time what it never fetched, RFC 3339; gone when it fetches.
    #[serde(default)]
    pub unfetched_at: Option<String>,
}

/// The store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoreReport {
    /// The number of the newest event.
    pub newest_seq: i64,
}

/// What was asked to scan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScanAnswer {
    /// These accounts' roots.
    pub accounts: Vec<String>,
    /// Whether all that was found has been decided; `false` if it was not waited for long enough.
    pub done: bool,
}

/// The way of one file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WhyReport {
    /// As asked.
    pub path: String,
    /// Whose root it lies beneath.
    pub account: Option<String>,
    /// In one sentence: told, or why not.
    pub answer: String,
    /// The pattern by which its name is left out.
    pub ignored_by: Option<String>,
    /// How well its root is seen, and why not better.
    pub source: Option<String>,
    /// Who has it open for writing, as far as can be seen.
    pub writers: Vec<String>,
    /// What was told of it, newest first.
    pub events: Vec<ToldReport>,
}

/// One event of the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToldReport {
    /// Its number.
    pub seq: i64,
    /// Its id.
    pub id: String,
    /// What happened.
    pub kind: String,
    /// Where the file lay then.
    pub path: String,
    /// RFC 3339.
    pub recorded_at: String,
    /// How the file was known to be whole.
    pub completeness: Option<String>,
    /// To whom it was sent, or why it was not.
    pub sent: Vec<SentReport>,
    /// Who fetched it, each reader's every way once, first to last.
    #[serde(default)]
    pub fetched: Vec<FetchReport>,
}

/// That an event was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchReport {
    /// The event's number.
    pub seq: i64,
    /// `operator`, `account NAME` or `application NAME`.
    pub by: String,
    /// `changes` or `recent` if it was listed, `detail` if what a notification tells of it was read, `download` if its
    /// bytes were handed out.
    pub how: String,
    /// When for the first time, to the second, RFC 3339.
    pub at: String,
}

/// What one subscription got of an event.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SentReport {
    /// Its name.
    pub subscription: String,
    /// `pending`, `told`, `delivered`, `dead`, `superseded`, `not asked for`, or `not owed`.
    pub state: String,
    /// The notification that covers it.
    pub notification: Option<String>,
    /// How often it was attempted.
    pub attempts: u32,
    /// How the last attempt went.
    pub last_attempt: Option<String>,
    /// When it is attempted next, RFC 3339.
    pub next_at: Option<String>,
}

impl Ops {
    /// From now on `roots` are asked about the sources, and `feed` for ended attempts: this is a serving filebell.
    pub fn serving(&self, roots: Roots, feed: Feed) {
        // A second call changes nothing; there is one app to call it.
        let _ = self.0.served.set(Served { roots, feed, since: self.0.seams.now() });
    }

    /// Which names are never told, by the patterns of the configuration.
    pub fn leaving_out(&self, patterns: &[String]) -> Result<(), FilterError> {
        // A second call changes nothing; there is one app, or one command, to call it.
        let _ = self.0.ignore.set(Ignore::new(patterns)?);
        Ok(())
    }

    pub(super) fn is_left_out(&self, path: &FilePath) -> bool {
        self.0.ignore.get().is_some_and(|ignore| ignore.path(path))
    }

    /// How everything stands.
    pub async fn status(&self, caller: &Caller) -> Result<StatusReport, OpsError> {
        self.operator(caller)?;
        self.status_of(None).await
    }

    /// How everything of one account, or of all, stands.
    pub(super) async fn status_of(&self, account: Option<AccountId>) -> Result<StatusReport, OpsError> {
        let standings = self.0.store.standings().await?;
        let mut accounts = self.accounts().await?;
        let mut subscriptions = self.subscriptions().await?;
        accounts.retain(|one| account.is_none_or(|wanted| wanted == one.id));
        subscriptions.retain(|one| account.is_none_or(|wanted| wanted == one.account));
        let reports = subscriptions.iter().filter_map(|one| {
            let standing = standings.iter().find(|standing| standing.subscription == one.id)?;
            Some(subscription_report(one, standing))
        });
        let server = self.0.served.get().map(|served| ServerReport {
            started_at: served.since.to_string(),
            uptime_secs: self.0.seams.now().since(served.since).as_secs(),
        });
        Ok(StatusReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            server,
            sources: accounts.iter().filter_map(|account| self.source_report(account)).collect(),
            subscriptions: reports.collect(),
            store: StoreReport { newest_seq: self.0.store.newest().await?.seq().get() },
        })
    }

    /// Asks for a scan of one account's root, or of all, and waits at most `wait` until what it finds is decided.
    pub async fn scan(&self, caller: &Caller, account: Option<&str>, wait: Duration) -> Result<ScanAnswer, OpsError> {
        self.operator(caller)?;
        let missing = || OpsError::NotFound(format!("watched root of account `{}`", account.unwrap_or_default()));
        let roots = self.0.served.get().map(|served| served.roots.all()).unwrap_or_default();
        let wanted = roots.into_iter().filter(|(name, _)| account.is_none_or(|wanted| wanted == name));
        let views: Vec<(String, View)> = wanted.filter_map(|(name, watched)| Some((name, watched.ok()?))).collect();
        if views.is_empty() && account.is_some() {
            return Err(missing());
        }
        views.iter().for_each(|(_, view)| view.request_scan());
        let all = async {
            for (_, view) in &views {
                view.settled().await;
            }
        };
        let done = tokio::time::timeout(wait.min(SCAN_WAIT_MAX), all).await.is_ok();
        Ok(ScanAnswer { accounts: views.into_iter().map(|(name, _)| name).collect(), done })
    }

    /// Takes the directory that lies at an account's root now for the known one. The next scan tells what is missing in
    /// it as deleted.
    pub async fn accept_root(&self, caller: &Caller, account: &str) -> Result<(), OpsError> {
        self.operator(caller)?;
        let missing = || OpsError::NotFound(format!("watched root of account `{account}`"));
        let watched = self.0.served.get().and_then(|served| served.roots.of(account));
        let view = watched.and_then(Result::ok).ok_or_else(missing)?;
        let identity = view.root_identity();
        self.0.store.accept_root(self.account(account).await?.id, identity).await?;
        view.accept_root(identity);
        Ok(())
    }

    /// What is to be said if another directory than the known one lies at an account's root; `None` also if none does.
    pub async fn foreign_root(&self, account: &Account) -> Result<Option<String>, OpsError> {
        let known = self.0.store.root_identity(account.id).await?;
        let Some((known, root)) = known.zip(account.root.as_deref()) else { return Ok(None) };
        let foreign = identify(root).is_ok_and(|found| !known.is_same(&found));
        Ok(foreign.then(|| foreign_root(&account.name, root)))
    }

    /// What keeps filebell from doing all its work, without names.
    pub fn impediments(&self) -> Vec<String> {
        let roots = self.0.served.get().map(|served| served.roots.all()).unwrap_or_default();
        let unusable = roots.iter().filter(|(_, watched)| watched.is_err()).count();
        let all = roots.len();
        let text = || format!("{unusable} of {all} roots cannot be watched; `filebell status` says why");
        (unusable > 0).then(text).into_iter().collect()
    }

    /// Everything that is counted and measured: as OpenMetrics text, or in the older text format.
    pub async fn metrics(&self, open_metrics: bool) -> Result<String, OpsError> {
        let now = self.0.seams.now();
        let mut gauges = Gauges {
            watches_allowed: watches_allowed(),
            uptime: self.0.served.get().map_or(Duration::ZERO, |served| now.since(served.since)),
            ..Gauges::default()
        };
        let subscriptions = self.subscriptions().await?;
        for standing in self.0.store.standings().await? {
            let Some(one) = subscriptions.iter().find(|one| one.id == standing.subscription) else { continue };
            let protocol = one.protocol.kind().as_str();
            let states = [
                (NotificationState::Pending, standing.pending),
                (NotificationState::Delivered, standing.delivered),
                (NotificationState::Dead, standing.dead),
                (NotificationState::Superseded, standing.superseded),
            ];
            for (state, count) in states {
                *gauges.notifications.entry((protocol, state.as_str())).or_default() += count;
            }
            let oldest = standing.oldest_untold_at.map_or(Duration::ZERO, |at| now.since(at));
            gauges.oldest_untold = gauges.oldest_untold.max(oldest);
        }
        gauges.roots.extend(["live", "polling", "degraded", "unusable"].map(|state| (state, 0)));
        for (_, watched) in self.0.served.get().map(|served| served.roots.all()).unwrap_or_default() {
            let status = watched.ok().map(|view| view.status());
            let state = status.as_ref().map_or("unusable", |status| state_of(&status.state).0);
            *gauges.roots.entry(state).or_default() += 1;
            if let Some(status) = status {
                gauges.dirty_paths += status.dirty as u64;
                gauges.watches_used += status.watches as u64;
                gauges.scans_running += u64::from(status.scan.running);
                gauges.scan_directories += status.scan.directories;
                gauges.scan_files += status.scan.files;
                gauges.scan_differing += status.scan.differing;
                gauges.scan_expected += status.scan.expected.unwrap_or_default();
                gauges.scan_throttled += status.scan.throttled;
            }
        }
        let metrics = self.0.journal.metrics();
        Ok(if open_metrics { metrics.to_text(&gauges) } else { metrics.to_plain_text(&gauges) })
    }

    /// The way of one file: a path in the file system, or within `account`.
    pub async fn why(&self, caller: &Caller, path: &[u8], account: Option<&str>) -> Result<WhyReport, OpsError> {
        self.operator(caller)?;
        let mut report = WhyReport {
            path: String::from_utf8_lossy(path).into_owned(),
            account: None,
            answer: String::new(),
            ignored_by: None,
            source: None,
            writers: Vec::new(),
            events: Vec::new(),
        };
        let Some((account, path)) = self.locate(path, account).await? else {
            report.answer = "it lies outside every account's root: nobody looks there".to_owned();
            return Ok(report);
        };
        let watched = self.0.served.get().and_then(|served| served.roots.of(&account.name));
        let view = watched.as_ref().and_then(|watched| watched.clone().ok());
        report.account = Some(account.name.clone());
        report.ignored_by = match &view {
            Some(view) => view.ignored(&path),
            None => self.0.ignore.get().and_then(|ignore| ignore.rule(&path)),
        };
        report.source = watched.as_ref().map(seen_how);
        self.write_fetches().await;
        for event in self.0.store.file_events(account.id, path.clone(), EVENTS_SHOWN_MAX).await? {
            report.events.push(self.told(&event).await?);
        }
        let kept = self.0.store.file_at(account.id, path.clone()).await?.is_some();
        let now = look(view, path).await;
        report.writers = now.writers;
        report.answer = match (report.events.first(), now.waiting) {
            (_, Some(waiting)) => settling(waiting, &report.writers),
            (Some(event), None) => told(event),
            (None, None) if report.ignored_by.is_some() => {
                format!("its name is left out by the pattern `{}`", report.ignored_by.as_deref().unwrap_or_default())
            }
            (None, None) if kept => {
                "it was there before its root was first watched, and is known but not told".to_owned()
            }
            (None, None) => untold(now.lies, report.source.as_deref()),
        };
        Ok(report)
    }

    /// Who fetched the newest events of the file that lies, or last lay, at a path within an account's root: newest event
    /// first, then first fetch first.
    pub async fn fetches_of_file(
        &self,
        caller: &Caller,
        account: &str,
        path: FilePath,
    ) -> Result<Vec<FetchReport>, OpsError> {
        self.operator(caller)?;
        self.write_fetches().await;
        let mut fetches = Vec::new();
        let account = self.account(account).await?.id;
        for event in self.0.store.file_events(account, path, EVENTS_SHOWN_MAX).await? {
            fetches.extend(self.fetches_of_event(&event).await?);
        }
        Ok(fetches)
    }

    pub(super) fn operator(&self, caller: &Caller) -> Result<(), OpsError> {
        match caller {
            Caller::Operator => Ok(()),
            Caller::Application(_) | Caller::Account(_) => {
                Err(OpsError::NotGranted("what is the operator's".to_owned()))
            }
        }
    }

    fn source_report(&self, account: &Account) -> Option<SourceReport> {
        let root = account.root.as_ref()?;
        let mut report = SourceReport {
            account: account.name.clone(),
            root: root.display().to_string(),
            state: "not watched".to_owned(),
            reason: Some("no server runs on this data directory".to_owned()),
            dirty: 0,
            watches: 0,
            scan: ScanReport::default(),
            last_scan_at: None,
            last_probe_at: None,
        };
        let Some(served) = self.0.served.get() else { return Some(report) };
        report.reason = Some("it was added a moment ago".to_owned());
        match served.roots.of(&account.name) {
            None => (),
            Some(Err(why)) => (report.state, report.reason) = ("unusable".to_owned(), Some(why)),
            Some(Ok(view)) => report.fill(view.status()),
        }
        Some(report)
    }

    /// Which account's root a path lies beneath, and where there.
    async fn locate(&self, path: &[u8], account: Option<&str>) -> Result<Option<(Account, FilePath)>, OpsError> {
        let accounts = match account {
            Some(name) => vec![self.account(name).await?],
            None => self.accounts().await?,
        };
        let whole = Path::new(OsStr::from_bytes(path));
        let beneath = |account: &Account| {
            let root = account.root.as_deref()?;
            let real = std::fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
            let rest = whole.strip_prefix(root).or_else(|_| whole.strip_prefix(real)).ok()?;
            FilePath::from_bytes(&[b"/", rest.as_os_str().as_bytes()].concat()).ok()
        };
        // Where one root lies in another, the inner one is meant.
        let found = accounts.iter().filter_map(|one| Some((one.clone(), beneath(one)?)));
        if let Some(found) = found.min_by_key(|(_, path)| path.as_bytes().len()) {
            return Ok(Some(found));
        }
        match (account, accounts.into_iter().next()) {
            (Some(_), Some(one)) => Ok(Some((one, FilePath::from_bytes(path)?))),
            _ => Ok(None),
        }
    }

    async fn told(&self, event: &Event) -> Result<ToldReport, OpsError> {
        let mut sent = Vec::new();
        for subscription in self.subscriptions().await?.iter().filter(|one| one.account == event.account) {
            sent.push(self.sent(subscription, event).await?);
        }
        Ok(ToldReport {
            seq: event.seq.get(),
            id: event.id.to_string(),
            kind: event.kind.as_str().to_owned(),
            path: event.path.to_text().into_owned(),
            recorded_at: event.recorded_at.to_string(),
            completeness: event.completeness.map(|proof| proof.as_str().to_owned()),
            sent,
            fetched: self.fetches_of_event(event).await?,
        })
    }

    pub(super) async fn fetches_of_event(&self, event: &Event) -> Result<Vec<FetchReport>, OpsError> {
        let fetches = self.0.store.fetches_of(event.clone()).await?;
        let report = |fetch: Fetched| FetchReport {
            seq: event.seq.get(),
            by: fetch.reader,
            how: fetch.how,
            at: fetch.at.to_string(),
        };
        Ok(fetches.into_iter().map(report).collect())
    }

    async fn sent(&self, subscription: &Subscription, event: &Event) -> Result<SentReport, OpsError> {
        let mut report = SentReport {
            subscription: subscription.name.clone(),
            state: "not owed".to_owned(),
            notification: None,
            attempts: 0,
            last_attempt: None,
            next_at: None,
        };
        let wanted = |kind: EventKind, path: &FilePath| subscription.filter.wants(kind, path);
        if !wanted(event.kind, &event.path) {
            report.state = "not asked for".to_owned();
            return Ok(report);
        }
        let Some(notification) = self.0.store.covering(subscription.id, event.seq).await? else { return Ok(report) };
        report.state = notification.state.as_str().to_owned();
        report.notification = Some(notification.id.to_string());
        report.attempts = notification.attempts;
        if let Some(last) = self.0.store.attempts(notification.id).await?.pop() {
            let status = last.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
            let detail = last.detail.map(|detail| format!(": {detail}")).unwrap_or_default();
            report.last_attempt = Some(format!("{}: {status}{detail}", last.started_at));
        }
        if notification.state == NotificationState::Pending {
            report.next_at = match subscription.status {
                SubscriptionStatus::Active => Some(notification.due_at.to_string()),
                SubscriptionStatus::Paused | SubscriptionStatus::Disabled | SubscriptionStatus::Revoked => None,
            };
        }
        Ok(report)
    }
}

impl SourceReport {
    fn fill(&mut self, status: RootStatus) {
        let (state, reason) = state_of(&status.state);
        self.state = state.to_owned();
        self.reason = reason.map(str::to_owned);
        self.dirty = status.dirty as u64;
        self.watches = status.watches as u64;
        let scan = status.scan;
        self.scan = ScanReport {
            running: scan.running,
            directories: scan.directories,
            files: scan.files,
            differing: scan.differing,
            expected: scan.expected,
            throttled_ms: u64::try_from(scan.throttled.as_millis()).unwrap_or(u64::MAX),
        };
        self.last_scan_at = status.last_scan_finished_at.map(|at| at.to_string());
        self.last_probe_at = status.last_probe_at.map(|at| at.to_string());
    }
}

fn subscription_report(subscription: &Subscription, standing: &Standing) -> SubscriptionReport {
    let text = |at: Option<TimestampMs>| at.map(|at| at.to_string());
    SubscriptionReport {
        name: subscription.name.clone(),
        account: subscription.account_name.clone(),
        protocol: subscription.protocol.kind().as_str().to_owned(),
        status: subscription.status.as_str().to_owned(),
        status_reason: subscription.status_reason.clone(),
        pending: standing.pending,
        delivered: standing.delivered,
        dead: standing.dead,
        superseded: standing.superseded,
        oldest_untold_at: text(standing.oldest_untold_at),
        last_success_at: text(standing.last_success_at),
        last_failure_at: text(standing.last_failure_at),
        last_failure: standing.last_failure.clone(),
        unfetched_at: text(standing.unfetched_at),
    }
}

fn state_of(state: &RootState) -> (&'static str, Option<&str>) {
    match state {
        RootState::Live => ("live", None),
        RootState::Polling { reason } => ("polling", Some(reason)),
        RootState::Degraded { reason } => ("degraded", Some(reason)),
    }
}

fn seen_how(watched: &Watched) -> String {
    match watched {
        Err(why) => format!("unusable: {why}"),
        Ok(view) => {
            let status = view.status();
            let (state, reason) = state_of(&status.state);
            reason.map_or_else(|| state.to_owned(), |reason| format!("{state}: {reason}"))
        }
    }
}

/// What lies at a path now, and what is being done about it.
struct Now {
    lies: Lies,
    waiting: Option<Waiting>,
    writers: Vec<String>,
}

async fn look(view: Option<View>, path: FilePath) -> Now {
    let nothing = || Now { lies: Lies::Unknown, waiting: None, writers: Vec::new() };
    let Some(view) = view else { return nothing() };
    let looking = tokio::task::spawn_blocking(move || {
        let lies = view.lies(&path);
        let writers = match lies {
            Lies::File { dev, inode } => writers::writers((dev, inode)),
            Lies::Nothing | Lies::Unknown => Vec::new(),
        };
        let writers = writers.into_iter().map(|one| format!("{} (process {})", one.name, one.pid)).collect();
        Now { lies, waiting: view.waiting(&path), writers }
    });
    looking.await.unwrap_or_else(|_| nothing())
}

fn told(event: &ToldReport) -> String {
    let ToldReport { kind, seq, recorded_at, fetched, .. } = event;
    let fetched = match fetched.first() {
        Some(FetchReport { by, how, at, .. }) => format!("fetched first by {by} ({how}) at {at}"),
        None => "not fetched so far".to_owned(),
    };
    format!("{kind}: event {seq} of {recorded_at}, {fetched}")
}

pub(super) fn settling(waiting: Waiting, writers: &[String]) -> String {
    if !writers.is_empty() {
        return format!("it is being written by {}, and told when that is done", writers.join(", "));
    }
    match waiting {
        Waiting { orphaned: true, .. } => {
            "its writer was killed: it is told as orphaned, if nobody goes on with it for `watch.orphan_after`"
                .to_owned()
        }
        Waiting { failures: 1.., .. } => "it cannot be read, and is tried again; the log says why".to_owned(),
        Waiting { busy: 1.., .. } => "somebody is writing it, and it is told when that is done".to_owned(),
        Waiting { standing: true, .. } => "it is told when it has stood still for `watch.settle`".to_owned(),
        Waiting { .. } => "it was seen, and is about to be decided".to_owned(),
    }
}

fn untold(lies: Lies, source: Option<&str>) -> String {
    match (source, lies) {
        (None, _) => "nothing was told of it, and no server runs: it is looked at after the next start".to_owned(),
        (Some(_), Lies::Nothing) => "no file lies there, and nothing was told of one lately".to_owned(),
        (Some("live"), _) => "it lies there and was not noticed: `filebell scan` looks at once".to_owned(),
        (Some(source), _) => format!("it was not noticed yet, for its root is {source}"),
    }
}
