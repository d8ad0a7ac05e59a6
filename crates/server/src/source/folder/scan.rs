//! The scan: walks the tree beside the stored rows, both in byte order of their paths, and marks what differs.
//!
//! Memory is bounded by the largest directory and a page of rows, not by the number of files.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use filebell_core::arrival::Fingerprint;
use filebell_core::event::StoredFile;
use filebell_core::path::FilePath;
use rustix::fs::FileType;
use rustix::io::Errno;
use tokio::task::JoinHandle;

use super::dir::Dir;
use super::dirty::Hint;
use super::root::{Look, OpenRoot, RootLost, is_absence, is_directory_in, look_in, times_of};
use super::status::ScanProgress;
use super::{Shared, locked, wait_until};
use crate::journal::{JournalError, Seen};

/// Rows asked for at a time.
const PAGE_ROWS: u32 = 1000;
/// Rows of a new root's old content written at a time.
const BASELINE_ROWS: usize = 4096;
/// So many missing paths are held back until all that is there has been seen, so that a move is seen as one. More are
/// left to another scan.
const MISSING_HELD_MAX: usize = 65_536;
/// Directories kept open on the way down; deeper ones are opened again when their turn comes.
const OPEN_LEVELS_MAX: usize = 64;
/// At most this many directories wait for a sweep; more make a scan.
const SWEEPS_MAX: usize = 1024;
/// So many of them, and no more, while something waits to be decided: one commit holds up the next.
const BASELINE_ROWS_PRESSED: usize = 512;
/// After so many names the walk looks whether something waits to be decided, and gives way.
const NAMES_AT_ONCE: u32 = 256;
/// And so long at most, so that it comes to its end whatever happens meanwhile.
const GIVE_WAY_MAX: Duration = Duration::from_millis(20);
/// The shortest time between two walks of what is polled.
const POLL_MIN: Duration = Duration::from_secs(1);
/// A polled tree is walked at most one part in so many (and one) of the time.
const POLL_REST: u32 = 4;
/// How soon a scan that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often an idle scan is looked for.
const IDLE_LOOK: Duration = Duration::from_millis(2);
/// How often the end of the baseline is looked for.
const BASELINE_LOOK: Duration = Duration::from_millis(100);

/// Wakes the scan from other threads.
#[derive(Default)]
pub(super) struct Bell {
    asked: Mutex<Asked>,
    changed: Condvar,
}

#[derive(Default)]
struct Asked {
    whole: bool,
    sweeps: BTreeSet<Dir>,
    look: bool,
    stopped: bool,
    /// What was asked before is being done.
    working: bool,
}

impl Bell {
    /// Asks for a walk over the whole tree.
    pub(super) fn request(&self) {
        self.ask(|asked| asked.whole = true);
    }

    /// Asks for the rows below a directory that went to be looked at.
    pub(super) fn sweep(&self, dir: Dir) {
        self.ask(|asked| {
            if asked.sweeps.len() < SWEEPS_MAX {
                asked.sweeps.insert(dir);
            } else {
                asked.whole = true;
            }
        });
    }

    /// Asks for the conditions to be looked at: there is something to be polled.
    pub(super) fn look_soon(&self) {
        self.ask(|asked| asked.look = true);
    }

    pub(super) fn stop(&self) {
        self.ask(|asked| asked.stopped = true);
    }

    fn ask(&self, change: impl FnOnce(&mut Asked)) {
        change(&mut locked(&self.asked));
        self.changed.notify_all();
    }

    /// Waits until something is asked, at the longest until `until`; `None` when all stops.
    fn wait(&self, until: Instant) -> Option<Asked> {
        let mut asked = locked(&self.asked);
        asked.working = false;
        loop {
            if asked.stopped {
                return None;
            }
            if asked.whole || asked.look || !asked.sweeps.is_empty() || Instant::now() >= until {
                return Some(std::mem::replace(&mut asked, Asked { working: true, ..Asked::default() }));
            }
            asked = wait_until(&self.changed, asked, Some(until));
        }
    }

    /// Waits until all that was asked is done.
    pub(super) fn wait_idle(&self) {
        let mut asked = locked(&self.asked);
        while !asked.stopped && (asked.working || asked.whole || !asked.sweeps.is_empty()) {
            asked = wait_until(&self.changed, asked, Some(Instant::now() + IDLE_LOOK));
        }
    }
}

/// Scans when asked, and in its time, until all stops.
pub(super) fn run(shared: &Arc<Shared>) {
    let now = Instant::now();
    let mut timetable = Timetable {
        rescan: now + shared.config.rescan,
        poll: now,
        retry: None,
        first_done: false,
        // What an interrupted first scan has written is no measure.
        files: Some(shared.known.files).filter(|files| *files > 0 && !shared.known.interrupted),
    };
    while let Some(asked) = shared.scan.wait(timetable.next(shared)) {
        for dir in &asked.sweeps {
            if let Err(error) = sweep(shared, dir) {
                timetable.failed(&error, shared);
            }
        }
        timetable.run(shared, asked.whole);
    }
}

/// What is to be done when.
struct Timetable {
    rescan: Instant,
    poll: Instant,
    retry: Option<Instant>,
    first_done: bool,
    /// How many files a walk over the whole tree is likely to see.
    files: Option<u64>,
}

impl Timetable {
    fn next(&self, shared: &Shared) -> Instant {
        let polled = is_polled(shared) || self.first_done && has_unwatched(shared);
        let baseline = self.first_done && !shared.baseline_done.load(Ordering::Relaxed);
        [Some(self.rescan), self.retry, polled.then_some(self.poll), baseline.then(|| Instant::now() + BASELINE_LOOK)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.rescan)
    }

    fn run(&mut self, shared: &Shared, whole: bool) {
        let now = Instant::now();
        let retry = self.retry.is_some_and(|retry| now >= retry);
        if whole || retry || is_polled(shared) && now >= self.poll {
            self.scan(shared, None);
        } else if self.first_done && has_unwatched(shared) && now >= self.poll {
            let dirs: Vec<Dir> = shared.status.get(|conditions| conditions.unwatched.keys().cloned().collect());
            for dir in dirs {
                self.scan(shared, Some(dir));
            }
        }
        if now >= self.rescan {
            self.rescan = now + shared.config.rescan;
            shared.watch.rescan();
        }
        if self.first_done {
            self.end_baseline(shared);
        }
    }

    fn scan(&mut self, shared: &Shared, below: Option<Dir>) {
        let started = Instant::now();
        let whole = below.is_none();
        match Scan::run(shared, below, self.files.filter(|_| whole)) {
            Ok(files) => {
                let rest = started.elapsed().saturating_mul(POLL_REST);
                self.poll = Instant::now() + rest.max(shared.config.settle).max(POLL_MIN);
                if whole {
                    self.files = Some(files);
                    self.retry = None;
                    self.first_done = true;
                    self.rescan = Instant::now() + shared.config.rescan;
                    shared.status.scan_finished(shared.journal.now());
                }
            }
            Err(error) => self.failed(&error, shared),
        }
    }

    fn failed(&mut self, error: &ScanError, shared: &Shared) {
        if !matches!(error, ScanError::Stopped) {
            let user = &shared.user;
            tracing::warn!(
                account = user,
                error = error as &dyn std::error::Error,
                "a scan failed; it will be repeated"
            );
            self.retry = Some(Instant::now() + RETRY);
            self.poll = Instant::now() + RETRY;
        }
    }

    /// The baseline is complete when all that the first scan found was decided once.
    fn end_baseline(&self, shared: &Shared) {
        if shared.baseline_done.load(Ordering::Relaxed) || shared.dirty.holds_scanned() {
            return;
        }
        match shared.runtime.block_on(shared.journal.set_baseline_done(shared.account)) {
            Ok(()) => shared.baseline_done.store(true, Ordering::Relaxed),
            Err(error) => {
                tracing::warn!(
                    account = shared.user,
                    error = &error as &dyn std::error::Error,
                    "the baseline stays open"
                );
            }
        }
    }
}

fn is_polled(shared: &Shared) -> bool {
    shared.status.get(|conditions| conditions.polling.is_some() || conditions.probe.is_some())
}

fn has_unwatched(shared: &Shared) -> bool {
    shared.status.get(|conditions| !conditions.unwatched.is_empty())
}

/// Why a scan did not come to its end.
#[derive(Debug, thiserror::Error)]
enum ScanError {
    #[error(transparent)]
    Root(#[from] RootLost),
    #[error("the directory {dir} cannot be listed: {error}")]
    Directory { dir: Dir, error: Errno },
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("filebell is stopping")]
    Stopped,
}

/// Marks every row below a directory that went.
fn sweep(shared: &Shared, dir: &Dir) -> Result<(), ScanError> {
    let Some(mut rows) = Rows::below(dir) else { return Ok(()) };
    let hint = shared.below_moved();
    while let Some(row) = rows.next(shared)? {
        if !shared.dirty.mark_when_room(row.path, hint) {
            return Err(ScanError::Stopped);
        }
    }
    Ok(())
}

struct Scan<'a> {
    shared: &'a Shared,
    root: OpenRoot,
    rows: Rows,
    missing: Vec<FilePath>,
    left_missing: bool,
    baseline: Baseline<'a>,
    progress: ScanProgress,
    /// Since it was last looked whether something waits.
    names: u32,
}

/// A directory on the way down.
struct Level {
    dir: Dir,
    fd: Option<OwnedFd>,
    names: Names,
    next: usize,
    /// It came during the first scan, or lies in one that did: its files are news, whatever their times.
    came: bool,
}

impl<'a> Scan<'a> {
    /// Answers how many files there are; `expected` are likely.
    fn run(shared: &'a Shared, below: Option<Dir>, expected: Option<u64>) -> Result<u64, ScanError> {
        let root = shared.root.open()?;
        let top = below.clone().unwrap_or_else(Dir::root);
        let Some(rows) = Rows::below(&top) else { return Ok(0) };
        let progress = ScanProgress { running: true, expected, ..ScanProgress::default() };
        let baseline = Baseline::new(shared);
        let mut scan =
            Self { shared, root, rows, missing: Vec::new(), left_missing: false, baseline, progress, names: 0 };
        if below.is_none() {
            shared.status.set(&shared.user, |conditions| conditions.unreadable = None);
        }
        let walked = scan.walk(top);
        let answer = walked.and_then(|()| scan.baseline.finish()).and_then(|()| scan.mark_missing());
        scan.progress.running = false;
        shared.status.scan(scan.progress);
        answer.map(|()| scan.progress.files)
    }

    /// Lets what waits to be decided go first, now and then and for a short time.
    fn give_way(&mut self) {
        self.names += 1;
        if self.names >= NAMES_AT_ONCE {
            self.names = 0;
            self.progress.throttled += self.shared.dirty.wait_calm(GIVE_WAY_MAX);
            self.shared.status.scan(self.progress);
        }
    }

    fn walk(&mut self, top: Dir) -> Result<(), ScanError> {
        let mut levels = match self.enter(top.clone(), 0, false) {
            Ok(level) => vec![level],
            Err(error) if is_absence(error) && top != Dir::root() => {
                self.shared.status.set(&self.shared.user, |conditions| conditions.unwatched.remove(&top));
                Vec::new()
            }
            Err(error) => return Err(ScanError::Directory { dir: top, error }),
        };
        let mut path = Vec::new();
        while let Some(level) = levels.last_mut() {
            self.give_way();
            let Some(name) = level.names.get(level.next) else {
                levels.pop();
                continue;
            };
            level.next += 1;
            if let Some(name) = name.strip_suffix(b"/") {
                let dir = level.dir.sub(name);
                let came = level.came;
                match self.enter(dir.clone(), levels.len(), came) {
                    Ok(level) => levels.push(level),
                    Err(error) if is_absence(error) => (),
                    Err(error) => self.pass_over(&dir, error)?,
                }
            } else {
                path.clear();
                path.extend_from_slice(level.dir.as_bytes());
                path.extend_from_slice(name);
                let look = match &level.fd {
                    Some(fd) => look_in(fd.as_fd(), name),
                    // A link in the way could only lead to a wrong hint.
                    None => look_in(self.root.as_fd(), path.get(1..).unwrap_or_default()),
                };
                let came = level.came;
                self.compare(&path, look, came)?;
            }
        }
        while let Some(row) = self.rows.next(self.shared)? {
            self.miss(row)?;
        }
        Ok(())
    }

    /// Lists a directory.
    fn enter(&mut self, dir: Dir, depth: usize, came: bool) -> Result<Level, Errno> {
        let fd = self.root.directory(&dir)?;
        let came = came || depth > 0 && self.came(fd.as_fd())?;
        let mut names = Names::default();
        for entry in rustix::fs::Dir::read_from(&fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let ignore = &self.shared.config.ignore;
            match entry.file_type() {
                FileType::Directory if name == b"." || name == b".." => (),
                FileType::Directory if !ignore.directory(name) => names.push(name, true),
                FileType::RegularFile if !ignore.file(name) => names.push(name, false),
                FileType::Unknown => match is_directory_in(fd.as_fd(), name) {
                    Ok(true) if name == b"." || name == b".." || ignore.directory(name) => (),
                    Ok(false) if ignore.file(name) => (),
                    Ok(is_directory) => names.push(name, is_directory),
                    Err(error) if is_absence(error) => (),
                    Err(error) => return Err(error),
                },
                _ => (),
            }
        }
        names.sort();
        self.progress.directories += 1;
        self.shared.status.scan(self.progress);
        Ok(Level { dir, fd: (depth < OPEN_LEVELS_MAX).then_some(fd), names, next: 0, came })
    }

    /// Whether a directory seems to have been moved in since the root was first seen. That changes the directory and
    /// nothing in it, and may have gone unheard: before the directory above it was watched, or while the first scan
    /// was interrupted.
    fn came(&self, directory: BorrowedFd<'_>) -> Result<bool, Errno> {
        if !self.shared.writes_baseline() {
            return Ok(false);
        }
        let (changed, content_changed) = times_of(directory)?;
        Ok(!self.shared.is_before_first_seen(changed) && self.shared.is_before_first_seen(content_changed))
    }

    /// Compares a name with the row at its path. What is only marked wrongly is found right by the decider.
    fn compare(&mut self, path: &[u8], look: Result<Look, Errno>, came: bool) -> Result<(), ScanError> {
        if self.shared.is_stopped() {
            return Err(ScanError::Stopped);
        }
        self.miss_up_to(path)?;
        let row = self.rows.next_if(self.shared, |row| row.path.as_bytes() == path)?;
        match (look, row) {
            (Ok(Look::File(print)), row) => self.compare_file(path, print, row.as_ref(), came),
            (Ok(Look::NoFile), Some(row)) => self.miss(row),
            (Ok(Look::NoFile), None) => Ok(()),
            (Err(error), Some(row)) if is_absence(error) => self.miss(row),
            (Err(error), None) if is_absence(error) => Ok(()),
            (Err(error), _) => {
                self.unreadable(&String::from_utf8_lossy(path), error);
                Ok(())
            }
        }
    }

    fn compare_file(
        &mut self,
        path: &[u8],
        print: Fingerprint,
        row: Option<&StoredFile>,
        came: bool,
    ) -> Result<(), ScanError> {
        self.progress.files += 1;
        if row.is_some_and(|row| row.fingerprint == print) {
            return Ok(());
        }
        match FilePath::from_bytes(path) {
            Ok(path) if row.is_none() && came => self.mark(path, Hint::Listed),
            Ok(path) if row.is_none() && self.shared.is_baseline(path.as_bytes(), &print) => {
                self.progress.differing += 1;
                self.baseline.push(Seen { path, fingerprint: print })
            }
            Ok(path) => self.mark(path, Hint::Scanned),
            Err(error) => {
                let path = String::from_utf8_lossy(path);
                tracing::warn!(account = self.shared.user, %path, %error, "a file is left out");
                Ok(())
            }
        }
    }

    /// Rows before `path` have no file.
    fn miss_up_to(&mut self, path: &[u8]) -> Result<(), ScanError> {
        while let Some(row) = self.rows.next_if(self.shared, |row| row.path.as_bytes() < path)? {
            self.miss(row)?;
        }
        Ok(())
    }

    fn miss(&mut self, row: StoredFile) -> Result<(), ScanError> {
        if self.shared.config.ignore.path(&row.path) {
            return Ok(());
        }
        if self.missing.len() < MISSING_HELD_MAX {
            self.missing.push(row.path);
        } else {
            self.left_missing = true;
        }
        Ok(())
    }

    fn mark_missing(&mut self) -> Result<(), ScanError> {
        for path in std::mem::take(&mut self.missing) {
            self.mark(path, Hint::Missing)?;
        }
        if std::mem::take(&mut self.left_missing) {
            self.shared.scan.request();
        }
        Ok(())
    }

    fn mark(&mut self, path: FilePath, hint: Hint) -> Result<(), ScanError> {
        self.progress.differing += 1;
        if self.shared.dirty.mark_when_room(path, hint) { Ok(()) } else { Err(ScanError::Stopped) }
    }

    /// What a directory that cannot be listed holds is not known: none of its rows is missing.
    fn pass_over(&mut self, dir: &Dir, error: Errno) -> Result<(), ScanError> {
        self.unreadable(&dir.to_string(), error);
        self.miss_up_to(dir.as_bytes())?;
        while self.rows.next_if(self.shared, |row| dir.holds(row.path.as_bytes()))?.is_some() {}
        Ok(())
    }

    fn unreadable(&self, path: &str, error: Errno) {
        tracing::warn!(account = self.shared.user, path, %error, "a name cannot be read");
        self.shared.status.set(&self.shared.user, |conditions| {
            conditions.note_unreadable(|| format!("{path} ({error})"));
        });
    }
}

/// What a new root came with: remembered in large batches, unread, while the scan goes on.
struct Baseline<'a> {
    shared: &'a Shared,
    seen: Vec<Seen>,
    /// The batch before, on its way into the journal.
    writing: Option<JoinHandle<Result<(), JournalError>>>,
}

impl<'a> Baseline<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self { shared, seen: Vec::new(), writing: None }
    }

    fn push(&mut self, seen: Seen) -> Result<(), ScanError> {
        self.seen.push(seen);
        let (count, dirty) = (self.seen.len(), &self.shared.dirty);
        let is_full = count >= BASELINE_ROWS || count.is_multiple_of(BASELINE_ROWS_PRESSED) && dirty.is_pressed();
        if is_full { self.write() } else { Ok(()) }
    }

    /// Begins to write what has gathered. What the watch has heard of meanwhile is the decider's: it may be news, such
    /// as the files of a directory that was moved in.
    fn write(&mut self) -> Result<(), ScanError> {
        self.wait()?;
        self.shared.watch.wait_drained();
        let mut seen = std::mem::take(&mut self.seen);
        self.shared.dirty.retain_unmarked(&mut seen);
        let (journal, account, user) = (self.shared.journal.clone(), self.shared.account, self.shared.user.clone());
        self.writing = Some(self.shared.runtime.spawn(async move { journal.remember(account, seen, user).await }));
        Ok(())
    }

    fn wait(&mut self) -> Result<(), ScanError> {
        match self.writing.take().map(|writing| self.shared.runtime.block_on(writing)) {
            Some(Ok(written)) => Ok(written?),
            // The runtime is going down.
            Some(Err(_)) => Err(ScanError::Stopped),
            None => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<(), ScanError> {
        if !self.seen.is_empty() {
            self.write()?;
        }
        self.wait()
    }
}

/// The stored rows of a tree in byte order of their paths, a page at a time.
struct Rows {
    below: Option<FilePath>,
    page: VecDeque<StoredFile>,
    after: Option<FilePath>,
    ended: bool,
}

impl Rows {
    /// Those below a directory; `None` if its path is too long for any file below it to have a row.
    fn below(dir: &Dir) -> Option<Self> {
        let below = match dir.as_path() {
            None if *dir != Dir::root() => return None,
            below => below,
        };
        Some(Self { below, page: VecDeque::new(), after: None, ended: false })
    }

    fn next(&mut self, shared: &Shared) -> Result<Option<StoredFile>, JournalError> {
        self.next_if(shared, |_| true)
    }

    fn next_if(
        &mut self,
        shared: &Shared,
        wanted: impl FnOnce(&StoredFile) -> bool,
    ) -> Result<Option<StoredFile>, JournalError> {
        if self.page.is_empty() && !self.ended {
            let files = shared.journal.files(shared.account, self.below.as_ref(), self.after.as_ref(), PAGE_ROWS);
            self.page = files?.into();
            match self.page.back() {
                Some(last) => self.after = Some(last.path.clone()),
                None => self.ended = true,
            }
        }
        Ok(if self.page.front().is_some_and(wanted) { self.page.pop_front() } else { None })
    }
}

/// The names in a directory, those of directories with a slash at their end, in one piece of memory.
#[derive(Default)]
struct Names {
    bytes: Vec<u8>,
    ends: Vec<(usize, usize)>,
}

impl Names {
    fn push(&mut self, name: &[u8], is_directory: bool) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        if is_directory {
            self.bytes.push(b'/');
        }
        self.ends.push((start, self.bytes.len()));
    }

    /// By bytes, and so with the slash a directory stands where its files stand among all paths.
    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.ends.sort_unstable_by_key(|(start, end)| bytes.get(*start..*end));
    }

    fn get(&self, at: usize) -> Option<&[u8]> {
        let (start, end) = self.ends.get(at)?;
        self.bytes.get(*start..*end)
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn below_a_path_that_is_too_long_there_are_no_rows() {
        let mut dir = Dir::root();
        assert!(Rows::below(&dir).is_some_and(|rows| rows.below.is_none()));
        while dir.as_path().is_some() || dir == Dir::root() {
            assert_eq!(Rows::below(&dir).unwrap().below, dir.as_path());
            dir = dir.sub(&[b'x'; 200]);
        }
        assert!(Rows::below(&dir).is_none());
    }

    #[test]
    fn names_stand_in_the_order_of_whole_paths() {
        let mut names = Names::default();
        for (name, is_directory) in [("a", true), ("a.txt", false), ("a-b", false), ("b", false), ("a0", false)] {
            names.push(name.as_bytes(), is_directory);
        }
        names.sort();
        let sorted: Vec<_> = (0..5).filter_map(|at| names.get(at)).map(String::from_utf8_lossy).collect();
        assert_eq!(sorted, ["a-b", "a.txt", "a/", "a0", "b"]);
    }
}
