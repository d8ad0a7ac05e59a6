//! The decider: compares a dirty path with its stored row, and claims what it can prove.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use filebell_core::arrival::{Announce, Arrival, Claim, Completeness, Fingerprint, Present, SourceKind, Version};
use filebell_core::event::StoredFile;
use filebell_core::path::FilePath;
use md5::Md5;
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::Shared;
use super::dirty::{Dirt, Hint, Lane, Taken, VANISH_GRACE, inode_of};
use super::lease::{self, Lease};
use super::root::{Look, OVERLAY, OpenRoot, RootLost, blind_file_system, is_absence, links, look_at};
use crate::journal::{Asked, Considered, JournalError, Known, Recorded};
use crate::metrics::Found;
use crate::source::writers::End;

/// At most this many paths are decided together, and their claims committed together.
const BATCH_PATHS_MAX: usize = 512;
/// What has gathered is committed when deciding the batch has taken this long.
const BATCH_TIME_MAX: Duration = Duration::from_millis(50);
/// A larger file is read by another worker.
const QUICK_BYTES_MAX: u64 = 8 << 20;
/// And a larger one than this by a third.
const LARGE_BYTES_MAX: u64 = 1 << 30;
/// Read and hashed at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// How long to wait for a writer at first: CLOSE_WRITE is raised microseconds before the writer lets go.
const BUSY_WAIT_MIN: Duration = Duration::from_micros(50);
/// How long to wait for a writer at most. Its close is a hint that comes sooner.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(5);
/// A writer that is found so often in a row is not merely about to let go: it is worth knowing who it is.
const BUSY_TIMES_MIN: u32 = 3;
/// How often the writers of a busy file are looked for anew.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// As coarse as the times may be that a file system keeps, and some more: within it a second change may go unseen.
const TIME_GRAIN_NS: u64 = 3_000_000_000;
/// How long to wait after a failure at first, and at most.
const FAILURE_WAIT_MIN: Duration = Duration::from_millis(250);
const FAILURE_WAIT_MAX: Duration = Duration::from_secs(30);

/// Decides dirty paths of a lane until all stops.
pub(super) fn run(shared: &Arc<Shared>, lane: Lane) {
    let mut decider = Decider { shared, lane, chunk: vec![0; CHUNK_BYTES], blind: HashMap::new(), refusals: 0 };
    let max = match lane {
        Lane::Quick => BATCH_PATHS_MAX,
        Lane::Large | Lane::Huge => 1,
    };
    while let Some(batch) = shared.dirty.take(lane, max) {
        decider.decide_all(batch);
    }
}

struct Decider<'a> {
    shared: &'a Shared,
    lane: Lane,
    chunk: Vec<u8>,
    /// Per device, the name of its file system if leases prove nothing on it.
    blind: HashMap<u64, Option<&'static str>>,
    /// How often in a row the journal refused.
    refusals: u32,
}

/// What to do with a path.
enum Step {
    /// Nothing has changed, or nothing can be proved.
    Silent,
    /// Look again later.
    Later(Duration),
    /// It is for the worker of larger files.
    TooLarge(Lane),
    /// Tell the journal.
    Claim(Claim),
}

/// Claims to be committed together. Files that are gone come after those that are there, so that a move is one.
#[derive(Default)]
struct Claims {
    present: Vec<(Taken, Considered)>,
    gone: Vec<(Taken, Considered)>,
}

impl Decider<'_> {
    fn decide_all(&mut self, batch: Vec<Taken>) {
        let root = match self.shared.root.open() {
            Ok(root) => root,
            Err(RootLost::Closed(_) | RootLost::Swapped(_)) => return self.put_all_back(batch),
        };
        let looks: Vec<_> = batch.iter().map(|taken| root.look(&taken.path)).collect();
        let known = match self.known(&batch, &looks) {
            Ok(known) => known,
            Err(error) => return self.refused(batch, &error),
        };
        let refusals = self.refusals;
        let mut claims = Claims::default();
        let mut started = Instant::now();
        for ((mut taken, look), known) in batch.into_iter().zip(looks).zip(known) {
            let step = look.and_then(|look| self.decide(&root, &mut taken, look, &known));
            self.take_step(taken, step, known.row, &mut claims);
            if started.elapsed() > BATCH_TIME_MAX {
                self.record(std::mem::take(&mut claims.present));
                started = Instant::now();
            }
        }
        claims.present.append(&mut claims.gone);
        self.record(claims.present);
        if refusals > 0 && self.refusals == refusals {
            self.refusals = 0;
            self.shared.status.set(&self.shared.user, |conditions| conditions.journal = None);
        }
    }

    fn take_step(&self, mut taken: Taken, step: Result<Step, Errno>, row: Option<StoredFile>, claims: &mut Claims) {
        let dirty = &self.shared.dirty;
        match step {
            Ok(Step::Silent) => dirty.done(&taken.path),
            Ok(Step::Later(delay)) => dirty.put_back(taken, self.lane, delay),
            Ok(Step::TooLarge(lane)) => dirty.put_back(taken, lane, Duration::ZERO),
            Ok(Step::Claim(claim)) => {
                let gone = claim == Claim::Gone;
                let arrival = Arrival {
                    account: self.shared.account,
                    path: FilePath::clone(&taken.path),
                    claim,
                    source: SourceKind::Folder,
                    user: self.shared.user.clone(),
                };
                let considered = Considered { arrival, row: row.map(|row| (row.id, row.fingerprint)) };
                if gone { &mut claims.gone } else { &mut claims.present }.push((taken, considered));
            }
            Err(Errno::ACCESS | Errno::PERM | Errno::NAMETOOLONG) => {
                // A change of the right to read it raises an event of its own; a scan comes back to it anyway.
                self.unreadable(&taken.path, step.err());
                dirty.done(&taken.path);
            }
            Err(error) => {
                if taken.dirt.failures == 0 {
                    self.unreadable(&taken.path, Some(error));
                }
                taken.dirt.failures = taken.dirt.failures.saturating_add(1);
                let delay = growing(FAILURE_WAIT_MIN, 2, taken.dirt.failures, FAILURE_WAIT_MAX);
                dirty.put_back(taken, self.lane, delay);
            }
        }
    }

    fn unreadable(&self, path: &FilePath, error: Option<Errno>) {
        let why = error.map(|error| error.to_string()).unwrap_or_default();
        tracing::warn!(account = self.shared.user, path = %path.to_text(), why, "a file cannot be read");
        self.shared.status.set(&self.shared.user, |conditions| {
            conditions.note_unreadable(|| format!("{} ({why})", path.to_text()));
        });
    }

    /// Asks the journal for all of a batch at once.
    fn known(&self, batch: &[Taken], looks: &[Result<Look, Errno>]) -> Result<Vec<Known>, JournalError> {
        let asked = batch.iter().zip(looks).map(|(taken, look)| Asked {
            path: FilePath::clone(&taken.path),
            inode: match look {
                Ok(Look::File(print)) => Some(print.inode),
                Ok(Look::NoFile) | Err(_) => None,
            },
        });
        self.shared.journal.known(self.shared.account, &asked.collect::<Vec<_>>())
    }

    fn decide(&mut self, root: &OpenRoot, taken: &mut Taken, look: Look, known: &Known) -> Result<Step, Errno> {
        match look {
            Look::NoFile => {
                taken.dirt.undecided = None;
                self.decide_absent(root, taken, known.row.as_ref())
            }
            Look::File(print) => {
                taken.dirt.gone_since = None;
                taken.dirt.seen_vanish = false;
                taken.dirt.undecided = Some(inode_of(&print));
                let is_known = known.row.as_ref().is_some_and(|row| row.fingerprint == print);
                if is_known && !(taken.dirt.perhaps_written && self.is_young(&print)) {
                    return Ok(Step::Silent);
                }
                let lane = lane_of(print.size);
                if lane > self.lane {
                    return Ok(Step::TooLarge(lane));
                }
                match root.file(&taken.path) {
                    Ok(file) => self.decide_file(root, taken, &file, known),
                    // It went, or became something else, between the two looks.
                    Err(error) if is_absence(error) => Ok(Step::Later(BUSY_WAIT_MIN)),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Whether a file was changed so short a time ago that a change after it may have the same time.
    fn is_young(&self, print: &Fingerprint) -> bool {
        let now_ns = self.shared.journal.now().as_millis().saturating_mul(1_000_000);
        now_ns.abs_diff(print.ctime_ns) < TIME_GRAIN_NS
    }

    /// A path without a file is a deletion only with proof: it is missing from a directory of the very device it lay
    /// on, in the root that is known: a disk that is not mounted deletes nothing, whatever is done where it was. In
    /// another root only what came there can be seen to go.
    fn decide_absent(&self, root: &OpenRoot, taken: &mut Taken, row: Option<&StoredFile>) -> Result<Step, Errno> {
        let Some(row) = row else {
            // The first scan may have seen it, and have yet to write its row.
            let scanning = taken.dirt.seen_vanish && self.shared.writes_baseline();
            return Ok(if scanning { Step::Later(VANISH_GRACE) } else { Step::Silent });
        };
        let gone_for = taken.dirt.gone_since.get_or_insert_with(Instant::now).elapsed();
        if gone_for < VANISH_GRACE {
            return Ok(Step::Later(VANISH_GRACE.saturating_sub(gone_for)));
        }
        if self.shared.dirty.holds_undecided(inode_of(&row.fingerprint)) {
            // It lies under another name, which will tell the move.
            return Ok(Step::Later(VANISH_GRACE));
        }
        if !self.shared.root.is_known() {
            let came_here = row.arrived_at.as_millis() >= self.shared.root_since.load(Ordering::Relaxed);
            return Ok(if taken.dirt.seen_vanish && came_here { Step::Claim(Claim::Gone) } else { Step::Silent });
        }
        let proved = root.nearest_device(&taken.path)? == row.fingerprint.dev
            || blind_file_system(root.as_fd()) == Some(OVERLAY);
        Ok(if proved { Step::Claim(Claim::Gone) } else { Step::Silent })
    }

    fn decide_file(
        &mut self,
        root: &OpenRoot,
        taken: &mut Taken,
        file: &OwnedFd,
        known: &Known,
    ) -> Result<Step, Errno> {
        let Look::File(print) = look_at(file.as_fd())? else { return Ok(Step::Later(BUSY_WAIT_MIN)) };
        let lease = self.lease(file, print.dev);
        if lease == Lease::Busy {
            let step = busy(&mut taken.dirt);
            self.look_for_writers(taken, &print);
            return Ok(step);
        }
        if let Some(left) = self.orphaned_for(taken, &print) {
            return Ok(Step::Later(left));
        }
        let announce = self.announce(&taken.path, &taken.dirt, &print);
        if lease == Lease::Unavailable && announce != Announce::Baseline {
            let (seen, since) = *taken.dirt.standing.get_or_insert_with(|| (print, Instant::now()));
            if seen != print {
                taken.dirt.standing = Some((print, Instant::now()));
                return Ok(Step::Later(self.shared.config.settle));
            }
            let left = self.shared.config.settle.saturating_sub(since.elapsed());
            if !left.is_zero() {
                return Ok(Step::Later(left));
            }
        }
        let Some(version) = self.read(file, print.size)? else { return Ok(busy(&mut taken.dirt)) };
        let unchanged = look_at(file.as_fd())? == Look::File(print)
            && root.look(&taken.path)? == Look::File(print)
            && self.lease(file, print.dev) == lease;
        if !unchanged {
            return Ok(busy(&mut taken.dirt));
        }
        taken.dirt.shared_inode = (links(file.as_fd())? > 1).then_some(print.inode);
        let completeness = match lease {
            _ if taken.dirt.orphan.is_some() => Completeness::Orphaned,
            Lease::Granted if taken.dirt.renamed => Completeness::Renamed,
            Lease::Granted => Completeness::Leased,
            Lease::Busy | Lease::Unavailable => Completeness::QuietPeriod,
        };
        let moved_from = match known.row {
            Some(_) => None,
            None => self.moved_from(root, &print, &known.kin)?,
        };
        Ok(Step::Claim(Claim::Present(Present { fingerprint: print, version, completeness, moved_from, announce })))
    }

    fn lease(&mut self, file: &OwnedFd, dev: u64) -> Lease {
        let blind = self.blind.entry(dev).or_insert_with(|| blind_file_system(file.as_fd()));
        match blind {
            Some(_) => Lease::Unavailable,
            None => lease::probe(file.as_fd()),
        }
    }

    /// Has the writers of a busy file looked for, once and then rarely.
    fn look_for_writers(&self, taken: &mut Taken, print: &Fingerprint) {
        let dirt = &mut taken.dirt;
        if dirt.busy >= BUSY_TIMES_MIN && dirt.looked_at.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            dirt.looked_at = Some(Instant::now());
            self.shared.witness.ask((print.dev, print.inode), &taken.path);
        }
    }

    /// How long to wait yet for somebody to go on with a file that nobody writes any more, because its writer was
    /// killed. Whoever goes on with it and ends well has completed it.
    fn orphaned_for(&self, taken: &mut Taken, print: &Fingerprint) -> Option<Duration> {
        if taken.dirt.looked_at.take().is_none() && taken.dirt.orphan.is_none() {
            return None;
        }
        let writers = self.shared.dirty.take_writers(taken);
        let killed = writers.is_some_and(|writers| writers.iter().any(|writer| writer.end() == End::Killed));
        let content = |print: &Fingerprint| (print.dev, print.inode, print.size, print.mtime_ns);
        taken.dirt.orphan = match taken.dirt.orphan {
            Some((left, since)) if content(&left) == content(print) => Some((*print, since)),
            _ => killed.then(|| (*print, Instant::now())),
        };
        let (_, since) = taken.dirt.orphan?;
        let left = self.shared.config.orphan_after.saturating_sub(since.elapsed());
        (!left.is_zero()).then_some(left)
    }

    /// What a new root came with is remembered, and told only if that is wanted: found by nothing but the first scan,
    /// and not changed since the root was first seen. The time of that change cannot be set by a writer.
    fn announce(&self, path: &FilePath, dirt: &Dirt, print: &Fingerprint) -> Announce {
        match dirt {
            Dirt { only_scanned: true, .. } if self.shared.is_baseline(path.as_bytes(), print) => Announce::Baseline,
            Dirt { written: true, .. } => Announce::Written,
            _ => Announce::News,
        }
    }

    /// Reads a file of `size` bytes; `None` if it has become shorter or longer, or all stops.
    fn read(&mut self, file: &OwnedFd, size: u64) -> Result<Option<Version>, Errno> {
        let (mut sha256, mut md5) = (Sha256::new(), Md5::new());
        let mut read = 0;
        while read <= size {
            let count = match rustix::io::read(file, self.chunk.as_mut_slice()) {
                Ok(0) => break,
                Err(Errno::INTR) => continue,
                answer => answer?,
            };
            let bytes = self.chunk.get(..count).unwrap_or_default();
            sha256.update(bytes);
            md5.update(bytes);
            read += count as u64;
            if self.shared.is_stopped() {
                return Ok(None);
            }
        }
        let version = Version { sha256: sha256.finalize().into(), md5: md5.finalize().into(), size };
        Ok((read == size).then_some(version))
    }

    /// A file of several names was written under one of them, and nothing was heard of the others: where their rows
    /// differ, all are looked at again.
    fn compare_names(&self, path: &FilePath, inode: u64) {
        let asked = Asked { path: path.clone(), inode: Some(inode) };
        let known = self.shared.journal.known(self.shared.account, &[asked]);
        let Ok(known) = known else { return self.shared.scan.request() };
        let rows: Vec<StoredFile> = known.into_iter().flat_map(|known| known.kin).collect();
        let differ = rows.iter().zip(rows.iter().skip(1)).any(|(one, other)| one.fingerprint != other.fingerprint);
        for row in rows {
            if differ && !self.shared.dirty.mark(row.path, Hint::Touched) {
                self.shared.scan.request();
            }
        }
    }

    /// Where the same inode lay before, if it lies there no longer.
    fn moved_from(&self, root: &OpenRoot, print: &Fingerprint, kin: &[StoredFile]) -> Result<Option<FilePath>, Errno> {
        for old in kin {
            let was = &old.fingerprint;
            // Without a time of birth the inode number may have been given to another file meanwhile.
            let same = was.same_inode(print)
                && (was.birth_ns.is_some() || (was.size, was.mtime_ns) == (print.size, print.mtime_ns));
            if !same {
                continue;
            }
            // Another file under the old name keeps the old row: it may be claimed in this very batch.
            if root.look(&old.path)? == Look::NoFile {
                return Ok(Some(old.path.clone()));
            }
        }
        Ok(None)
    }

    fn record(&mut self, claims: Vec<(Taken, Considered)>) {
        if claims.is_empty() {
            return;
        }
        let (taken, arrivals): (Vec<_>, Vec<_>) = claims.into_iter().unzip();
        match self.shared.journal.record_here(arrivals) {
            Ok(recorded) => {
                let scanned = taken.iter().filter(|taken| taken.dirt.only_scanned).count();
                let metrics = self.shared.journal.metrics();
                metrics.arrived(SourceKind::Folder, Found::Scan, scanned);
                metrics.arrived(SourceKind::Folder, Found::Watch, taken.len().saturating_sub(scanned));
                for (taken, recorded) in taken.into_iter().zip(recorded) {
                    if recorded == Recorded::Stale {
                        // Somebody has recorded the path since it was looked at.
                        self.shared.dirty.put_back(taken, self.lane, Duration::ZERO);
                        continue;
                    }
                    taken.dirt.shared_inode.into_iter().for_each(|inode| self.compare_names(&taken.path, inode));
                    self.shared.dirty.done(&taken.path);
                }
            }
            Err(error) => self.refused(taken, &error),
        }
    }

    /// The journal did not take the claims: the paths stay dirty.
    fn refused(&mut self, batch: Vec<Taken>, error: &JournalError) {
        if self.refusals == 0 && !self.shared.is_stopped() {
            tracing::error!(
                account = self.shared.user,
                error = error as &dyn std::error::Error,
                "arrivals wait, for the journal does not take them"
            );
        }
        self.shared.status.set(&self.shared.user, |conditions| conditions.journal = Some(error.to_string()));
        self.refusals = self.refusals.saturating_add(1);
        let delay = growing(FAILURE_WAIT_MIN, 2, self.refusals, FAILURE_WAIT_MAX);
        for taken in batch {
            self.shared.dirty.put_back(taken, self.lane, delay);
        }
    }

    fn put_all_back(&self, batch: Vec<Taken>) {
        for taken in batch {
            self.shared.dirty.put_back(taken, self.lane, Duration::from_secs(1));
        }
    }
}

/// Who reads a file of this size.
fn lane_of(size: u64) -> Lane {
    if size > LARGE_BYTES_MAX {
        Lane::Huge
    } else if size > QUICK_BYTES_MAX {
        Lane::Large
    } else {
        Lane::Quick
    }
}

/// Somebody writes: an end of that is news, whatever lay there when the root was first seen.
fn busy(dirt: &mut Dirt) -> Step {
    dirt.only_scanned = false;
    dirt.busy = dirt.busy.saturating_add(1);
    Step::Later(growing(BUSY_WAIT_MIN, 4, dirt.busy, BUSY_WAIT_MAX))
}

/// `min` at the first time, then `factor` times as long each time, `max` at most.
fn growing(min: Duration, factor: u32, times: u32, max: Duration) -> Duration {
    let grown = factor.checked_pow(times.saturating_sub(1)).and_then(|factor| min.checked_mul(factor));
    grown.map_or(max, |grown| grown.min(max))
}
