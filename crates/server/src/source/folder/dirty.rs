//! Paths that have to be looked at: hints and scans put them in, the decider takes them out.

use std::collections::{BTreeMap, HashMap, hash_map};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use filebell_core::arrival::Fingerprint;
use filebell_core::path::FilePath;

use super::dir::Dir;
use super::view::Waiting;
use super::{locked, wait_until};
use crate::journal::Seen;
use crate::source::writers::Process;

/// At most this many paths are kept; what comes on top is left to a scan.
const PATHS_MAX: usize = 65_536;
/// A scan fills the set only to here, so that there is room for what the watch sees meanwhile.
const SCANNED_PATHS_MAX: usize = PATHS_MAX / 2;
/// A path that is not known by the end of its writing waits this long for it: a file's creation is seen before its
/// creator holds it for writing, and a lease would be granted in between.
const CREATION_GRACE: Duration = Duration::from_millis(40);
/// A vanished path waits this long, so that a move is seen as one.
pub(super) const VANISH_GRACE: Duration = Duration::from_millis(200);

/// So many paths that are due are looked at to see whether one of them was heard of.
const LOOKED_AT_MAX: usize = 64;
/// How often it is looked whether nothing waits any more.
const CALM_LOOK: Duration = Duration::from_millis(2);

/// How a path came to attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hint {
    /// A writer closed it.
    Closed,
    /// It was renamed to this name.
    Renamed,
    /// It was created, and is perhaps still open.
    Created,
    /// It was written to.
    Modified,
    /// Its attributes changed.
    Touched,
    /// It was deleted or renamed away.
    Vanished,
    /// It was found in a directory that was created or moved in.
    Listed,
    /// A scan found it to differ from its row.
    Scanned,
    /// A scan missed it.
    Missing,
}

/// Which worker a path waits for. A path is in one lane, or in one hand, at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    /// Almost all.
    Quick,
    /// Large files: reading one must not hold up the others.
    Large,
    /// Files that take minutes or hours to read: they must not hold up the large ones.
    Huge,
}

/// What is remembered of a path between two looks at it.
#[derive(Debug, Clone, Default)]
pub(super) struct Dirt {
    /// It was renamed to this name.
    pub(super) renamed: bool,
    /// It was seen being written to.
    pub(super) written: bool,
    /// It was written to, or a writer closed it, since it was last decided.
    pub(super) perhaps_written: bool,
    /// Nothing but a scan, or a change of attributes, pointed at it.
    pub(super) only_scanned: bool,
    /// It was seen to be deleted or renamed away.
    pub(super) seen_vanish: bool,
    /// Since when it has been gone.
    pub(super) gone_since: Option<Instant>,
    /// How often in a row somebody was found writing, or it changed while it was read.
    pub(super) busy: u32,
    /// How often in a row it could not be looked at.
    pub(super) failures: u32,
    /// How it has looked since when, where only standing still proves an end.
    pub(super) standing: Option<(Fingerprint, Instant)>,
    /// Its inode, if the file has other names too.
    pub(super) shared_inode: Option<u64>,
    /// When its writers were last looked for.
    pub(super) looked_at: Option<Instant>,
    /// Who was found writing it then.
    pub(super) writers: Option<Arc<[Arc<Process>]>>,
    /// How a writer that was killed has left it, and since when nobody has gone on with it.
    pub(super) orphan: Option<(Fingerprint, Instant)>,
    /// Which file lies there, if it was looked at and has yet to be decided.
    pub(super) undecided: Option<Inode>,
}

/// Which file it is, whatever its name: device, inode number and time of birth.
pub(super) type Inode = (u64, u64, Option<i64>);

/// Which file a fingerprint is of.
pub(super) fn inode_of(print: &Fingerprint) -> Inode {
    (print.dev, print.inode, print.birth_ns)
}

/// A path in the decider's hand.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) path: Arc<FilePath>,
    pub(super) dirt: Dirt,
}

/// The bounded set.
pub(super) struct Dirty {
    quiet: Duration,
    paths_max: usize,
    state: Mutex<State>,
    sooner: Condvar,
    fewer: Condvar,
}

#[derive(Default)]
struct State {
    entries: HashMap<Arc<FilePath>, Entry>,
    quick: BTreeMap<(Instant, u64), Arc<FilePath>>,
    large: BTreeMap<(Instant, u64), Arc<FilePath>>,
    huge: BTreeMap<(Instant, u64), Arc<FilePath>>,
    /// At how many paths each file lies that was looked at and has yet to be decided.
    undecided: HashMap<Inode, usize>,
    /// Counts entries; the number of an entry tells which of two came first.
    serial: u64,
    /// How many paths are in the quick worker's hand that not only a scan has found.
    live_in_hand: usize,
    stopped: bool,
}

struct Entry {
    serial: u64,
    place: Place,
    /// While the path is in hand: only what was hinted since.
    dirt: Dirt,
}

#[derive(Clone, Copy)]
enum Place {
    Queued { lane: Lane, due: Instant, order: u64 },
    InHand { again: Option<Instant>, live: bool },
}

impl Dirty {
    /// `quiet`: how long to wait after the end of writing, for writers that close and go on.
    pub(super) fn new(quiet: Duration) -> Self {
        Self::with_room(quiet, PATHS_MAX)
    }

    fn with_room(quiet: Duration, paths_max: usize) -> Self {
        let state = Mutex::default();
        Self { quiet, paths_max, state, sooner: Condvar::new(), fewer: Condvar::new() }
    }

    /// Marks a path; `false` if the set is full and the path was not taken in.
    #[must_use]
    pub(super) fn mark(&self, path: FilePath, hint: Hint) -> bool {
        self.mark_in(&mut self.state(), path, hint)
    }

    /// Marks a path, waiting for room; `false` if there is none to come because all stops.
    #[must_use]
    pub(super) fn mark_when_room(&self, path: FilePath, hint: Hint) -> bool {
        let mut state = self.state();
        while state.entries.len() >= SCANNED_PATHS_MAX.min(self.paths_max) && !state.stopped {
            state = wait_until(&self.fewer, state, None);
        }
        !state.stopped && self.mark_in(&mut state, path, hint)
    }

    /// Marks again what is kept of the paths below a directory that went. A file in hand may be recorded there only
    /// after the rows there have been looked at.
    pub(super) fn mark_below(&self, dir: &Dir, hint: Hint) {
        let mut state = self.state();
        let below = state.entries.keys().filter(|path| dir.holds(path.as_bytes()));
        for path in below.map(|path| FilePath::clone(path)).collect::<Vec<_>>() {
            // It is in the set already: there is room for it.
            let _ = self.mark_in(&mut state, path, hint);
        }
    }

    fn mark_in(&self, state: &mut State, path: FilePath, hint: Hint) -> bool {
        let now = Instant::now();
        let due = now + self.delay(hint);
        if let Some(entry) = state.entries.get_mut(&path) {
            entry.dirt.note(hint, now);
            let pulls = !matches!(hint, Hint::Modified | Hint::Touched);
            match &mut entry.place {
                Place::InHand { again, .. } => *again = Some(again.map_or(due, |other| other.min(due))),
                Place::Queued { lane, due: old, order } if pulls && due < *old => {
                    let (lane, old_key) = (*lane, (*old, *order));
                    *old = due;
                    let key = (due, *order);
                    let queue = state.queue(lane);
                    if let Some(path) = queue.remove(&old_key) {
                        queue.insert(key, path);
                    }
                    self.wake_if_first(state, lane, key);
                }
                Place::Queued { .. } => (),
            }
            return true;
        }
        if state.entries.len() >= self.paths_max {
            return false;
        }
        let mut dirt = Dirt { only_scanned: true, ..Dirt::default() };
        dirt.note(hint, now);
        state.serial += 1;
        let serial = state.serial;
        let path = Arc::new(path);
        state.entries.insert(
            Arc::clone(&path),
            Entry { serial, dirt, place: Place::Queued { lane: Lane::Quick, due, order: serial } },
        );
        state.quick.insert((due, serial), path);
        self.wake_if_first(state, Lane::Quick, (due, serial));
        true
    }

    fn delay(&self, hint: Hint) -> Duration {
        match hint {
            Hint::Closed | Hint::Renamed => self.quiet,
            // Where it has been moved to waits too.
            Hint::Vanished | Hint::Missing => self.quiet + VANISH_GRACE,
            _ => self.quiet.max(CREATION_GRACE),
        }
    }

    fn wake_if_first(&self, state: &mut State, lane: Lane, key: (Instant, u64)) {
        if state.queue(lane).first_key_value().is_some_and(|(first, _)| *first == key) {
            self.sooner.notify_all();
        }
    }

    /// Takes at most `max` paths of a lane that are due, those due first before the others; waits for the first.
    /// `None` when all stops.
    pub(super) fn take(&self, lane: Lane, max: usize) -> Option<Vec<Taken>> {
        let mut state = self.state();
        loop {
            if state.stopped {
                return None;
            }
            let now = Instant::now();
            let taken = state.take(lane, now, max);
            if !taken.is_empty() {
                return Some(taken);
            }
            let next = state.queue(lane).first_key_value().map(|((due, _), _)| *due);
            state = wait_until(&self.sooner, state, next);
        }
    }

    /// A path in hand was decided.
    pub(super) fn done(&self, path: &Arc<FilePath>) {
        let mut state = self.state();
        state.out_of_hand(path);
        let Some(entry) = state.entries.get_mut(path) else { return };
        match entry.place {
            Place::InHand { again: Some(due), .. } => {
                entry.dirt.busy = 0;
                let decided = entry.dirt.undecided.take();
                state.is_decided(decided);
                let order = state.next_serial();
                self.queue_again(&mut state, path, Lane::Quick, due, order, order);
            }
            _ => {
                let entry = state.entries.remove(path);
                state.is_decided(entry.and_then(|entry| entry.dirt.undecided));
                self.fewer.notify_all();
            }
        }
    }

    /// A path in hand could not be decided yet: it is due again in `delay`, or when a hint says so.
    pub(super) fn put_back(&self, taken: Taken, lane: Lane, delay: Duration) {
        let mut state = self.state();
        state.out_of_hand(&taken.path);
        let Some(entry) = state.entries.get_mut(&taken.path) else { return };
        let mut due = Instant::now() + delay;
        if let Place::InHand { again: Some(hinted), .. } = entry.place {
            due = due.min(hinted);
        }
        let serial = entry.serial;
        let (before, now) = (entry.dirt.undecided, taken.dirt.undecided);
        entry.dirt = taken.dirt.with(&entry.dirt);
        if before != now {
            state.is_decided(before);
            now.into_iter().for_each(|inode| *state.undecided.entry(inode).or_default() += 1);
        }
        let order = state.next_serial();
        self.queue_again(&mut state, &taken.path, lane, due, order, serial);
    }

    fn queue_again(&self, state: &mut State, path: &Arc<FilePath>, lane: Lane, due: Instant, order: u64, serial: u64) {
        if let Some(entry) = state.entries.get_mut(path) {
            entry.serial = serial;
            entry.place = Place::Queued { lane, due, order };
            state.queue(lane).insert((due, order), Arc::clone(path));
            self.wake_if_first(state, lane, (due, order));
        }
    }

    /// These processes were found writing a path.
    pub(super) fn written_by(&self, path: &FilePath, writers: &Arc<[Arc<Process>]>) {
        if let Some(entry) = self.state().entries.get_mut(path) {
            entry.dirt.writers = Some(Arc::clone(writers));
        }
    }

    /// Takes who was last found writing a path in hand.
    pub(super) fn take_writers(&self, taken: &mut Taken) -> Option<Arc<[Arc<Process>]>> {
        let mut state = self.state();
        let since = state.entries.get_mut(&taken.path).and_then(|entry| entry.dirt.writers.take());
        let before = taken.dirt.writers.take();
        since.or(before)
    }

    /// Whether a file lies at a path that was looked at and has yet to be decided.
    pub(super) fn holds_undecided(&self, file: Inode) -> bool {
        self.state().undecided.contains_key(&file)
    }

    /// How many paths wait or are in hand.
    pub(super) fn len(&self) -> usize {
        self.state().entries.len()
    }

    /// Leaves what a scan has seen only where nothing else has marked it.
    pub(super) fn retain_unmarked(&self, seen: &mut Vec<Seen>) {
        let state = self.state();
        if !state.entries.is_empty() {
            seen.retain(|one| !state.entries.contains_key(&one.path));
        }
    }

    /// What a path waits for, if it does.
    pub(super) fn waiting(&self, path: &FilePath) -> Option<Waiting> {
        let state = self.state();
        let Dirt { busy, failures, standing, orphan, .. } = &state.entries.get(path)?.dirt;
        let (standing, orphaned) = (standing.is_some(), orphan.is_some());
        Some(Waiting { busy: *busy, failures: *failures, standing, orphaned })
    }

    /// Whether a path that only a scan found still waits for its first decision.
    pub(super) fn holds_scanned(&self) -> bool {
        self.state().entries.values().any(|entry| entry.dirt.only_scanned)
    }

    /// Whether something that not only a scan has found is due or in hand.
    pub(super) fn is_pressed(&self) -> bool {
        self.state().is_pressed()
    }

    /// Waits until nothing presses any more, at the longest for `max`; answers how long.
    pub(super) fn wait_calm(&self, max: Duration) -> Duration {
        let mut state = self.state();
        if !state.is_pressed() {
            return Duration::ZERO;
        }
        let began = Instant::now();
        while state.is_pressed() && !state.stopped && began.elapsed() < max {
            state = wait_until(&self.fewer, state, Some(Instant::now() + CALM_LOOK));
        }
        began.elapsed()
    }

    /// Waits until everything marked before this call was decided, or waits for its writer.
    pub(super) fn wait_decided(&self) {
        let mut state = self.state();
        let mark = state.serial;
        while !state.stopped && state.entries.values().any(|entry| entry.serial <= mark && entry.dirt.busy == 0) {
            state = wait_until(&self.fewer, state, Some(Instant::now() + Duration::from_millis(2)));
        }
    }

    /// Lets everybody go who waits here.
    pub(super) fn stop(&self) {
        self.state().stopped = true;
        self.sooner.notify_all();
        self.fewer.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Stalls everybody who marks or takes a path, until it is dropped.
    #[cfg(test)]
    pub(super) fn stalled(&self) -> impl Sized {
        self.state()
    }
}

impl State {
    fn queue(&mut self, lane: Lane) -> &mut BTreeMap<(Instant, u64), Arc<FilePath>> {
        match lane {
            Lane::Quick => &mut self.quick,
            Lane::Large => &mut self.large,
            Lane::Huge => &mut self.huge,
        }
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn is_pressed(&self) -> bool {
        let now = Instant::now();
        let mut due = self.quick.range(..=(now, u64::MAX)).take(LOOKED_AT_MAX);
        self.live_in_hand > 0
            || due.any(|(_, path)| self.entries.get(path).is_some_and(|entry| !entry.dirt.only_scanned))
    }

    /// A file lies undecided at one path less.
    fn is_decided(&mut self, file: Option<Inode>) {
        if let Some(file) = file
            && let hash_map::Entry::Occupied(mut paths) = self.undecided.entry(file)
        {
            *paths.get_mut() -= 1;
            if *paths.get() == 0 {
                paths.remove();
            }
        }
    }

    /// A path in hand comes out of it.
    fn out_of_hand(&mut self, path: &FilePath) {
        if let Some(Entry { place: Place::InHand { live, .. }, .. }) = self.entries.get_mut(path)
            && std::mem::take(live)
        {
            self.live_in_hand = self.live_in_hand.saturating_sub(1);
        }
    }

    fn take(&mut self, lane: Lane, now: Instant, max: usize) -> Vec<Taken> {
        let mut taken = Vec::new();
        while taken.len() < max {
            let Some(first) = self.queue(lane).first_entry().filter(|first| first.key().0 <= now) else { break };
            let path = first.remove();
            if let Some(entry) = self.entries.get_mut(&path) {
                let live = lane == Lane::Quick && !entry.dirt.only_scanned;
                self.live_in_hand += usize::from(live);
                entry.place = Place::InHand { again: None, live };
                // Kept in the entry too, so that what is in hand still counts as only scanned, or as busy.
                let Dirt { only_scanned, busy, undecided, .. } = entry.dirt;
                let kept = Dirt { only_scanned, busy, undecided, ..Dirt::default() };
                let dirt = std::mem::replace(&mut entry.dirt, kept);
                taken.push(Taken { path, dirt });
            }
        }
        taken
    }
}

impl Dirt {
    fn note(&mut self, hint: Hint, now: Instant) {
        self.written |= hint == Hint::Modified;
        self.perhaps_written |= matches!(hint, Hint::Modified | Hint::Closed);
        match hint {
            Hint::Renamed => self.renamed = true,
            // Somebody writes under the final name: the rename no longer says that the file is whole.
            Hint::Modified | Hint::Created => self.renamed = false,
            Hint::Vanished => {
                self.seen_vanish = true;
                self.gone_since.get_or_insert(now);
            }
            Hint::Closed | Hint::Touched | Hint::Listed | Hint::Scanned | Hint::Missing => (),
        }
        if !matches!(hint, Hint::Scanned | Hint::Touched | Hint::Missing) {
            self.only_scanned = false;
        }
    }

    /// What was known, and what was hinted while the path was in hand.
    fn with(self, since: &Self) -> Self {
        Self {
            renamed: self.renamed || since.renamed,
            written: self.written || since.written,
            perhaps_written: self.perhaps_written || since.perhaps_written,
            only_scanned: self.only_scanned && since.only_scanned,
            seen_vanish: self.seen_vanish || since.seen_vanish,
            gone_since: self.gone_since.or(since.gone_since),
            writers: since.writers.clone().or(self.writers),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> FilePath {
        FilePath::from_bytes(text.as_bytes()).unwrap()
    }

    fn taken(dirty: &Dirty) -> Vec<Taken> {
        dirty.take(Lane::Quick, 10).unwrap()
    }

    #[test]
    fn a_closed_file_goes_before_one_that_was_only_created() {
        let dirty = Dirty::new(Duration::ZERO);
        assert!(dirty.mark(path("/created"), Hint::Created));
        assert!(dirty.mark(path("/closed"), Hint::Created));
        assert!(dirty.mark(path("/closed"), Hint::Closed));
        let first = taken(&dirty);
        assert_eq!(first.len(), 1);
        assert_eq!(*first[0].path, path("/closed"));
        assert_eq!(*taken(&dirty)[0].path, path("/created"));
    }

    #[test]
    fn a_hint_at_a_path_in_hand_is_not_lost() {
        let dirty = Dirty::new(Duration::ZERO);
        assert!(dirty.mark(path("/a"), Hint::Closed));
        let first = taken(&dirty);
        assert!(dirty.mark(path("/a"), Hint::Closed));
        dirty.done(&first[0].path);
        let second = taken(&dirty);
        assert_eq!(second.len(), 1, "decided once more");
        dirty.done(&second[0].path);
        assert_eq!(dirty.len(), 0);
    }

    #[test]
    fn a_close_pulls_a_file_that_waits_for_its_writer() {
        let dirty = Dirty::new(Duration::ZERO);
        assert!(dirty.mark(path("/a"), Hint::Closed));
        let mut first = taken(&dirty).remove(0);
        first.dirt.busy = 3;
        dirty.put_back(first, Lane::Large, Duration::from_secs(3600));
        dirty.wait_decided();
        assert!(dirty.mark(path("/a"), Hint::Modified));
        assert!(dirty.mark(path("/a"), Hint::Closed));
        let again = dirty.take(Lane::Large, 10).unwrap();
        assert_eq!(again[0].dirt.busy, 3);
    }

    #[test]
    fn a_full_set_says_so() {
        let dirty = Dirty::with_room(Duration::ZERO, 2);
        assert!(dirty.mark(path("/a"), Hint::Closed));
        assert!(dirty.mark(path("/b"), Hint::Closed));
        assert!(!dirty.mark(path("/c"), Hint::Closed));
        assert!(dirty.mark(path("/a"), Hint::Closed), "what is in it already can be marked again");
    }

    #[test]
    fn a_scan_gives_way_to_what_was_heard_of_and_to_nothing_else() {
        let patience = Duration::from_millis(20);
        let dirty = Dirty::new(Duration::ZERO);
        assert!(dirty.mark(path("/scanned"), Hint::Scanned));
        assert!(dirty.mark(path("/not-yet-due"), Hint::Vanished));
        assert_eq!(dirty.wait_calm(patience), Duration::ZERO);
        assert!(dirty.mark(path("/closed"), Hint::Closed));
        assert!(dirty.wait_calm(patience) >= patience, "and no longer");
        let mut closed = taken(&dirty).remove(0);
        assert!(dirty.is_pressed(), "it is in hand");
        closed.dirt.busy = 1;
        dirty.put_back(closed, Lane::Quick, Duration::from_secs(3600));
        assert!(!dirty.is_pressed(), "its writer is waited for");
        assert!(dirty.mark(path("/closed"), Hint::Closed));
        let closed = dirty.take(Lane::Quick, 10).unwrap().into_iter().find(|one| *one.path == path("/closed"));
        dirty.done(&closed.unwrap().path);
        assert!(!dirty.is_pressed());
    }

    #[test]
    fn only_a_scan_makes_a_path_only_scanned() {
        let dirty = Dirty::new(Duration::ZERO);
        assert!(dirty.mark(path("/a"), Hint::Scanned));
        assert!(dirty.holds_scanned());
        assert!(dirty.mark(path("/a"), Hint::Touched));
        assert!(dirty.holds_scanned());
        assert!(dirty.mark(path("/a"), Hint::Closed));
        assert!(!dirty.holds_scanned());
    }
}
