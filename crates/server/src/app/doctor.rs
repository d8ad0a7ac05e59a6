//! Looks at everything filebell depends on, and says in words what is wrong and what to do.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use filebell_core::endpoint::EndpointUrl;
use filebell_core::id::{Cursor, Seq};
use filebell_core::subscription::SubscriptionStatus;
use filebell_core::time::TimestampMs;
use futures_util::{StreamExt, stream};

use crate::config::Config;
use crate::delivery::{Policy, Verdict, judge};
pub use crate::ops::Finding;
use crate::ops::{Caller, ChangesRequest, Ops, OpsError};
use crate::seams::Seams;
use crate::source::folder::{Examined, examine};

/// Less free space than this is a problem.
const FREE_BYTES_MIN: u64 = 256 << 20;
/// More of a limit in use than this part in ten is a problem.
const USED_TENTHS_MAX: u64 = 9;
/// No clock that is right shows an earlier time: 2026-01-01.
const NOW_MIN: TimestampMs = TimestampMs::from_millis(1_767_225_600_000);
/// A clock that lags this much behind the newest event was set back.
const LAG_MAX: Duration = Duration::from_secs(60);
/// How long a host name may take to be resolved, and how many are asked for at once.
const LOOKUP_WITHIN: Duration = Duration::from_secs(5);
const LOOKUPS_AT_ONCE: usize = 16;

/// Looks at everything, in order. Changes nothing but for probe files that are removed at once.
pub async fn examine_all(config: &Config, seams: Seams) -> Vec<Finding> {
    let store = match config.data_dir.join("filebell.db").exists() {
        true => Some(known(config, seams.clone()).await),
        false => None,
    };
    look_at_all(config, store, seams.now()).await
}

/// The same for a server that has its store open.
pub(super) async fn examine_served(config: &Config, ops: &Ops, seams: &Seams) -> Vec<Finding> {
    let store = read(ops).await.map_err(|error| with_causes(&error));
    look_at_all(config, Some(store), seams.now()).await
}

async fn look_at_all(config: &Config, store: Option<Result<Known, String>>, now: TimestampMs) -> Vec<Finding> {
    let mut findings = vec![data_dir(&config.data_dir), disk_space(&config.data_dir)];
    let mut roots: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut endpoints: BTreeMap<String, String> = BTreeMap::new();
    for account in &config.accounts {
        roots.extend(account.root.clone().map(|root| (account.name.clone(), root)));
    }
    endpoints.extend(config.subscriptions.iter().map(|one| (one.name.clone(), one.url.clone())));
    if store.is_some() {
        findings.push(key(&config.data_dir));
    }
    match store {
        Some(Ok(known)) => {
            findings.push(Finding::well("the store opens"));
            findings.push(clock(now, known.newest_at));
            findings.extend(known.foreign.into_iter().map(|(account, what)| {
                let remedy = format!("mount its disk, or, while it is served: filebell scan --accept-root {account}");
                Finding::wrong(what, remedy)
            }));
            roots.extend(known.roots);
            endpoints.extend(known.endpoints);
        }
        Some(Err(why)) => findings.push(Finding::wrong(
            format!("the store cannot be used: {why}"),
            "restore the data directory from a backup, its `secret-key` included",
        )),
        None => findings.push(clock(now, None)),
    }
    for (account, root) in &roots {
        findings.extend(look_at_root(account, root));
    }
    findings.extend(limits());
    let looks = endpoints.iter().map(|(subscription, url)| endpoint(subscription, url, &config.egress));
    findings.extend(stream::iter(looks).buffered(LOOKUPS_AT_ONCE).collect::<Vec<_>>().await);
    findings
}

/// What the store knows that is to be looked at.
struct Known {
    roots: Vec<(String, PathBuf)>,
    endpoints: Vec<(String, String)>,
    newest_at: Option<TimestampMs>,
    /// Accounts at whose root another directory lies, and what is to be said of it.
    foreign: Vec<(String, String)>,
}

async fn known(config: &Config, seams: Seams) -> Result<Known, String> {
    let ops = super::open_ops(&config.data_dir, None, config.sagex3.clone(), seams).await;
    let ops = ops.map_err(|error| with_causes(&error))?;
    read(&ops).await.map_err(|error| with_causes(&error))
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

async fn read(ops: &Ops) -> Result<Known, OpsError> {
    let accounts = ops.accounts().await?;
    let mut foreign = Vec::new();
    for account in &accounts {
        foreign.extend(ops.foreign_root(account).await?.map(|what| (account.name.clone(), what)));
    }
    let subscriptions = ops.subscriptions().await?.into_iter();
    let newest = ops.status(&Caller::Operator).await?.store.newest_seq;
    let after = Cursor::after(Seq::new(newest.saturating_sub(1)));
    let request = ChangesRequest { after: Some(after), ..ChangesRequest::default() };
    let newest = ops.changes(&Caller::Operator, request).await?.events.pop();
    Ok(Known {
        roots: accounts.into_iter().filter_map(|account| Some((account.name, account.root?))).collect(),
        endpoints: subscriptions
            .filter(|one| one.status == SubscriptionStatus::Active)
            .map(|one| (one.name, one.endpoint.url().to_string()))
            .collect(),
        newest_at: newest.map(|event| event.recorded_at),
        foreign,
    })
}

fn data_dir(path: &Path) -> Finding {
    let shown = path.display();
    let about = match fs::metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Finding::well(format!("the data directory {shown} does not exist yet; `filebell serve` makes it"));
        }
        Err(error) => {
            return Finding::wrong(
                format!("the data directory {shown} cannot be looked at: {error}"),
                "give the user filebell runs as the right to enter the directories above it",
            );
        }
    };
    if let Err(error) = tempfile::Builder::new().prefix(".examine-").tempfile_in(path) {
        return Finding::wrong(
            format!("the data directory {shown} cannot be written to: {error}"),
            format!("run this as the user filebell runs as, who has to own it (uid {} does)", about.uid()),
        );
    }
    if about.permissions().mode() & 0o077 != 0 {
        return Finding::wrong(
            format!("others may read the data directory {shown}, which holds keys and names"),
            format!("chmod 700 {shown}"),
        );
    }
    Finding::well(format!("the data directory {shown} can be written to, and by nobody else"))
}

fn disk_space(data_dir: &Path) -> Finding {
    let there = data_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    match rustix::fs::statvfs(there) {
        Ok(space) => {
            let free = space.f_bavail.saturating_mul(space.f_frsize);
            let text = format!("{} MiB are free for the data directory", free >> 20);
            match free < FREE_BYTES_MIN {
                true => Finding::wrong(text, "make room, or move the data directory; arrivals wait while it is full"),
                false => Finding::well(text),
            }
        }
        Err(error) => Finding::wrong(format!("the free space of the data directory is unknown: {error}"), "look by df"),
    }
}

fn key(data_dir: &Path) -> Finding {
    let path = data_dir.join("secret-key");
    match fs::metadata(&path) {
        Ok(about) if about.permissions().mode() & 0o077 != 0 => Finding::wrong(
            format!("others may read the key of the store, {}", path.display()),
            format!("chmod 600 {}", path.display()),
        ),
        Ok(_) => Finding::well("the key of the store is there"),
        Err(error) => Finding::wrong(
            format!("the key of the store, {}, is missing: {error}", path.display()),
            "restore it from a backup; without it the secrets of subscriptions have to be given anew",
        ),
    }
}

fn clock(now: TimestampMs, newest: Option<TimestampMs>) -> Finding {
    if now < NOW_MIN {
        return Finding::wrong(format!("the clock says {now}, which is past"), "set it, by NTP best");
    }
    match newest.filter(|newest| now.after(LAG_MAX) < *newest) {
        Some(newest) => Finding::wrong(
            format!("the clock says {now}, but the newest event was recorded at {newest}"),
            "it was set back: set it right, or receivers refuse signatures as too old",
        ),
        None => Finding::well(format!("the clock says {now}")),
    }
}

fn look_at_root(account: &str, root: &Path) -> Vec<Finding> {
    let named = format!("the root of account {account}, {},", root.display());
    match examine(root) {
        Err(error) => vec![Finding::wrong(format!("{named} cannot be watched"), with_causes(&error))],
        Ok(Examined { blind: Some(name), .. }) => vec![Finding::well(format!(
            "{named} lies on {name}: it is polled, and a file is told when it has stood still"
        ))],
        Ok(Examined { leases: Some(true), .. }) => {
            vec![Finding::well(format!("{named} can be read, and a lease proves when writing has ended"))]
        }
        Ok(Examined { leases: Some(false), .. }) => vec![Finding::well(format!(
            "{named} can be read; no lease can be had there, so a file is told when it has stood still"
        ))],
        Ok(Examined { leases: None, .. }) => vec![Finding::well(format!(
            "{named} can be read; no file may be made there, so whether a lease can be had shows with the first file"
        ))],
    }
}

/// The limits on watching, of the user this runs as.
fn limits() -> Vec<Finding> {
    let used = InotifyUse::now();
    let look = |name: &str, used: u64, what: &str| {
        let text = fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?;
        let allowed: u64 = text.trim().parse().ok()?;
        let text = format!("{used} of {allowed} {what} are in use");
        let near = used.saturating_mul(10) >= allowed.saturating_mul(USED_TENTHS_MAX);
        let remedy =
            || format!("sysctl fs.inotify.{name}={}, and write it to /etc/sysctl.d", allowed.saturating_mul(4));
        Some(if near { Finding::wrong(text, remedy()) } else { Finding::well(text) })
    };
    [
        look("max_user_watches", used.watches, "watches of this user"),
        look("max_user_instances", used.instances, "inotify instances of this user"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What the processes hold that may be looked into: those of the same user.
#[derive(Default)]
struct InotifyUse {
    instances: u64,
    watches: u64,
}

impl InotifyUse {
    fn now() -> Self {
        let mut used = Self::default();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let own = rustix::process::geteuid().as_raw();
        for process in processes.filter(|process| process.metadata().is_ok_and(|about| about.uid() == own)) {
            for descriptor in fs::read_dir(process.path().join("fdinfo")).into_iter().flatten().flatten() {
                let target = fs::read_link(process.path().join("fd").join(descriptor.file_name()));
                if target.is_ok_and(|target| target.as_os_str() == "anon_inode:inotify") {
                    let text = fs::read_to_string(descriptor.path()).unwrap_or_default();
                    used.instances += 1;
                    used.watches += text.lines().filter(|line| line.starts_with("inotify ")).count() as u64;
                }
            }
        }
        used
    }
}

async fn endpoint(subscription: &str, url: &str, policy: &Policy) -> Finding {
    let named = format!("the endpoint of subscription {subscription}, {url},");
    let url = match url.parse::<EndpointUrl>() {
        Ok(url) => url,
        Err(error) => return Finding::wrong(format!("{named} cannot be used"), error.to_string()),
    };
    let port = url.url().port_or_known_default().unwrap_or(443);
    let host = url.host().trim_matches(['[', ']']).to_owned();
    let lookup = tokio::time::timeout(LOOKUP_WITHIN, tokio::net::lookup_host((host.as_str(), port)));
    let addresses: Vec<_> = match lookup.await {
        Ok(Ok(addresses)) => addresses.map(|address| address.ip()).collect(),
        Err(_) => {
            return Finding::wrong(format!("{named} cannot be resolved: no answer"), "see whether DNS works here");
        }
        Ok(Err(error)) => {
            return Finding::wrong(format!("{named} cannot be resolved: {error}"), "correct its host name, or DNS");
        }
    };
    for address in &addresses {
        match judge(*address, policy) {
            Verdict::Forbidden(what) => {
                return Finding::wrong(
                    format!("{named} is at {address}, {what}, where nothing is sent"),
                    format!("if that is meant: [egress] allow_networks = [\"{address}\"] in the configuration"),
                );
            }
            Verdict::Public if url.url().scheme() == "http" && !policy.allow_http => {
                return Finding::wrong(
                    format!("{named} would be told without TLS"),
                    "give an https:// URL, or set [egress] allow_http = true",
                );
            }
            Verdict::Public | Verdict::Allowed => (),
        }
    }
    match addresses.first() {
        Some(address) => Finding::well(format!("{named} is at {address}, which may be told")),
        None => Finding::wrong(format!("{named} has no address"), "correct its host name, or DNS"),
    }
}
