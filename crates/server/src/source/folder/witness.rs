//! Remembers who writes the files that are busy, so that it can be asked how they ended.
//!
//! Looking costs a walk over all processes, which the decider has no time for: a thread of its own does it, for all
//! files asked for meanwhile at once, and rests in between.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::{Duration, Instant};

use filebell_core::path::FilePath;

use super::{Shared, locked, wait_until};
use crate::source::writers::{Inode, Process, find};

/// At most this many files are asked for in one walk; the decider comes back to the others.
const FILES_MAX: usize = 4096;
/// At most this many processes are remembered, each by an open descriptor.
const PROCESSES_MAX: usize = 128;
/// The shortest time between two walks.
const REST_MIN: Duration = Duration::from_millis(20);
/// A walk takes at most one part in so many (and one) of the time.
const REST: u32 = 10;

/// Who is to be looked for.
#[derive(Default)]
pub(super) struct Witness {
    asked: Mutex<Asked>,
    changed: Condvar,
}

#[derive(Default)]
struct Asked {
    files: HashMap<Inode, HashSet<Arc<FilePath>>>,
    stopped: bool,
}

impl Witness {
    /// Asks for the writers of a busy file. What is found is kept with the dirty path.
    pub(super) fn ask(&self, file: Inode, path: &Arc<FilePath>) {
        let mut asked = locked(&self.asked);
        if asked.files.len() < FILES_MAX {
            asked.files.entry(file).or_default().insert(Arc::clone(path));
            self.changed.notify_all();
        }
    }

    pub(super) fn stop(&self) {
        locked(&self.asked).stopped = true;
        self.changed.notify_all();
    }

    /// Waits until something is asked; `None` when all stops.
    fn wait(&self) -> Option<HashMap<Inode, HashSet<Arc<FilePath>>>> {
        let mut asked = locked(&self.asked);
        while asked.files.is_empty() && !asked.stopped {
            asked = wait_until(&self.changed, asked, None);
        }
        (!asked.stopped).then(|| std::mem::take(&mut asked.files))
    }

    fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut asked = locked(&self.asked);
        while !asked.stopped && Instant::now() < until {
            asked = wait_until(&self.changed, asked, Some(until));
        }
    }
}

/// Looks when asked, until all stops.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut known: HashMap<u32, Weak<Process>> = HashMap::new();
    while let Some(files) = shared.witness.wait() {
        let began = Instant::now();
        known.retain(|_, process| process.strong_count() > 0);
        let mut writers: HashMap<Inode, Vec<Arc<Process>>> = HashMap::new();
        for (file, pid) in find(&files.keys().copied().collect()) {
            if let Some(process) = remembered(&mut known, pid) {
                writers.entry(file).or_default().push(process);
            }
        }
        for (file, writers) in writers {
            let writers: Arc<[Arc<Process>]> = writers.into();
            for path in files.get(&file).into_iter().flatten() {
                shared.dirty.written_by(path, &writers);
            }
        }
        shared.witness.rest(REST_MIN.max(began.elapsed().saturating_mul(REST)));
    }
}

/// One process writes many files: it is held open once.
fn remembered(known: &mut HashMap<u32, Weak<Process>>, pid: u32) -> Option<Arc<Process>> {
    if let Some(process) = known.get(&pid).and_then(Weak::upgrade).filter(|process| process.is_alive()) {
        return Some(process);
    }
    if known.len() >= PROCESSES_MAX {
        return None;
    }
    let process = Arc::new(Process::open(pid)?);
    known.insert(pid, Arc::downgrade(&process));
    Some(process)
}
