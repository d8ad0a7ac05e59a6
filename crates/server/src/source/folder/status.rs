//! What a root can say of itself: how well it sees, and what it is doing.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use filebell_core::time::TimestampMs;

use super::dir::Dir;
use super::locked;

/// How well a root is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootState {
    /// Every change raises an event.
    Live,
    /// The tree is walked again and again instead, and why.
    Polling {
        /// For a person to read.
        reason: String,
    },
    /// Something is not seen, or only late, and why.
    Degraded {
        /// For a person to read.
        reason: String,
    },
}

/// What a root says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootStatus {
    /// How well it is seen.
    pub state: RootState,
    /// Paths that wait to be decided.
    pub dirty: usize,
    /// Directories that are watched.
    pub watches: usize,
    /// The scan under way, or the last one.
    pub scan: ScanProgress,
    /// When the last whole scan came to its end.
    pub last_scan_finished_at: Option<TimestampMs>,
    /// When the watch last saw a file of our own making.
    pub last_probe_at: Option<TimestampMs>,
}

/// How far a scan is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScanProgress {
    /// It is still under way.
    pub running: bool,
    /// Directories listed.
    pub directories: u64,
    /// Files seen.
    pub files: u64,
    /// Files that differed from their rows, and rows without a file.
    pub differing: u64,
    /// How many files are likely to be seen; `None` where nothing is known of that.
    pub expected: Option<u64>,
    /// How long it has given way to what waited to be decided.
    pub throttled: Duration,
}

/// Everything that can be wrong, each told by the one that notices.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    /// The root is gone, or another directory.
    pub(super) root: Option<String>,
    /// The journal refuses.
    pub(super) journal: Option<String>,
    /// Our own file raised no event.
    pub(super) probe: Option<String>,
    /// No watch at all.
    pub(super) polling: Option<String>,
    /// Another directory than the known one lies at the root.
    pub(super) foreign: Option<String>,
    /// Directories without a watch, with all below them, and why.
    pub(super) unwatched: BTreeMap<Dir, Unwatched>,
    /// What the last scan could not read: how many, and one of them.
    pub(super) unreadable: Option<(u64, String)>,
    watches: usize,
    scan: ScanProgress,
    last_scan_finished_at: Option<TimestampMs>,
    last_probe_at: Option<TimestampMs>,
}

/// Why a directory has no watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unwatched {
    /// The user's watches are used up.
    Limit,
    /// It lies on a file system of this name, on which changes made elsewhere raise no event.
    FileSystem(&'static str),
}

/// The conditions of one root, shared by its threads.
#[derive(Default)]
pub(super) struct Status(Mutex<Conditions>);

impl Status {
    /// Changes the conditions, and logs the state if it is another one then.
    pub(super) fn set<T>(&self, user: &str, change: impl FnOnce(&mut Conditions) -> T) -> T {
        let mut conditions = locked(&self.0);
        let before = conditions.state();
        let answer = change(&mut conditions);
        let after = conditions.state();
        drop(conditions);
        if before != after {
            match &after {
                RootState::Live => tracing::info!(account = user, "the root is live: every change raises an event"),
                RootState::Polling { reason } => tracing::info!(account = user, reason, "the root is polled"),
                RootState::Degraded { reason } => tracing::warn!(account = user, reason, "the root is degraded"),
            }
        }
        answer
    }

    /// Reads something from the conditions.
    pub(super) fn get<T>(&self, read: impl FnOnce(&Conditions) -> T) -> T {
        read(&locked(&self.0))
    }

    pub(super) fn scan(&self, progress: ScanProgress) {
        locked(&self.0).scan = progress;
    }

    pub(super) fn scan_finished(&self, at: TimestampMs) {
        locked(&self.0).last_scan_finished_at = Some(at);
    }

    pub(super) fn probed(&self, at: TimestampMs) {
        locked(&self.0).last_probe_at = Some(at);
    }

    pub(super) fn watches(&self, count: usize) {
        locked(&self.0).watches = count;
    }

    pub(super) fn report(&self, dirty: usize) -> RootStatus {
        let conditions = locked(&self.0);
        RootStatus {
            state: conditions.state(),
            dirty,
            watches: conditions.watches,
            scan: conditions.scan,
            last_scan_finished_at: conditions.last_scan_finished_at,
            last_probe_at: conditions.last_probe_at,
        }
    }
}

impl Conditions {
    /// Counts something that could not be read; only one of them is named.
    pub(super) fn note_unreadable(&mut self, example: impl FnOnce() -> String) {
        match &mut self.unreadable {
            Some((count, _)) => *count = count.saturating_add(1),
            None => self.unreadable = Some((1, example())),
        }
    }

    fn state(&self) -> RootState {
        let unreadable = || {
            self.unreadable
                .as_ref()
                .map(|(count, example)| format!("{count} names cannot be read, one of them {example}"))
        };
        let degraded = [&self.root, &self.journal, &self.probe, &self.foreign].into_iter().find_map(Clone::clone);
        if let Some(reason) = degraded.or_else(|| self.watches_used_up()).or_else(unreadable) {
            return RootState::Degraded { reason };
        }
        let partly = || {
            self.unwatched.iter().find_map(|(dir, why)| match why {
                Unwatched::FileSystem(name) => {
                    Some(format!("{dir} lies on {name}, where changes made elsewhere raise no event: it is polled"))
                }
                Unwatched::Limit => None,
            })
        };
        match self.polling.clone().or_else(partly) {
            Some(reason) => RootState::Polling { reason },
            None => RootState::Live,
        }
    }

    fn watches_used_up(&self) -> Option<String> {
        let mut without = self.unwatched.iter().filter(|(_, why)| **why == Unwatched::Limit);
        let (first, _) = without.next()?;
        let others = without.count();
        let allowed = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").unwrap_or_default();
        Some(format!(
            "the watches of this user are used up: {first} and {others} other directories are polled with all below \
             them; raise the sysctl fs.inotify.max_user_watches (now {})",
            allowed.trim()
        ))
    }
}
