//! The watch: hears of changes from inotify and marks paths dirty.
//!
//! Every directory is watched first and listed after, so that what lands in a new one is either listed or raises an
//! event. A directory that moves loses its watches and is watched and listed anew where it has come to lie.

use std::cell::Cell;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{AtFlags, FileType, Mode as Permissions, OFlags};
use rustix::io::Errno;

use super::dir::Dir;
use super::dirty::Hint;
use super::mounts::Mounts;
use super::root::{OpenRoot, RootLost, blind_file_system, device_of, is_absence, is_directory_in};
use super::status::{Conditions, Unwatched};
use super::{Mode, Shared, locked, wait_until};

/// Directories listed between two looks at the queue of events.
const DIRECTORIES_AT_ONCE: usize = 64;
/// How often the root is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often a file of our own proves that the watch lives.
const PROBE_EVERY: Duration = Duration::from_secs(120);
/// How soon after a failed one the next is tried.
const PROBE_AGAIN: Duration = Duration::from_secs(10);
/// How long our own file may take to raise its event.
const PROBE_TIME_MAX: Duration = Duration::from_secs(5);
/// Room for events read at once.
const EVENTS_BYTES: usize = 64 << 10;
/// So many directories that went or came are kept together.
const MOVED_MAX: usize = 256;
/// More directories without a watch than this are not kept one by one: the whole tree is walked instead.
const UNWATCHED_MAX: usize = 1024;

/// Wakes the watch from other threads.
pub(super) struct Bell {
    wake: OwnedFd,
    rescan: AtomicBool,
    drained: Mutex<Drained>,
    drained_changed: Condvar,
}

/// Who waits until the events of now are read: `reached` follows `asked`.
#[derive(Default)]
struct Drained {
    asked: u64,
    reached: u64,
    stopped: bool,
}

impl Bell {
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Self {
            wake: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            rescan: AtomicBool::new(false),
            drained: Mutex::default(),
            drained_changed: Condvar::new(),
        })
    }

    /// Wakes the watch.
    pub(super) fn wake(&self) {
        // It fails only when the counter is full, and then the watch is awake.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Asks for all directories to be watched anew where needed, and for a scan after that.
    pub(super) fn rescan(&self) {
        self.rescan.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Waits until the events that were raised before this call have been read, and new directories listed.
    pub(super) fn wait_drained(&self) {
        let mut drained = locked(&self.drained);
        drained.asked += 1;
        let asked = drained.asked;
        self.wake();
        while drained.reached < asked && !drained.stopped {
            drained = wait_until(&self.drained_changed, drained, None);
        }
    }

    fn asked(&self) -> u64 {
        locked(&self.drained).asked
    }

    fn reached(&self, asked: u64) {
        let mut drained = locked(&self.drained);
        if drained.reached < asked {
            drained.reached = asked;
            self.drained_changed.notify_all();
        }
    }

    fn stopped(&self) {
        locked(&self.drained).stopped = true;
        self.drained_changed.notify_all();
    }
}

/// Watches until all stops.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut watcher = Watcher::new(shared);
    watcher.run();
    shared.watch.stopped();
}

struct Watcher<'a> {
    shared: &'a Shared,
    probe_name: Vec<u8>,
    queue: Option<Queue>,
    mounts: Mounts,
    jobs: Jobs,
    /// Directories that went or came: what is known below them is looked at again when the jobs are done.
    moved: BTreeSet<Dir>,
    /// A path was not taken in since: a scan follows, which sees what went and what came as one.
    overfull: Cell<bool>,
    /// The walk over all directories is under way; when it is through, a scan follows.
    arming: bool,
    lost: bool,
    next_tick: Instant,
    next_probe: Instant,
    /// Our own file was written and its event is awaited until then.
    probe_until: Option<Instant>,
    buffer: Box<[MaybeUninit<u8>]>,
}

/// The events, and which directory each comes from.
struct Queue {
    inotify: OwnedFd,
    by_watch: HashMap<i32, Watched>,
    by_dir: BTreeMap<Dir, i32>,
    /// Counts the walks over all directories: a watch not met by the newest one is of a directory that is gone.
    walk: u64,
}

struct Watched {
    dir: Dir,
    walk: u64,
}

struct Job {
    dir: Dir,
    /// Whether its files are marked: not in the walk over all directories, which a scan follows.
    mark: bool,
}

/// Directories still to be watched and listed, each once however often it was heard of.
#[derive(Default)]
struct Jobs {
    /// The next one last.
    order: Vec<Dir>,
    /// Whether the files of each are marked.
    marks: HashMap<Dir, bool>,
}

impl Jobs {
    fn push(&mut self, Job { dir, mark }: Job) {
        match self.marks.entry(dir) {
            // It is listed after this call, as it would have been before.
            Entry::Occupied(mut waiting) => *waiting.get_mut() |= mark,
            Entry::Vacant(new) => {
                self.order.push(new.key().clone());
                new.insert(mark);
            }
        }
    }

    fn pop(&mut self) -> Option<Job> {
        let dir = self.order.pop()?;
        let mark = self.marks.remove(&dir).unwrap_or_default();
        Some(Job { dir, mark })
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl<'a> Watcher<'a> {
    fn new(shared: &'a Shared) -> Self {
        let now = Instant::now();
        Self {
            shared,
            probe_name: format!(".filebell-probe-{}-{}", std::process::id(), shared.account).into_bytes(),
            queue: None,
            mounts: Mounts::new(shared.root.path()),
            jobs: Jobs::default(),
            moved: BTreeSet::new(),
            overfull: Cell::new(false),
            arming: false,
            lost: false,
            next_tick: now + TICK,
            next_probe: now,
            probe_until: None,
            buffer: vec![MaybeUninit::uninit(); EVENTS_BYTES].into_boxed_slice(),
        }
    }

    fn run(&mut self) {
        self.begin();
        while !self.shared.is_stopped() {
            let asked = self.shared.watch.asked();
            if Instant::now() >= self.next_tick {
                self.tick();
            }
            // One walk at a time: what is asked for during one is done after it.
            if !self.lost && !self.arming && self.shared.watch.rescan.swap(false, Ordering::Relaxed) {
                self.arm();
            }
            let drained = self.read_events();
            self.work();
            if self.jobs.is_empty() || self.moved.len() >= MOVED_MAX {
                self.sweep_moved();
            }
            if drained && self.jobs.is_empty() {
                self.shared.watch.reached(asked);
                self.sleep();
            }
        }
    }

    /// Opens a queue for events, unless the tree is to be walked instead, and starts with all directories.
    fn begin(&mut self) {
        self.queue = None;
        self.jobs.clear();
        let reason = self.open_queue().err();
        self.conditions(|conditions| conditions.polling = reason);
        self.arm();
    }

    /// Says why the tree is not watched, if so.
    fn open_queue(&mut self) -> Result<(), String> {
        match self.shared.config.mode {
            Mode::Poll => return Err("polling is configured".to_owned()),
            Mode::Auto => {
                let root = self.shared.root.open().map_err(|error| error.to_string())?;
                if let Some(name) = blind_file_system(root.as_fd()) {
                    return Err(format!("the root lies on {name}, where changes made elsewhere raise no event"));
                }
            }
            Mode::Inotify => (),
        }
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|error| {
            format!(
                "no watch could be opened ({error}); if too many are open, raise the sysctl \
                 fs.inotify.max_user_instances"
            )
        })?;
        self.queue = Some(Queue { inotify, by_watch: HashMap::new(), by_dir: BTreeMap::new(), walk: 0 });
        Ok(())
    }

    /// Watches all directories, also those that were missed; a scan follows. Watches that are right stay as they are.
    fn arm(&mut self) {
        match &mut self.queue {
            Some(queue) => {
                queue.walk += 1;
                self.arming = true;
                self.jobs.push(Job { dir: Dir::root(), mark: false });
            }
            None => self.shared.scan.request(),
        }
    }

    fn tick(&mut self) {
        self.next_tick = Instant::now() + TICK;
        match self.shared.root.open() {
            Ok(root) if self.lost => {
                drop(root);
                self.found();
            }
            Ok(root) => self.probe(&root),
            Err(RootLost::Closed(error)) => {
                let root = self.shared.root.path().display();
                self.lose(format!("the root {root} cannot be opened ({error}); nothing is told as deleted"));
            }
            Err(RootLost::Swapped(identity)) => {
                self.shared.root.adopt(identity);
                self.shared.look_at_root();
                self.found();
            }
        }
    }

    fn lose(&mut self, reason: String) {
        if !self.lost {
            self.lost = true;
            self.queue = None;
            self.jobs.clear();
            self.arming = false;
            self.probe_until = None;
        }
        self.conditions(|conditions| conditions.root = Some(reason));
    }

    fn found(&mut self) {
        self.lost = false;
        self.next_probe = Instant::now();
        self.conditions(|conditions| conditions.root = None);
        self.begin();
    }

    /// Writes a file of our own now and then, and expects its event.
    fn probe(&mut self, root: &OpenRoot) {
        let now = Instant::now();
        if self.queue.is_none() || self.arming {
            return;
        }
        if self.probe_until.is_some_and(|until| now >= until) {
            self.probe_until = None;
            self.next_probe = now + PROBE_AGAIN;
            let reason = "a file of our own raised no event: changes are found by walking the tree until one does";
            self.conditions(|conditions| conditions.probe = Some(reason.to_owned()));
            self.shared.watch.rescan();
        } else if self.probe_until.is_none() && now >= self.next_probe {
            self.next_probe = now + PROBE_EVERY;
            match write_probe(root.as_fd(), &self.probe_name) {
                Ok(()) => self.probe_until = Some(now + PROBE_TIME_MAX),
                // A root that is read-only for us cannot be proved. It may well be live.
                Err(error) => tracing::debug!(account = self.shared.user, %error, "no probe could be written"),
            }
        }
    }

    fn probed(&mut self) {
        if self.probe_until.take().is_some() {
            self.shared.status.probed(self.shared.journal.now());
            self.conditions(|conditions| conditions.probe = None);
        }
    }

    fn sleep(&mut self) {
        let mut fds = vec![PollFd::new(&self.shared.watch.wake, PollFlags::IN)];
        fds.extend(self.queue.iter().map(|queue| PollFd::new(&queue.inotify, PollFlags::IN)));
        let mounts = self.mounts.changed().map(|changed| {
            fds.push(changed);
            fds.len() - 1
        });
        let left = self.next_tick.saturating_duration_since(Instant::now());
        // Interrupted or not: the loop looks at everything again.
        let _ = rustix::event::poll(&mut fds, Timespec::try_from(left).ok().as_ref());
        let mounted = mounts.and_then(|at| fds.get(at)).is_some_and(|fd| fd.revents().contains(PollFlags::PRI));
        let _ = rustix::io::read(&self.shared.watch.wake, &mut [0_u8; 8]);
        if mounted && self.mounts.look(self.shared.root.path()) {
            tracing::info!(account = self.shared.user, "something was mounted or unmounted below the root");
            self.shared.watch.rescan();
        }
    }

    /// Reads some events; `true` if there are no more.
    fn read_events(&mut self) -> bool {
        let Some(queue) = &mut self.queue else { return true };
        let mut heard = Vec::new();
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut reader = inotify::Reader::new(queue.inotify.as_fd(), &mut buffer);
        // One buffer's worth, so that what is heard is bounded; the loop comes back for the rest.
        let drained = loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_bytes().to_vec());
                    heard.push((event.wd(), event.events(), name));
                }
                Err(Errno::INTR) => continue,
                Err(_) => break true,
            }
            if reader.is_buffer_empty() {
                break false;
            }
        };
        self.buffer = buffer;
        for (watch, what, name) in heard {
            self.hear(watch, what, name.as_deref().unwrap_or_default());
        }
        drained
    }

    fn hear(&mut self, watch: i32, what: ReadFlags, name: &[u8]) {
        let Some(queue) = &mut self.queue else { return };
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.shared.journal.metrics().overflowed();
            tracing::warn!(account = self.shared.user, "events were lost, for they came too fast: the tree is walked");
            return self.shared.watch.rescan();
        }
        // Of a directory that is not watched any more: where it has moved to, it was listed after.
        let Some(dir) = queue.by_watch.get(&watch).map(|watched| watched.dir.clone()) else { return };
        if what.intersects(ReadFlags::IGNORED | ReadFlags::UNMOUNT | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF) {
            if what.intersects(ReadFlags::IGNORED | ReadFlags::UNMOUNT) {
                queue.forget(watch);
            }
            if what.contains(ReadFlags::UNMOUNT) {
                // What was mounted there may be there again, and be taken for the same.
                self.shared.watch.rescan();
            }
            if dir == Dir::root() {
                self.next_tick = Instant::now();
            }
        } else if name == self.probe_name {
            self.probed();
        } else if name.is_empty() {
            // The watched directory itself was touched.
        } else if what.contains(ReadFlags::ISDIR) {
            self.hear_of_directory(dir.sub(name), name, what);
        } else if !self.shared.config.ignore.file(name) {
            self.hear_of_file(&dir, name, what);
        }
    }

    fn hear_of_file(&self, dir: &Dir, name: &[u8], what: ReadFlags) {
        let hint = match what {
            _ if what.contains(ReadFlags::CLOSE_WRITE) => Hint::Closed,
            _ if what.contains(ReadFlags::MOVED_TO) => Hint::Renamed,
            _ if what.contains(ReadFlags::CREATE) => Hint::Created,
            _ if what.contains(ReadFlags::MODIFY) => Hint::Modified,
            _ if what.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) => Hint::Vanished,
            _ => Hint::Touched,
        };
        self.mark(dir, name, hint);
    }

    fn hear_of_directory(&mut self, dir: Dir, name: &[u8], what: ReadFlags) {
        let Some(queue) = &mut self.queue else { return };
        if self.shared.config.ignore.directory(name) {
            return;
        }
        let watched = queue.by_dir.contains_key(&dir);
        if what.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
            queue.drop_below(&dir);
            // A watched directory that was removed was empty, and was heard to become so.
            if what.contains(ReadFlags::MOVED_FROM) || !watched {
                self.moved.insert(dir.clone());
            }
        } else if what.contains(ReadFlags::MOVED_TO) {
            // Nothing was heard of it since it lost its watch: a file that was just decided here may be gone again.
            self.moved.insert(dir.clone());
        } else if what.contains(ReadFlags::ATTRIB)
            && watched
            && self.shared.status.get(|conditions| conditions.unreadable.is_none())
        {
            // Else it may be readable again, and what could not be looked at in it, and was given up, with it.
            return;
        }
        // Also after it went: of two directories that were exchanged, the news of the old one comes last.
        self.jobs.push(Job { dir, mark: true });
    }

    fn sweep_moved(&mut self) {
        if self.overfull.take() {
            return self.moved.clear();
        }
        for dir in std::mem::take(&mut self.moved) {
            self.shared.dirty.mark_below(&dir, self.shared.below_moved());
            self.shared.scan.sweep(dir);
        }
    }

    fn mark(&self, dir: &Dir, name: &[u8], hint: Hint) {
        match dir.file(name) {
            Ok(path) => {
                if !self.shared.dirty.mark(path, hint) {
                    self.overfull.set(true);
                    self.shared.scan.request();
                }
            }
            Err(error) => tracing::warn!(account = self.shared.user, %dir, %error, "a name is left out"),
        }
    }

    /// Watches and lists a few directories.
    fn work(&mut self) {
        if self.jobs.is_empty() {
            return;
        }
        match self.shared.root.open() {
            Ok(root) => {
                for _ in 0..DIRECTORIES_AT_ONCE {
                    let Some(job) = self.jobs.pop() else { break };
                    self.visit(&root, &job);
                }
            }
            // Lost, or in the way for a moment: the look at the root that follows tells, and keeps or drops the jobs.
            Err(_) => return self.next_tick = Instant::now(),
        }
        if self.jobs.is_empty() && std::mem::take(&mut self.arming) {
            if let Some(queue) = &mut self.queue {
                queue.drop_missed();
            }
            self.shared.scan.request();
        }
        self.shared.status.watches(self.queue.as_ref().map_or(0, |queue| queue.by_watch.len()));
    }

    fn visit(&mut self, root: &OpenRoot, job: &Job) {
        let answer = root.directory(&job.dir).and_then(|fd| self.watch_then_list(root, job, &fd));
        match answer {
            Ok(()) => (),
            // It went meanwhile: if it went to another place in the tree, that place is heard of.
            Err(error) if is_absence(error) => (),
            Err(error) => {
                tracing::warn!(account = self.shared.user, dir = %job.dir, %error, "a directory cannot be watched");
                self.conditions(|conditions| conditions.note_unreadable(|| format!("{} ({error})", job.dir)));
            }
        }
    }

    fn watch_then_list(&mut self, root: &OpenRoot, job: &Job, fd: &OwnedFd) -> Result<(), Errno> {
        let Some(queue) = &mut self.queue else { return Ok(()) };
        if device_of(fd.as_fd())? != root.dev
            && let Some(name) = blind_file_system(fd.as_fd())
        {
            self.leave_unwatched(&job.dir, Unwatched::FileSystem(name));
            return Ok(());
        }
        match queue.watch(&job.dir, fd.as_fd()) {
            Ok(()) => {
                if self.shared.status.get(|conditions| conditions.unwatched.contains_key(&job.dir)) {
                    self.conditions(|conditions| {
                        conditions.unwatched.remove(&job.dir);
                    });
                }
                self.list(job, fd)
            }
            Err(Errno::NOSPC) => {
                self.leave_unwatched(&job.dir, Unwatched::Limit);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn list(&mut self, job: &Job, fd: &OwnedFd) -> Result<(), Errno> {
        for entry in rustix::fs::Dir::read_from(fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let is_directory = match entry.file_type() {
                FileType::Directory => true,
                FileType::Unknown => is_directory_in(fd.as_fd(), name).unwrap_or(false),
                _ => false,
            };
            if is_directory {
                if name != b"." && name != b".." && !self.shared.config.ignore.directory(name) {
                    self.jobs.push(Job { dir: job.dir.sub(name), mark: job.mark });
                }
            } else if job.mark && !self.shared.config.ignore.file(name) {
                self.mark(&job.dir, name, Hint::Listed);
            }
        }
        Ok(())
    }

    /// It is walked by the scan instead, again and again, with all below it.
    fn leave_unwatched(&self, dir: &Dir, why: Unwatched) {
        self.conditions(|conditions| {
            if conditions.unwatched.len() < UNWATCHED_MAX {
                conditions.unwatched.insert(dir.clone(), why);
            } else {
                conditions.unwatched.insert(Dir::root(), why);
            }
        });
        self.shared.scan.look_soon();
    }

    fn conditions(&self, change: impl FnOnce(&mut Conditions)) {
        self.shared.status.set(&self.shared.user, change);
    }
}

impl Queue {
    fn watch(&mut self, dir: &Dir, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        // Through the open descriptor, so that what is watched is what is listed. Reading a file raises none of these.
        let flags = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR
            | WatchFlags::EXCL_UNLINK;
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let watch = inotify::add_watch(&self.inotify, path.as_str(), flags)?;
        let watched = Watched { dir: dir.clone(), walk: self.walk };
        if let Some(before) = self.by_watch.insert(watch, watched).filter(|before| before.dir != *dir)
            && self.by_dir.get(&before.dir) == Some(&watch)
        {
            self.by_dir.remove(&before.dir);
        }
        if let Some(before) = self.by_dir.insert(dir.clone(), watch).filter(|before| *before != watch) {
            // Another directory lies at this path now.
            self.by_watch.remove(&before);
            let _ = inotify::remove_watch(&self.inotify, before);
        }
        Ok(())
    }

    fn forget(&mut self, watch: i32) {
        if let Some(watched) = self.by_watch.remove(&watch)
            && self.by_dir.get(&watched.dir) == Some(&watch)
        {
            self.by_dir.remove(&watched.dir);
        }
    }

    fn drop_below(&mut self, dir: &Dir) {
        let below = self.by_dir.range(dir.clone()..).take_while(|(path, _)| dir.holds(path.as_bytes()));
        for watch in below.map(|(_, watch)| *watch).collect::<Vec<_>>() {
            self.drop_watch(watch);
        }
    }

    fn drop_missed(&mut self) {
        let missed = self.by_watch.iter().filter(|(_, watched)| watched.walk < self.walk);
        for watch in missed.map(|(watch, _)| *watch).collect::<Vec<_>>() {
            self.drop_watch(watch);
        }
    }

    fn drop_watch(&mut self, watch: i32) {
        self.forget(watch);
        // It fails if the directory, and the watch with it, is gone.
        let _ = inotify::remove_watch(&self.inotify, watch);
    }
}

/// Writes an empty hidden file and removes it.
fn write_probe(root: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let name = OsStr::from_bytes(name);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let create = || rustix::fs::openat(root, name, flags, Permissions::RUSR | Permissions::WUSR);
    let remove = || rustix::fs::unlinkat(root, name, AtFlags::empty());
    match create() {
        // Left behind when a process of this number was killed.
        Err(Errno::EXIST) => {
            remove()?;
            drop(create()?);
        }
        answer => drop(answer?),
    }
    remove()
}

#[cfg(test)]
mod unit {
    use super::super::tests::House;
    use super::*;

    #[test]
    fn a_directory_waits_once_however_often_it_was_heard_of() {
        let mut jobs = Jobs::default();
        for (name, mark) in [("a", false), ("b", false), ("a", true), ("a", false)] {
            jobs.push(Job { dir: Dir::root().sub(name.as_bytes()), mark });
        }
        let waiting: Vec<_> = std::iter::from_fn(|| jobs.pop()).map(|job| (job.dir.to_string(), job.mark)).collect();
        assert_eq!(waiting, [("/b/".to_owned(), false), ("/a/".to_owned(), true)]);
        assert!(jobs.is_empty());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_walk_goes_on_when_the_root_was_away_for_a_moment() {
        let house = House::open().await;
        std::fs::create_dir(house.root.path().join("d")).unwrap();
        let mut watcher = Watcher::new(&house.folder().shared);
        watcher.begin();
        let away = house.stage.path().join("away");
        std::fs::rename(house.root.path(), &away).unwrap();
        watcher.work();
        std::fs::rename(&away, house.root.path()).unwrap();
        watcher.tick();
        while !watcher.jobs.is_empty() {
            watcher.work();
        }
        assert!(!watcher.arming, "the next walk can begin");
        let watched =
            watcher.queue.map(|queue| queue.by_dir.into_keys().map(|dir| dir.to_string()).collect::<Vec<_>>());
        assert_eq!(watched.unwrap(), ["/", "/d/"]);
    }
}
