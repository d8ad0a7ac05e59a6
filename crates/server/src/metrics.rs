//! What is counted and measured while filebell runs, and how it is shown to Prometheus.
//!
//! One value, made by the app and handed down; rooms hold a clone and add to it. What only the store or the sources
//! know is asked for when somebody scrapes, and comes in as [`Gauges`]. Every label has few values, and none is a name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use filebell_core::arrival::SourceKind;
use filebell_core::event::EventKind;
use filebell_core::retry::Outcome;
use filebell_core::subscription::ProtocolKind;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Histograms = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// Seconds from an arrival to its acceptance: from a millisecond to the three days after which a schedule ends. What
/// the store has of former days was counted by these bounds.
pub const DELIVERED_SECONDS: [f64; 17] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0, 3600.0, 21_600.0, 259_200.0];
/// Seconds of one attempt.
const ATTEMPT_SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];
/// Seconds of one commit.
const COMMIT_SECONDS: [f64; 11] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 1.0, 10.0];
/// Items in one commit.
const BATCH_ITEMS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// The counters. Cheap to clone; adding costs a few atomic operations.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    arrivals: Counters<2>,
    events: Counters<1>,
    attempts: Counters<2>,
    delivered_seconds: Histograms,
    attempt_seconds: Histograms,
    commit_seconds: Histograms,
    commit_items: Histograms,
    commit_failures: Counters<1>,
    unwritten_attempts: Counter,
    watch_overflows: Counter,
    /// What the history is made of: of all protocols together, and readable.
    failed: AtomicU64,
    took: [AtomicU64; DELIVERED_SECONDS.len() + 1],
}

/// How an arrival was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The kernel told of it.
    Watch,
    /// A walk came across it.
    Scan,
    /// It was brought by a request.
    Request,
}

impl Found {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Scan => "scan",
            Self::Request => "request",
        }
    }
}

/// What is committed in groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// Arrivals, with what is owed for them.
    Arrivals,
    /// Ended attempts, with what follows from them.
    Attempts,
}

impl Commit {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Arrivals => "arrivals",
            Self::Attempts => "attempts",
        }
    }
}

/// What is asked for when somebody scrapes.
#[derive(Debug, Clone, Default)]
pub struct Gauges {
    /// Notifications by protocol and state, as the store has them.
    pub notifications: BTreeMap<(&'static str, &'static str), u64>,
    /// How old the oldest event is that somebody has still to be told of; zero if there is none.
    pub oldest_untold: Duration,
    /// Roots by state: live, polling, degraded, or unusable.
    pub roots: BTreeMap<&'static str, u64>,
    /// Paths that wait to be decided.
    pub dirty_paths: u64,
    /// Directories that are watched.
    pub watches_used: u64,
    /// Watches this user may have, if the system says so.
    pub watches_allowed: Option<u64>,
    /// Scans under way.
    pub scans_running: u64,
    /// Directories listed by the scans under way, or else the last ones.
    pub scan_directories: u64,
    /// Files seen by them.
    pub scan_files: u64,
    /// Files among them that differed from their rows, and rows without a file.
    pub scan_differing: u64,
    /// Files they are likely to see, where that is known.
    pub scan_expected: u64,
    /// How long they have given way to what waited to be decided.
    pub scan_throttled: Duration,
    /// How long filebell has been running.
    pub uptime: Duration,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Everything at zero.
    pub fn new() -> Self {
        let mut inner = Inner {
            registry: Registry::with_prefix("filebell"),
            arrivals: Family::default(),
            events: Family::default(),
            attempts: Family::default(),
            delivered_seconds: Family::new_with_constructor(|| Histogram::new(DELIVERED_SECONDS)),
            attempt_seconds: Family::new_with_constructor(|| Histogram::new(ATTEMPT_SECONDS)),
            commit_seconds: Family::new_with_constructor(|| Histogram::new(COMMIT_SECONDS)),
            commit_items: Family::new_with_constructor(|| Histogram::new(BATCH_ITEMS)),
            commit_failures: Family::default(),
            unwritten_attempts: Counter::default(),
            watch_overflows: Counter::default(),
            failed: AtomicU64::new(0),
            took: Default::default(),
        };
        inner.register();
        for commit in [Commit::Arrivals, Commit::Attempts] {
            // Shown from the start: zero is what an alarm compares with.
            drop(inner.commit_failures.get_or_create(&[("of", commit.as_str())]));
        }
        Self(Arc::new(inner))
    }

    /// The journal took in so many arrivals.
    pub fn arrived(&self, source: SourceKind, found: Found, count: usize) {
        if count > 0 {
            let labels = [("source", source.as_str()), ("found", found.as_str())];
            self.0.arrivals.get_or_create(&labels).inc_by(count as u64);
        }
    }

    /// An arrival became an event.
    pub fn recorded(&self, kind: EventKind) {
        self.0.events.get_or_create(&[("kind", kind.as_str())]).inc();
    }

    /// An attempt came to its end.
    pub fn attempted(&self, protocol: ProtocolKind, outcome: Outcome, took: Duration) {
        let outcome = match outcome {
            Outcome::Accepted => "accepted",
            Outcome::Refused { .. } => "refused",
            Outcome::Unreachable => "unreachable",
        };
        let protocol = ("protocol", protocol.as_str());
        self.0.attempts.get_or_create(&[protocol, ("outcome", outcome)]).inc();
        self.0.attempt_seconds.get_or_create(&[protocol]).observe(took.as_secs_f64());
        self.0.failed.fetch_add(u64::from(outcome != "accepted"), Ordering::Relaxed);
    }

    /// A notification was accepted so long after its first event was recorded.
    pub fn delivered(&self, protocol: ProtocolKind, after: Duration) {
        let (labels, seconds) = ([("protocol", protocol.as_str())], after.as_secs_f64());
        self.0.delivered_seconds.get_or_create(&labels).observe(seconds);
        if let Some(count) = self.0.took.get(DELIVERED_SECONDS.partition_point(|bound| *bound < seconds)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many attempts have failed.
    pub fn failed(&self) -> u64 {
        self.0.failed.load(Ordering::Relaxed)
    }

    /// How many deliveries took at most each of [`DELIVERED_SECONDS`] and longer than the one before, and last how many
    /// took longer than all of them.
    pub fn took(&self) -> Vec<u64> {
        self.0.took.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// A group was committed.
    pub fn committed(&self, of: Commit, items: usize, took: Duration) {
        let labels = [("of", of.as_str())];
        self.0.commit_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        self.0.commit_items.get_or_create(&labels).observe(u32::try_from(items).unwrap_or(u32::MAX).into());
    }

    /// A group was not committed; it is brought again.
    pub fn commit_failed(&self, of: Commit) {
        self.0.commit_failures.get_or_create(&[("of", of.as_str())]).inc();
    }

    /// The outcome of so many attempts could not be written: what they told is told again.
    pub fn unwritten(&self, count: usize) {
        self.0.unwritten_attempts.inc_by(count as u64);
    }

    /// The kernel dropped events because they came too fast; the tree is walked instead.
    pub fn overflowed(&self) {
        self.0.watch_overflows.inc();
    }

    /// Everything in the older text format of Prometheus, which names a counter by its samples' name.
    pub fn to_plain_text(&self, gauges: &Gauges) -> String {
        let text = self.to_text(gauges);
        let counters: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
        let mut plain = String::with_capacity(text.len());
        for line in text.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF") {
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(&name) => {
                    plain.push_str(&format!("# {what} {name}_total {rest}"));
                }
                _ => plain.push_str(line),
            }
            plain.push('\n');
        }
        plain
    }

    /// Everything as OpenMetrics text.
    pub fn to_text(&self, gauges: &Gauges) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode_registry(&mut text, &self.0.registry);
        let _ = encode_registry(&mut text, &gauges.registry());
        let _ = encode_eof(&mut text);
        text
    }
}

impl Inner {
    fn register(&mut self) {
        let Self { registry, .. } = self;
        registry.register("arrivals", "What sources brought to the journal", self.arrivals.clone());
        registry.register("events", "Arrivals that became events", self.events.clone());
        registry.register("attempts", "Attempts to deliver a notification", self.attempts.clone());
        registry.register_with_unit(
            "arrival_to_delivered",
            "From the record of a notification's first event to the notification's acceptance",
            Unit::Seconds,
            self.delivered_seconds.clone(),
        );
        registry.register_with_unit(
            "attempt",
            "From the start of an attempt to its end",
            Unit::Seconds,
            self.attempt_seconds.clone(),
        );
        registry.register_with_unit(
            "commit",
            "From asking for a commit to its being on disk",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        registry.register("commit_items", "What was written in one commit", self.commit_items.clone());
        registry.register(
            "commit_failures",
            "Commits that failed; what they held is brought again",
            self.commit_failures.clone(),
        );
        registry.register(
            "unwritten_attempts",
            "Attempts whose outcome could not be written: what they told is told again",
            self.unwritten_attempts.clone(),
        );
        registry.register(
            "watch_overflows",
            "Times the kernel dropped watch events; each is followed by a scan",
            self.watch_overflows.clone(),
        );
    }
}

impl Gauges {
    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("filebell");
        let version = Family::<Labels<1>, Gauge>::default();
        version.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        registry.register("build_info", "The version that runs", version);
        let notifications = Family::<Labels<2>, Gauge>::default();
        for ((protocol, state), count) in &self.notifications {
            notifications.get_or_create(&[("protocol", protocol), ("state", state)]).set(signed(*count));
        }
        registry.register("notifications", "Notifications as they stand", notifications);
        let roots = Family::<Labels<1>, Gauge>::default();
        for (state, count) in &self.roots {
            roots.get_or_create(&[("state", state)]).set(signed(*count));
        }
        registry.register("roots", "Watched roots by how well they are seen", roots);
        let pending = self.notifications.iter().filter(|((_, state), _)| *state == "pending");
        let numbers = [
            (
                "backlog",
                "Notifications that wait to be sent or sent again",
                Some(pending.map(|(_, count)| count).sum()),
            ),
            ("dirty_paths", "Paths that wait to be decided", Some(self.dirty_paths)),
            ("watches_used", "Directories that are watched", Some(self.watches_used)),
            ("watches_allowed", "Watches the user may have, fs.inotify.max_user_watches", self.watches_allowed),
            ("scans_running", "Scans under way", Some(self.scans_running)),
            ("scan_directories", "Directories listed by the scans now or last", Some(self.scan_directories)),
            ("scan_files", "Files seen by the scans now or last", Some(self.scan_files)),
            ("scan_differing", "Differences found by the scans now or last", Some(self.scan_differing)),
            ("scan_expected_files", "Files likely to be seen by the scans now or last", Some(self.scan_expected)),
        ];
        for (name, help, number) in numbers {
            if let Some(number) = number {
                let gauge = Gauge::<i64>::default();
                gauge.set(signed(number));
                registry.register(name, help, gauge);
            }
        }
        let durations = [
            ("oldest_untold", "Age of the oldest event that somebody is still to be told of", self.oldest_untold),
            ("scan_throttled", "The scans now or last gave way to arrivals", self.scan_throttled),
            ("uptime", "Since filebell started", self.uptime),
        ];
        for (name, help, duration) in durations {
            let gauge = Gauge::<f64, AtomicU64>::default();
            gauge.set(duration.as_secs_f64());
            registry.register_with_unit(name, help, Unit::Seconds, gauge);
        }
        registry
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_servers_in_one_process_count_for_themselves() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.arrived(SourceKind::Folder, Found::Scan, 3);
        let sample = "filebell_arrivals_total{source=\"folder\",found=\"scan\"} 3";
        assert!(one.to_text(&Gauges::default()).contains(sample));
        assert!(!other.to_text(&Gauges::default()).contains(sample));
    }

    #[test]
    fn the_older_format_names_a_counter_by_its_samples() {
        let text = Metrics::new().to_plain_text(&Gauges::default());
        assert!(text.contains("\n# TYPE filebell_watch_overflows_total counter\nfilebell_watch_overflows_total 0\n"));
        assert!(text.contains("# HELP filebell_watch_overflows_total Times "));
        assert!(!text.contains("# UNIT") && !text.contains("# EOF"));
    }

    #[test]
    fn the_text_ends_where_it_says_so() {
        let text = Metrics::new().to_text(&Gauges::default());
        assert!(text.ends_with("# EOF\n"));
        assert!(text.contains("filebell_oldest_untold_seconds 0.0"));
    }
}
