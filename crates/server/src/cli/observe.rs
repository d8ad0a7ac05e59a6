//! Looking on: `status`, `scan`, `tail`, `why`, `doctor`.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use filebell::app::doctor::{Finding, examine_all};
use filebell::app::open_ops;
use filebell::config::Config;
use filebell::ops::{Caller, ChangesRequest, FindingReport, Ops, ScanAnswer, SourceReport, StatusReport, WhyReport};
use filebell::seams::Seams;
use filebell_core::event::Event;
use filebell_core::id::{Cursor, Seq};
use serde::Serialize;

use super::output::{Output, table};
use super::server::Server;
use super::{Global, must_exist};

/// `tail` begins so many events back.
const TAIL_EVENTS: i64 = 10;
/// How often `tail --follow` looks.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);
/// How often the progress of a scan is shown.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// How wide the bar of a scan is.
const BAR_WIDTH: u64 = 30;
/// `scan --wait` gives up after a day.
const SCAN_WAIT: &str = "86400";

#[derive(Args)]
#[command(after_help = "\
Asks the server that watches; the answer comes when it has begun, or with --wait when all that was found is decided.

Examples:
  filebell scan --account test2 --wait
  filebell scan --accept-root test2")]
pub(super) struct ScanArgs {
    /// Only this account's root
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Take the directory that lies at this account's root now for the right one: what is missing in it was deleted
    #[arg(long, value_name = "NAME", conflicts_with = "account")]
    accept_root: Option<String>,
    /// Wait until everything that was found is decided
    #[arg(long)]
    wait: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  filebell tail --follow
  filebell tail --account test2 --after 0 --json")]
pub(super) struct TailArgs {
    /// Only this account's events
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Begin after this cursor, or after the event of this number; 0 is the beginning [default: ten events back]
    #[arg(long, value_name = "CURSOR", value_parser = cursor)]
    after: Option<Cursor>,
    /// Go on as events come
    #[arg(long, short)]
    follow: bool,
}

/// A cursor, or the number of an event.
fn cursor(text: &str) -> Result<Cursor, filebell_core::id::NotAnId> {
    match text.parse::<i64>() {
        Ok(seq) => Ok(Cursor::after(Seq::new(seq.max(0)))),
        Err(_) => text.parse(),
    }
}

#[derive(Args)]
#[command(after_help = "\
Says whether a file was told, to whom and when, or why not: left out by a pattern, being written, outside every root,
or in a root that is not seen well.

Examples:
  filebell why /srv/files/test2/SEED/result.txt
  filebell why --account test2 /SEED/result.txt")]
pub(super) struct WhyArgs {
    /// The file, in the file system; or within --account
    path: PathBuf,
    /// The account, where the path does not say it
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
}

/// Operations on the store, where there is one.
async fn open(config: &Config) -> anyhow::Result<Ops> {
    must_exist(config)?;
    let ops = open_ops(&config.data_dir, config.public_url.clone(), config.sagex3.clone(), Seams::real()).await?;
    ops.leaving_out(&config.watch.ignore)?;
    Ok(ops)
}

/// From the server if one runs, else from the store.
async fn report(config: &Config) -> anyhow::Result<StatusReport> {
    match Server::find(config)? {
        Some(server) => server.get("/api/v1/status", &[]).await,
        None => Ok(open(config).await?.status(&Caller::Operator).await?),
    }
}

pub(super) async fn status(global: &Global, out: &Output) -> anyhow::Result<()> {
    let report = report(&global.load(Vec::new(), false)?).await?;
    out.result(&report, || status_text(&report))
}

fn status_text(report: &StatusReport) -> String {
    let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let head = match &report.server {
        Some(server) => format!("filebell {} has been running since {}", report.version, server.started_at),
        None => "no server runs on this data directory; this is what its store says".to_owned(),
    };
    let sources: Vec<[String; 7]> = report
        .sources
        .iter()
        .map(|one| {
            [
                one.account.clone(),
                one.root.clone(),
                one.state.clone(),
                one.dirty.to_string(),
                one.watches.to_string(),
                if one.scan.running { progress(std::slice::from_ref(one)) } else { dash(&one.last_scan_at) },
                dash(&one.reason),
            ]
        })
        .collect();
    let subscriptions: Vec<[String; 9]> = report
        .subscriptions
        .iter()
        .map(|one| {
            let unfetched = one.unfetched_at.as_ref().map(|at| format!("told but never fetched, last rung {at}"));
            let reason = one.status_reason.clone().or(unfetched);
            let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            let failure = match (&one.last_failure_at, &one.last_failure) {
                (Some(at), Some(why)) => format!("{at} {why}"),
                (at, _) => dash(at),
            };
            [
                one.name.clone(),
                one.account.clone(),
                one.protocol.clone(),
                format!("{}{reason}", one.status),
                one.pending.to_string(),
                one.dead.to_string(),
                one.delivered.to_string(),
                dash(&one.oldest_untold_at),
                format!("{} / {failure}", dash(&one.last_success_at)),
            ]
        })
        .collect();
    let sources = table(["ACCOUNT", "ROOT", "STATE", "WAITING", "WATCHES", "LAST SCAN", "REASON"], &sources);
    let heads =
        ["SUBSCRIPTION", "ACCOUNT", "PROTOCOL", "STATUS", "PENDING", "DEAD", "DELIVERED", "OLDEST", "LAST OK / BAD"];
    let newest = report.store.newest_seq;
    format!("{head}; the newest event is {newest}\n\n{sources}\n\n{}", table(heads, &subscriptions))
}

fn progress(sources: &[SourceReport]) -> String {
    let sum = |number: fn(&SourceReport) -> u64| sources.iter().map(number).sum::<u64>();
    let (files, directories) = (sum(|one| one.scan.files), sum(|one| one.scan.directories));
    let waited = Duration::from_millis(sum(|one| one.scan.throttled_ms)).as_secs();
    let waited = if waited > 0 { format!(", gave way to arrivals for {waited} s") } else { String::new() };
    format!("{files} files in {directories} directories, {} differ{waited}", sum(|one| one.scan.differing))
}

/// How far all scans together are, if it is known how far they have to go.
fn bar(sources: &[SourceReport]) -> Option<String> {
    let mut running = sources.iter().filter(|one| one.scan.running);
    let (mut done, mut expected) = (0_u64, 0_u64);
    running.try_for_each(|one| {
        done = done.saturating_add(one.scan.files);
        // There may be more by now.
        expected = expected.saturating_add(one.scan.expected?.max(one.scan.files));
        Some(())
    })?;
    let percent = done.saturating_mul(100).checked_div(expected)?;
    let filled = usize::try_from(percent.saturating_mul(BAR_WIDTH) / 100).unwrap_or(0);
    let (full, width) = ("#".repeat(filled), usize::try_from(BAR_WIDTH).unwrap_or(0));
    Some(format!("[{full:<width$}] {percent} %, "))
}

pub(super) async fn scan(args: ScanArgs, global: &Global, out: &Output) -> anyhow::Result<()> {
    let server = Server::need(&global.load(Vec::new(), false)?)?;
    let accept: &[u8] = if args.accept_root.is_some() { b"true" } else { b"false" };
    let account = args.account.or(args.accept_root);
    let wait = if args.wait { SCAN_WAIT } else { "0" };
    let named = account.as_deref().unwrap_or_default().as_bytes();
    let query = [("account", named), ("wait", wait.as_bytes()), ("accept_root", accept)];
    let asked = server.post("/api/v1/scan", &query);
    let answer: ScanAnswer = if args.wait && io::stderr().is_terminal() {
        tokio::select! {
            answer = asked => answer,
            () = show_progress(&server, account.as_deref()) => anyhow::bail!("no progress can be shown"),
        }
    } else {
        asked.await
    }?;
    out.result(&answer, || {
        let accounts = answer.accounts.join(", ");
        if answer.done { format!("scanned: {accounts}") } else { format!("a scan was asked for: {accounts}") }
    })
}

/// Shows how far the scans are, on one line, until it is dropped.
async fn show_progress(server: &Server, account: Option<&str>) {
    struct Line;
    impl Drop for Line {
        fn drop(&mut self) {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
    let _line = Line;
    let mut before: Option<(Instant, u64)> = None;
    loop {
        tokio::time::sleep(PROGRESS_EVERY).await;
        // A status that cannot be had is shown as nothing; the scan itself says what is wrong.
        if let Ok(mut report) = server.get::<StatusReport>("/api/v1/status", &[]).await {
            report.sources.retain(|one| account.is_none_or(|account| account == one.account));
            let (now, files) = (Instant::now(), report.sources.iter().map(|one| one.scan.files).sum::<u64>());
            let rate = before.and_then(|(at, then)| {
                let millis = u64::try_from(now.duration_since(at).as_millis()).ok()?;
                let rate = files.checked_sub(then)?.saturating_mul(1000).checked_div(millis)?;
                Some(format!(", {rate} files/s"))
            });
            before = Some((now, files));
            let (bar, rate) = (bar(&report.sources).unwrap_or_default(), rate.unwrap_or_default());
            let _ = write!(io::stderr().lock(), "\r\x1b[K{bar}{}{rate}", progress(&report.sources));
        }
    }
}

#[derive(Serialize)]
struct EventLine {
    seq: i64,
    id: String,
    kind: &'static str,
    account: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    previous_path: Option<String>,
    size: Option<u64>,
    sha256: Option<String>,
    recorded_at: String,
    user: String,
    source: &'static str,
    completeness: Option<&'static str>,
}

impl EventLine {
    fn new(event: &Event, account: String) -> Self {
        Self {
            seq: event.seq.get(),
            id: event.id.to_string(),
            kind: event.kind.as_str(),
            account,
            path: event.path.to_text().into_owned(),
            path_base64: event.path.as_utf8().is_none().then(|| STANDARD.encode(event.path.as_bytes())),
            previous_path: event.previous_path.as_ref().map(|path| path.to_text().into_owned()),
            size: event.version.map(|version| version.size),
            sha256: event.version.map(|version| hex::encode(version.sha256)),
            recorded_at: event.recorded_at.to_string(),
            user: event.user.clone(),
            source: event.source.as_str(),
            completeness: event.completeness.map(|proof| proof.as_str()),
        }
    }

    fn to_text(&self) -> String {
        let from = self.previous_path.as_ref().map(|path| format!(" (was {})", path.escape_debug()));
        let size = self.size.map(|size| format!(", {size} bytes")).unwrap_or_default();
        let proof = self.completeness.map(|proof| format!(", {proof}")).unwrap_or_default();
        format!(
            "{:>8}  {}  {:<7}  {}  {}{}{size}{proof}",
            self.seq,
            self.recorded_at,
            self.kind,
            self.account,
            self.path.escape_debug(),
            from.unwrap_or_default()
        )
    }
}

/// Straight on the store, also while a server runs on it.
pub(super) async fn tail(args: TailArgs, global: &Global, out: &Output) -> anyhow::Result<()> {
    let ops = open(&global.load(Vec::new(), false)?).await?;
    let mut after = match args.after {
        Some(after) => after,
        None => {
            let newest = ops.status(&Caller::Operator).await?.store.newest_seq;
            Cursor::after(Seq::new(newest.saturating_sub(TAIL_EVENTS).max(0)))
        }
    };
    loop {
        let request = ChangesRequest { account: args.account.clone(), after: Some(after), ..ChangesRequest::default() };
        let changes = ops.changes(&Caller::Operator, request).await?;
        let name_of = ops.account_names().await?;
        for event in &changes.events {
            let line = EventLine::new(event, name_of(event.account));
            out.result(&line, || line.to_text())?;
        }
        after = changes.next;
        match (changes.more, args.follow) {
            (true, _) => (),
            (false, true) => tokio::time::sleep(FOLLOW_EVERY).await,
            (false, false) => return Ok(()),
        }
    }
}

pub(super) async fn why(args: WhyArgs, global: &Global, out: &Output) -> anyhow::Result<()> {
    let config = global.load(Vec::new(), false)?;
    let path = match &args.account {
        Some(_) => args.path.clone(),
        None => whole(&args.path)?,
    };
    let path = path.as_os_str().as_bytes();
    let report: WhyReport = match Server::find(&config)? {
        Some(server) => {
            let account = args.account.as_deref().unwrap_or_default().as_bytes();
            server.get("/api/v1/why", &[("path", path), ("account", account)]).await?
        }
        None => open(&config).await?.why(&Caller::Operator, path, args.account.as_deref()).await?,
    };
    out.result(&report, || why_text(&report))
}

/// The path from the root of the file system on, its directory without links; the file need not be there.
fn whole(path: &Path) -> anyhow::Result<PathBuf> {
    let path = std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))?;
    let real =
        path.parent().zip(path.file_name()).and_then(|(parent, name)| Some(parent.canonicalize().ok()?.join(name)));
    Ok(real.unwrap_or(path))
}

fn why_text(report: &WhyReport) -> String {
    let mut lines = vec![format!("{}: {}", report.path.escape_debug(), report.answer)];
    if let Some(account) = &report.account {
        let source = report.source.as_ref().map(|source| format!(", whose root is {source}")).unwrap_or_default();
        lines.push(format!("  account {account}{source}"));
    }
    lines.extend(report.ignored_by.as_ref().map(|pattern| format!("  ignored by the pattern `{pattern}`")));
    lines.extend(report.writers.iter().map(|writer| format!("  open for writing by {writer}")));
    for event in &report.events {
        let proof = event.completeness.as_ref().map(|proof| format!(", {proof}")).unwrap_or_default();
        let (kind, seq, at, path) = (&event.kind, event.seq, &event.recorded_at, event.path.escape_debug());
        lines.push(format!("  {at}  {kind} {path}{proof}: event {seq}, {}", event.id));
        for sent in &event.sent {
            let notification = sent.notification.as_ref().map(|id| format!(" by {id}")).unwrap_or_default();
            let attempts = match sent.attempts {
                0 => String::new(),
                1 => ", 1 attempt".to_owned(),
                more => format!(", {more} attempts"),
            };
            let last = sent.last_attempt.as_ref().map(|last| format!(", last {last}")).unwrap_or_default();
            let next = sent.next_at.as_ref().map(|next| format!(", next at {next}")).unwrap_or_default();
            lines.push(format!("    {}: {}{notification}{attempts}{last}{next}", sent.subscription, sent.state));
        }
        let fetched = event.fetched.iter().map(|one| format!("    fetched by {} ({}) at {}", one.by, one.how, one.at));
        lines.extend(fetched);
    }
    lines.join("\n")
}

pub(super) async fn doctor(global: &Global, out: &Output) -> anyhow::Result<()> {
    let config = global.load(Vec::new(), false)?;
    // What a configuration file says can be looked at before the first start.
    if global.data_dir.is_some() || global.config.is_none() {
        must_exist(&config)?;
    }
    let findings = findings(&config).await;
    out.result(&findings, || {
        let line = |one: &FindingReport| match &one.remedy {
            None => format!("ok       {}", one.what),
            Some(remedy) => format!("PROBLEM  {}\n         do: {remedy}", one.what),
        };
        findings.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    match findings.iter().filter(|one| !one.ok).count() {
        0 => Ok(()),
        1 => anyhow::bail!("there is a problem"),
        more => anyhow::bail!("there are {more} problems"),
    }
}

/// What the server finds by its own configuration; where none runs, or it does not say, what is found by this one.
async fn findings(config: &Config) -> Vec<FindingReport> {
    let server = match Server::find(config) {
        Ok(Some(server)) => server,
        Ok(None) => return found_here(config, Finding::well("no server runs on the data directory")).await,
        Err(error) => {
            return vec![Finding::wrong(format!("{error:#}"), "run this with the server's configuration").into()];
        }
    };
    match server.post::<Vec<FindingReport>>("/api/v1/examine", &[]).await {
        Ok(mut findings) => {
            findings.push(Finding::well("the server answers").into());
            findings
        }
        Err(error) => {
            let remedy = "look into its log; restart it if it hangs";
            found_here(config, Finding::wrong(format!("{error:#}"), remedy)).await
        }
    }
}

async fn found_here(config: &Config, of_the_server: Finding) -> Vec<FindingReport> {
    let found = examine_all(config, Seams::real()).await;
    found.into_iter().chain([of_the_server]).map(FindingReport::from).collect()
}

#[cfg(test)]
mod tests {
    use filebell::ops::ScanReport;

    use super::*;

    fn source(running: bool, files: u64, expected: Option<u64>) -> SourceReport {
        SourceReport {
            account: String::new(),
            root: String::new(),
            state: String::new(),
            reason: None,
            dirty: 0,
            watches: 0,
            scan: ScanReport { running, files, expected, ..ScanReport::default() },
            last_scan_at: None,
            last_probe_at: None,
        }
    }

    #[test]
    fn a_bar_is_shown_where_the_end_is_known() {
        let bar = |sources: &[SourceReport]| bar(sources).unwrap_or_default();
        assert_eq!(bar(&[source(true, 50, Some(100))]), "[###############               ] 50 %, ");
        assert_eq!(bar(&[source(true, 5, Some(10)), source(false, 900, Some(900))]), bar(&[source(true, 5, Some(10))]));
        assert_eq!(bar(&[source(true, 20, Some(10))]), format!("[{}] 100 %, ", "#".repeat(30)));
        for unknown in [source(true, 50, None), source(false, 50, Some(50)), source(true, 0, Some(0))] {
            assert_eq!(bar(&[unknown]), "");
        }
    }
}
