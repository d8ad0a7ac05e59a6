//! A watched directory tree.
//!
//! Hints from the kernel (`watch.rs`) and walks (`scan.rs`) only mark paths dirty. The decider (`decide.rs`) alone turns
//! a dirty path into a claim, by comparing the file with its stored row. So a lost, doubled or wrong hint costs time,
//! never a file.

mod decide;
mod dir;
mod dirty;
mod ignore;
mod lease;
mod mounts;
mod root;
mod scan;
mod status;
#[cfg(test)]
mod tests;
mod view;
mod watch;
mod witness;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use filebell_core::arrival::Fingerprint;
use filebell_core::id::AccountId;
use filebell_core::root::{KnownRoot, RootIdentity};
use filebell_core::time::TimestampMs;
use rustix::io::Errno;
use tokio::runtime::Handle;

pub use ignore::Ignore;
pub use status::{RootState, RootStatus, ScanProgress};
pub use view::{Examined, Lies, View, Waiting, examine};

use crate::journal::{Journal, JournalError};
use dirty::{Dirty, Hint, Lane};
use root::Root;
use status::Status;

/// How coarse the clock of a file system may be: a file changed this much before the root was first seen may have
/// been changed after.
const CLOCK_GRAIN_NS: i64 = 10_000_000;

/// How a tree is watched.
#[derive(Debug, Clone)]
pub struct FolderConfig {
    /// How long a file has to stand still where no lease can prove that writing has ended; also the least time
    /// between two walks of what is polled.
    pub settle: Duration,
    /// Extra wait after the end of writing, for writers that close and go on.
    pub quiet: Duration,
    /// How long a file whose writer was killed waits for another one to go on with it.
    pub orphan_after: Duration,
    /// What is told of the files a new root comes with.
    pub existing: Existing,
    /// The time between two walks of a tree that is watched.
    pub rescan: Duration,
    /// Whether to watch or to walk.
    pub mode: Mode,
    /// Names that are left out.
    pub ignore: Ignore,
}

/// What is told of the files that were in a new root before it was watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Nothing.
    None,
    /// All of them.
    All,
    /// Those last written at or after this time.
    Since(TimestampMs),
}

/// Whether to watch or to walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Watch, but walk where changes raise no event (network, FUSE and overlay file systems).
    Auto,
    /// Watch.
    Inotify,
    /// Walk.
    Poll,
}

/// Why a root cannot be watched at all.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// There is no such directory.
    #[error("the root {0} does not exist: make the directory, or correct `root`")]
    Missing(PathBuf),
    /// It is something else.
    #[error("the root {0} is not a directory: give a directory as `root`")]
    NotADirectory(PathBuf),
    /// It may not be read.
    #[error("the root {0} cannot be read: give the user filebell runs as the right to list and enter it")]
    Denied(PathBuf),
    /// The kernel lacks openat2.
    #[error("this kernel has no openat2, which keeps every path below its root: Linux 5.6 or newer is needed")]
    Kernel,
    /// Another refusal of the system.
    #[error("the root {root} cannot be opened")]
    System {
        /// Which.
        root: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// The journal does not answer.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// The running source of one account's root.
pub struct Folder {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads of a root share.
struct Shared {
    account: AccountId,
    user: String,
    config: FolderConfig,
    root: Root,
    dirty: Dirty,
    status: Status,
    watch: watch::Bell,
    scan: scan::Bell,
    witness: witness::Witness,
    journal: Journal,
    runtime: Handle,
    first_seen_at: TimestampMs,
    baseline_done: AtomicBool,
    known: KnownRoot,
    /// Since when this directory is worked with: milliseconds since the epoch.
    root_since: AtomicI64,
    stopped: AtomicBool,
}

impl Folder {
    /// Starts watching a root of which this is `known`; the threads it makes end with [`Folder::stop`], or soon after
    /// it is dropped.
    pub async fn start(
        account: AccountId,
        account_name: String,
        root: &Path,
        known: KnownRoot,
        config: FolderConfig,
        journal: Journal,
    ) -> Result<Self, RootError> {
        let refused = |error| RootError::new(root, error);
        let root = Root::find(root, known.identity).map_err(refused)?;
        // Asked before anything is watched: what comes from now on is news.
        let state = journal.root_state(account).await?;
        let shared = Arc::new(Shared {
            account,
            user: account_name,
            dirty: Dirty::new(config.quiet),
            config,
            watch: watch::Bell::new().map_err(refused)?,
            root,
            status: Status::default(),
            scan: scan::Bell::default(),
            witness: witness::Witness::default(),
            journal,
            runtime: Handle::current(),
            first_seen_at: state.first_seen_at,
            baseline_done: AtomicBool::new(state.baseline_done),
            known,
            root_since: AtomicI64::new(0),
            stopped: AtomicBool::new(false),
        });
        shared.look_at_root();
        let mut folder = Self { shared, threads: Vec::new() };
        folder.spawn("watch", watch::run)?;
        folder.spawn("scan", scan::run)?;
        folder.spawn("witness", witness::run)?;
        folder.spawn("decide", |shared| decide::run(shared, Lane::Quick))?;
        folder.spawn("decide-large", |shared| decide::run(shared, Lane::Large))?;
        folder.spawn("decide-huge", |shared| decide::run(shared, Lane::Huge))?;
        Ok(folder)
    }

    fn spawn(&mut self, name: &str, work: fn(&Arc<Shared>)) -> Result<(), RootError> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&shared));
        let root = self.shared.root.path().to_owned();
        self.threads.push(thread.map_err(|error| RootError::System { root, error })?);
        Ok(())
    }

    /// Asks for a scan of the whole tree, soon.
    pub fn request_scan(&self) {
        self.shared.watch.rescan();
    }

    /// Waits until everything that happened in a watched tree before this call, and everything a scan under way finds,
    /// was decided. A file somebody is writing is not waited for.
    pub async fn settled(&self) {
        self.shared.settled().await;
    }

    /// What the root says of itself.
    pub fn status(&self) -> RootStatus {
        self.shared.status.report(self.shared.dirty.len())
    }

    /// Stops watching. A commit under way comes to its end; what is not decided yet is found by the next start.
    pub async fn stop(mut self) {
        self.shared.stop();
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a thread of a watched folder has panicked");
                }
            }
        });
        // As above: no runtime, nobody who waits.
        let _ = joined.await;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl Shared {
    async fn settled(self: &Arc<Self>) {
        let shared = Arc::clone(self);
        // It fails only if the runtime is going down, and then nobody waits for the answer.
        let _ = tokio::task::spawn_blocking(move || {
            shared.watch.wait_drained();
            shared.scan.wait_idle();
            shared.dirty.wait_decided();
        })
        .await;
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.dirty.stop();
        self.scan.stop();
        self.witness.stop();
        self.watch.wake();
    }

    /// Says so if another directory than the known one lies at the root.
    fn look_at_root(&self) {
        self.root_since.store(self.journal.now().as_millis(), Ordering::Relaxed);
        let reason = (!self.root.is_known()).then(|| foreign_root(&self.user, self.root.path()));
        self.status.set(&self.user, |conditions| conditions.foreign = reason);
    }

    /// Whether a file that nothing but the first scan has found is what a new root came with and is not to be told.
    /// What lies where an interrupted first scan had been, and is not known from it, has come since.
    fn is_baseline(&self, path: &[u8], print: &Fingerprint) -> bool {
        let passed = self.known.reached.as_ref().is_some_and(|reached| path <= reached.as_bytes());
        let old = self.writes_baseline() && !passed && self.is_before_first_seen(print.ctime_ns);
        match self.config.existing {
            Existing::None => old,
            Existing::Since(time) => old && print.mtime_ms() < time.as_millis(),
            Existing::All => false,
        }
    }

    /// What is hinted at what is known below a directory that went. In another root than the known one it may be of a
    /// file that never lay there.
    fn below_moved(&self) -> Hint {
        if self.root.is_known() { Hint::Vanished } else { Hint::Missing }
    }

    fn is_before_first_seen(&self, time_ns: i64) -> bool {
        time_ns < self.first_seen_at.as_millis().saturating_mul(1_000_000).saturating_sub(CLOCK_GRAIN_NS)
    }

    /// Whether the first scan may still find files that are not to be told.
    fn writes_baseline(&self) -> bool {
        self.config.existing != Existing::All && !self.baseline_done.load(Ordering::Relaxed)
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// Which directory lies at a path that is to be a root.
pub fn identify(root: &Path) -> Result<RootIdentity, RootError> {
    root::identify(root).map_err(|error| RootError::new(root, error))
}

/// What is to be said, and done, about a root that is another directory than the known one.
pub fn foreign_root(account: &str, root: &Path) -> String {
    format!(
        "another directory than the one that is known lies at {}: what it holds is told, but nothing that is missing in \
         it is told as deleted; if its disk is not mounted, mount it; if it was replaced on purpose, run: filebell scan \
         --accept-root {account}",
        root.display()
    )
}

impl RootError {
    fn of(root: &Path, error: std::io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(errno) => Self::new(root, errno),
            None => Self::System { root: root.to_owned(), error },
        }
    }

    fn new(root: &Path, error: Errno) -> Self {
        let root = root.to_owned();
        match error {
            Errno::NOENT => Self::Missing(root),
            Errno::NOTDIR => Self::NotADirectory(root),
            Errno::ACCESS | Errno::PERM => Self::Denied(root),
            Errno::NOSYS => Self::Kernel,
            _ => Self::System { root, error: error.into() },
        }
    }
}

/// A lock that outlives a panic elsewhere: what it guards is changed by single statements.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a change, at the longest until `until`.
fn wait_until<'a, T>(changed: &Condvar, guard: MutexGuard<'a, T>, until: Option<Instant>) -> MutexGuard<'a, T> {
    match until {
        None => changed.wait(guard).unwrap_or_else(PoisonError::into_inner),
        Some(until) => {
            let left = until.saturating_duration_since(Instant::now());
            changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
        }
    }
}
