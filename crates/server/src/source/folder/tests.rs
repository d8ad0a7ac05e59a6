//! A watched folder on the real file system, with the real journal behind it.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use filebell_core::event::Event;
use filebell_core::id::{AccountId, Cursor};
use rustix::fs::{AtFlags, CWD, Mode as Permissions, OFlags, RenameFlags};
use tempfile::TempDir;

use super::*;
use crate::seams::Seams;
use crate::store::{ChangesOf, NewAccount, Store, StoreKey};

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct House {
    pub(super) root: TempDir,
    /// On the same file system as the root, and not watched.
    pub(super) stage: TempDir,
    _data: TempDir,
    store: Store,
    journal: Journal,
    account: AccountId,
    config: FolderConfig,
    folder: Option<Folder>,
}

fn config() -> FolderConfig {
    FolderConfig {
        settle: Duration::from_millis(300),
        quiet: Duration::ZERO,
        orphan_after: Duration::from_secs(60),
        existing: Existing::None,
        rescan: Duration::from_secs(600),
        mode: Mode::Auto,
        ignore: Ignore::new(&Ignore::DEFAULT.map(str::to_owned)).unwrap(),
    }
}

impl House {
    /// With an empty root that is not watched yet.
    async fn built(config: FolderConfig) -> Self {
        let data = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        let store = Store::open_sqlite(data.path(), StoreKey::generate().unwrap()).await.unwrap();
        let account = NewAccount {
            name: "alice".into(),
            password_hash: None,
            root: Some(root.path().to_owned()),
            customer_url: String::new(),
            customer_id: String::new(),
            customer_code: String::new(),
            quota_bytes: None,
            managed: false,
        };
        let seams = Seams::real();
        let account = store.upsert_account(account, seams.now()).await.unwrap().id;
        let journal = Journal::open(store.clone(), seams, crate::metrics::Metrics::new());
        let stage = tempfile::tempdir().unwrap();
        Self { root, stage, _data: data, store, journal, account, config, folder: None }
    }

    /// Watched, with the first scan behind it.
    pub(super) async fn open() -> Self {
        Self::open_with(config()).await
    }

    async fn open_with(config: FolderConfig) -> Self {
        let mut house = Self::built(config).await;
        house.start().await;
        house
    }

    async fn start(&mut self) {
        self.start_at_once().await;
        self.until("the first scan", |house| house.folder().status().last_scan_finished_at.is_some()).await;
        self.settled().await;
    }

    async fn start_at_once(&mut self) {
        let (journal, config) = (self.journal.clone(), self.config.clone());
        let known = self.store.keep_root(self.account, identify(self.root.path()).unwrap()).await.unwrap();
        let folder =
            Folder::start(self.account, "alice".into(), self.root.path(), known, config, journal).await.unwrap();
        self.folder = Some(folder);
    }

    async fn stop(&mut self) {
        self.folder.take().unwrap().stop().await;
    }

    pub(super) fn folder(&self) -> &Folder {
        self.folder.as_ref().unwrap()
    }

    async fn settled(&self) {
        self.folder().settled().await;
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        fs::write(self.at(path), content).unwrap();
    }

    async fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut after = Cursor::after(filebell_core::id::Seq::ZERO);
        loop {
            let page = self.store.changes(ChangesOf::default(), after, 10_000).await.unwrap();
            events.extend(page.events);
            after = page.next;
            if !page.more {
                return events;
            }
        }
    }

    /// What was told, a line for each event.
    async fn told(&self) -> Vec<String> {
        self.settled().await;
        self.events().await.iter().map(line).collect()
    }

    /// Waits until so many events were told.
    async fn until_told(&self, count: usize) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let events = self.events().await;
            if events.len() >= count {
                return events.iter().map(line).collect();
            }
            assert!(Instant::now() < deadline, "{count} events were expected, told were {:?}", self.told().await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until(&self, what: &str, mut reached: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !reached(self) {
            assert!(Instant::now() < deadline, "{what} was not reached: {:?}", self.folder().status());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Scans, and decides what was found.
    async fn scan(&self) {
        let before = self.folder().status().last_scan_finished_at;
        tokio::time::sleep(Duration::from_millis(2)).await;
        self.folder().request_scan();
        self.until("a scan", |house| house.folder().status().last_scan_finished_at > before).await;
        self.settled().await;
    }
}

fn line(event: &Event) -> String {
    let size = event.version.map(|version| format!(" {}", version.size)).unwrap_or_default();
    let from = event.previous_path.as_ref().map(|path| format!(" from {}", path.to_text())).unwrap_or_default();
    format!("{} {}{size}{from}", event.kind, event.path.to_text())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_created_updated_moved_and_deleted() {
    let house = House::open().await;
    house.write("a", "one");
    house.until_told(1).await;
    house.write("a", "three");
    house.until_told(2).await;
    fs::create_dir(house.at("d")).unwrap();
    fs::rename(house.at("a"), house.at("d/b")).unwrap();
    house.until_told(3).await;
    fs::remove_file(house.at("d/b")).unwrap();
    let told = house.until_told(4).await;
    assert_eq!(told, ["created /a 3", "updated /a 5", "moved /d/b 5 from /a", "deleted /d/b"]);
    let events = house.events().await;
    assert!(events.iter().all(|event| event.file == events[0].file), "it is one file all the way");
    assert_eq!(house.told().await.len(), 4, "the old name is not told as deleted");
    assert_eq!(house.folder().status().state, RootState::Live);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn touch_chmod_and_a_scan_are_silent() {
    let house = House::open().await;
    house.write("a", "one");
    house.until_told(1).await;
    File::open(house.at("a")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    fs::set_permissions(house.at("a"), fs::Permissions::from_mode(0o600)).unwrap();
    house.settled().await;
    house.write("a", "one");
    house.scan().await;
    house.scan().await;
    assert_eq!(house.told().await, ["created /a 3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_content_again_after_another_is_told_again() {
    let house = House::open().await;
    for (count, content) in [(1, "A"), (2, "B"), (3, "A")] {
        house.write("a", content);
        house.until_told(count).await;
    }
    assert_eq!(house.told().await, ["created /a 1", "updated /a 1", "updated /a 1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_writer_is_told_once_and_whole() {
    let house = House::open().await;
    let mut writer = File::create(house.at("slow")).unwrap();
    for _ in 0..3 {
        writer.write_all(b"part.").unwrap();
        writer.flush().unwrap();
        // Longer than `settle`: what is proved here is that standing still is not taken for an end.
        tokio::time::sleep(Duration::from_millis(400)).await;
        house.settled().await;
        assert!(house.events().await.is_empty());
    }
    drop(writer);
    assert_eq!(house.until_told(1).await, ["created /slow 15"]);
    assert_eq!(house.told().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_of_two_writers_to_close_ends_nothing() {
    let house = House::open().await;
    let mut one = File::create(house.at("a")).unwrap();
    let mut two = OpenOptions::new().append(true).open(house.at("a")).unwrap();
    one.write_all(b"one").unwrap();
    drop(one);
    house.settled().await;
    assert!(house.events().await.is_empty());
    two.write_all(b"two").unwrap();
    drop(two);
    assert_eq!(house.until_told(1).await, ["created /a 6"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_into_the_tree_is_seen() {
    let house = House::open().await;
    let staged = house.stage.path().join("a");
    fs::write(&staged, "link").unwrap();
    fs::hard_link(&staged, house.at("linked")).unwrap();
    house.until_told(1).await;
    fs::write(house.stage.path().join("b"), "rename").unwrap();
    fs::rename(house.stage.path().join("b"), house.at("renamed")).unwrap();
    house.until_told(2).await;
    let anonymous =
        rustix::fs::open(house.root.path(), OFlags::TMPFILE | OFlags::RDWR, Permissions::from(0o600)).unwrap();
    let mut anonymous = File::from(anonymous);
    anonymous.write_all(b"anonymous").unwrap();
    let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&anonymous.as_fd()));
    rustix::fs::linkat(CWD, name.as_str(), CWD, house.at("linked-later"), AtFlags::SYMLINK_FOLLOW).unwrap();
    drop(anonymous);
    house.until_told(3).await;
    File::create(house.at("empty")).unwrap();
    let told = house.until_told(4).await;
    assert_eq!(told, ["created /linked 4", "created /renamed 6", "created /linked-later 9", "created /empty 0"]);
    let words: Vec<_> =
        house.events().await.iter().filter_map(|event| event.completeness).map(|c| c.as_str()).collect();
    assert_eq!(words, ["leased", "renamed", "leased", "leased"]);
}

#[expect(unsafe_code, reason = "truncate(2), which no safe crate calls by path, raises another event than ftruncate")]
fn truncate(path: &Path, size: i64) {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a C string that lives as long as the call.
    assert_eq!(unsafe { libc::truncate(path.as_ptr(), size) }, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_two_names_is_told_under_both() {
    let house = House::open().await;
    fs::create_dir(house.at("d")).unwrap();
    house.write("a", "one");
    house.until_told(1).await;
    fs::hard_link(house.at("a"), house.at("d/b")).unwrap();
    house.until_told(2).await;
    house.write("d/b", "three");
    let mut told = house.until_told(4).await;
    told.sort();
    assert_eq!(told, ["created /a 3", "created /d/b 3", "updated /a 5", "updated /d/b 5"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncation_is_an_update() {
    let house = House::open().await;
    house.write("a", "a long text");
    house.until_told(1).await;
    OpenOptions::new().write(true).open(house.at("a")).unwrap().set_len(6).unwrap();
    house.until_told(2).await;
    truncate(&house.at("a"), 1);
    assert_eq!(house.until_told(3).await, ["created /a 11", "updated /a 6", "updated /a 1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_files_that_are_exchanged_are_both_told() {
    let house = House::open().await;
    house.write("a", "in");
    house.until_told(1).await;
    let outside = house.stage.path().join("b");
    fs::write(&outside, "outside").unwrap();
    rustix::fs::renameat_with(CWD, &outside, CWD, house.at("a"), RenameFlags::EXCHANGE).unwrap();
    assert_eq!(house.until_told(2).await, ["created /a 2", "updated /a 7"]);
    fs::create_dir(house.at("x")).unwrap();
    fs::create_dir(house.at("y")).unwrap();
    house.write("x/1", "1");
    house.write("y/2", "22");
    house.until_told(4).await;
    rustix::fs::renameat_with(CWD, house.at("x"), CWD, house.at("y"), RenameFlags::EXCHANGE).unwrap();
    let mut told = house.until_told(6).await.split_off(4);
    told.sort();
    assert_eq!(told, ["moved /x/2 2 from /y/2", "moved /y/1 1 from /x/1"]);
    house.write("x/3", "later");
    house.write("y/3", "later");
    house.until_told(8).await;
    assert_eq!(house.told().await.len(), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_that_is_moved_in_moved_and_moved_out_is_told_file_by_file() {
    const FILES: usize = 500;
    let house = House::open().await;
    let tree = house.stage.path().join("tree");
    for at in 0..FILES {
        let directory = tree.join(format!("{}/deep", at % 7));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(at.to_string()), at.to_string()).unwrap();
    }
    fs::rename(&tree, house.at("in")).unwrap();
    house.until_told(FILES).await;
    fs::rename(house.at("in"), house.at("moved")).unwrap();
    let told = house.until_told(2 * FILES).await;
    assert!(told.iter().skip(FILES).all(|line| line.starts_with("moved /moved/")), "{told:?}");
    house.write("moved/1/deep/new", "new");
    house.until_told(2 * FILES + 1).await;
    fs::rename(house.at("moved"), house.stage.path().join("out")).unwrap();
    let told = house.until_told(3 * FILES + 2).await;
    assert!(told.iter().skip(2 * FILES + 1).all(|line| line.starts_with("deleted /moved/")), "{told:?}");
    assert_eq!(house.told().await.len(), 3 * FILES + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lands_in_a_directory_made_a_moment_before_is_found() {
    const ROUNDS: usize = 300;
    let house = House::open().await;
    for round in 0..ROUNDS {
        fs::create_dir_all(house.at(&format!("r{round}/b/c"))).unwrap();
        house.write(&format!("r{round}/b/c/f"), "content");
    }
    let told = house.until_told(ROUNDS).await;
    assert!(told.iter().all(|line| line.starts_with("created /r") && line.ends_with("/f 7")), "{told:?}");
    assert_eq!(house.told().await.len(), ROUNDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_while_nobody_watched_is_told_at_the_next_start() {
    let mut house = House::open().await;
    for name in ["kept", "changed", "gone", "moved"] {
        house.write(name, name);
    }
    house.until_told(4).await;
    house.settled().await;
    house.stop().await;
    house.write("changed", "differently");
    fs::remove_file(house.at("gone")).unwrap();
    fs::create_dir(house.at("a")).unwrap();
    fs::rename(house.at("moved"), house.at("a/moved")).unwrap();
    house.write("new", "new");
    house.start().await;
    let mut told = house.told().await.split_off(4);
    told.sort();
    assert_eq!(told, ["created /new 3", "deleted /gone", "moved /a/moved 5 from /moved", "updated /changed 11"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_new_root_is_told_what_was_asked_for() {
    for (existing, expected) in [
        (Existing::None, vec!["created /new 3"]),
        (Existing::All, vec!["created /new 3", "created /now 3", "created /old 3"]),
        (Existing::Since(TimestampMs::from_millis(1_000_000_000_000)), vec!["created /new 3", "created /now 3"]),
    ] {
        let mut house = House::built(FolderConfig { existing, ..config() }).await;
        house.write("now", "now");
        house.write("old", "old");
        File::open(house.at("old")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        // The grain of the file system's clock must lie between what was there and what comes.
        tokio::time::sleep(Duration::from_millis(50)).await;
        house.start_at_once().await;
        house.write("new", "new");
        house.until_told(expected.len()).await;
        house.until("the first scan", |house| house.folder().status().last_scan_finished_at.is_some()).await;
        let mut told = house.told().await;
        told.sort();
        assert_eq!(told, expected, "{existing:?}");
        house.until("the baseline", |house| house.folder().shared.baseline_done.load(Ordering::Relaxed)).await;
        house.write("old", "older");
        let told = house.until_told(expected.len() + 1).await;
        assert_eq!(told.last().unwrap(), "updated /old 5", "what is remembered is known");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_left_out_is_told_when_the_file_gets_its_real_one() {
    let house = House::open().await;
    fs::create_dir(house.at(".hidden")).unwrap();
    house.write(".hidden/a", "hidden");
    house.write("a.part", "whole");
    house.write(".a.Xy12ab", "rsync");
    house.scan().await;
    assert!(house.told().await.is_empty());
    fs::rename(house.at("a.part"), house.at("a")).unwrap();
    house.until_told(1).await;
    fs::rename(house.at(".hidden"), house.at("shown")).unwrap();
    house.until_told(2).await;
    fs::rename(house.at("a"), house.at("a.tmp")).unwrap();
    assert_eq!(house.until_told(3).await, ["created /a 5", "created /shown/a 6", "deleted /a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_bytes() {
    let house = House::open().await;
    let long = vec![b'x'; 255];
    let names: [&[u8]; 4] = [b"not \xff utf-8", b"new\nline", b"  ", &long];
    for name in names {
        fs::write(house.root.path().join(OsStr::from_bytes(name)), "1").unwrap();
    }
    house.until_told(names.len()).await;
    house.scan().await;
    let mut told: Vec<_> = house.events().await.iter().map(|event| event.path.relative().to_vec()).collect();
    told.sort();
    let mut expected: Vec<_> = names.iter().map(|name| name.to_vec()).collect();
    expected.sort();
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deep_tree_is_seen_to_its_ground() {
    let mut house = House::open().await;
    let deep = "d/".repeat(200);
    fs::create_dir_all(house.at(&deep)).unwrap();
    house.write(&format!("{deep}f"), "deep");
    house.until_told(1).await;
    house.stop().await;
    house.write(&format!("{deep}f"), "deeper");
    house.start().await;
    assert_eq!(house.told().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_file_is_left_alone() {
    let house = House::open().await;
    rustix::fs::mknodat(CWD, house.at("fifo"), rustix::fs::FileType::Fifo, Permissions::from(0o600), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(house.at("socket")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", house.at("link")).unwrap();
    std::os::unix::fs::symlink("/etc", house.at("link-to-directory")).unwrap();
    assert!(fs::metadata(house.at("fifo")).unwrap().file_type().is_fifo());
    house.write("file", "file");
    house.until_told(1).await;
    house.scan().await;
    assert_eq!(house.told().await, ["created /file 4"]);
    fs::remove_file(house.at("file")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", house.at("file")).unwrap();
    assert_eq!(house.until_told(2).await, ["created /file 4", "deleted /file"], "a link in its place is not the file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_does_not_hold_up_a_small_one() {
    let house = House::open().await;
    // Sparse: some seconds of reading.
    File::create(house.at("large")).unwrap().set_len(1 << 30).unwrap();
    house.until("the large file in hand", |house| house.folder().status().dirty > 0).await;
    house.write("small", "small");
    assert_eq!(house.until_told(1).await, ["created /small 5"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sparse_file_of_a_terabyte_does_not_hold_up_a_large_one() {
    let house = House::open().await;
    File::create(house.at("huge")).unwrap().set_len(1 << 40).unwrap();
    house.until("the huge file in hand", |house| house.folder().status().dirty > 0).await;
    house.write("large", &"x".repeat(20 << 20));
    assert_eq!(house.until_told(1).await, ["created /large 20971520"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_polled_root_tells_the_same() {
    let house = House::open_with(FolderConfig { mode: Mode::Poll, ..config() }).await;
    assert!(matches!(house.folder().status().state, RootState::Polling { .. }));
    house.write("a", "one");
    house.until_told(1).await;
    fs::rename(house.at("a"), house.at("b")).unwrap();
    house.until_told(2).await;
    fs::remove_file(house.at("b")).unwrap();
    assert_eq!(house.until_told(3).await, ["created /a 3", "moved /b 3 from /a", "deleted /b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_overflow_of_the_queue_swallows_is_found_by_a_walk() {
    let house = House::open().await;
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let files = limit.trim().parse::<usize>().unwrap() / 2;
    let scanned = house.folder().status().last_scan_finished_at;
    {
        let _stalled = house.folder().shared.dirty.stalled();
        // Three events for each: created, modified, closed.
        (0..files).for_each(|at| house.write(&at.to_string(), "x"));
        fs::create_dir(house.at("d")).unwrap();
        house.write("d/unheard", "unheard");
    }
    let told = house.until_told(files + 1).await;
    assert!(told.contains(&"created /d/unheard 7".to_owned()));
    house.until("the walk", |house| house.folder().status().last_scan_finished_at > scanned).await;
    house.write("d/heard", "heard");
    house.until_told(files + 2).await;
    assert_eq!(house.told().await.len(), files + 2);
}

#[expect(unsafe_code, reason = "mmap(2) is in no safe crate")]
fn map_writable(file: &File, size: usize) -> *mut libc::c_void {
    let fd = std::os::fd::AsRawFd::as_raw_fd(file);
    // SAFETY: a fresh shared mapping of a file this test alone uses.
    let map =
        unsafe { libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0) };
    assert_ne!(map, libc::MAP_FAILED);
    map
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(unsafe_code, reason = "writes through a mapping")]
async fn a_writable_mapping_is_a_writer_after_its_file_is_closed() {
    let house = House::open().await;
    let file = File::options().read(true).write(true).create_new(true).open(house.at("a")).unwrap();
    file.set_len(4096).unwrap();
    let map = map_writable(&file, 4096) as usize;
    drop(file);
    tokio::time::sleep(Duration::from_millis(400)).await;
    house.settled().await;
    assert!(house.events().await.is_empty());
    // SAFETY: the mapping has 4096 bytes, lives until the next line, and is used here alone.
    unsafe {
        std::ptr::write_bytes(map as *mut u8, b'x', 4096);
        libc::munmap(map as *mut libc::c_void, 4096);
    }
    house.until_told(1).await;
    let events = house.events().await;
    let expected: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest([b'x'; 4096]).into();
    assert_eq!(events[0].version.unwrap().sha256, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_journal_refuses_arrivals_wait() {
    let house = House::open().await;
    let database = rusqlite::Connection::open(house._data.path().join("filebell.db")).unwrap();
    database
        .execute_batch("CREATE TRIGGER refuse BEFORE INSERT ON event BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        .unwrap();
    house.write("a", "a");
    house.write("b", "b");
    let degraded = |house: &House| matches!(house.folder().status().state, RootState::Degraded { .. });
    house.until("the refusal", degraded).await;
    house.write("b", "bb");
    database.execute_batch("DROP TRIGGER refuse").unwrap();
    let mut told = house.until_told(2).await;
    told.sort();
    assert_eq!(told, ["created /a 1", "created /b 2"]);
    house.until("life", |house| house.folder().status().state == RootState::Live).await;
    assert_eq!(house.told().await.len(), 2);
}

/// Set where a test runs inside namespaces of its own.
const INSIDE: &str = "FILEBELL_TEST_INSIDE";

/// Whether this is the run inside. A test that mounts, or that bounds its user, runs itself again where it is root and
/// sees its own mounts only, and is good if that run is.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &format!("source::folder::tests::{test}")])
        .env(INSIDE, "1")
        .output()
        .expect("unshare, of the package util-linux, is needed");
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success() && said.contains("1 passed"), "user namespaces are needed: {said}");
    false
}

/// Runs a program; `mount` and its like leave their work to the end of the namespace.
fn run(program: &str, arguments: &[&str]) {
    let output = std::process::Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; ./check installs what the tests need"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn mount_overlay(layers: &Path, at: &Path) {
    for layer in ["lower", "upper", "work"] {
        fs::create_dir(layers.join(layer)).unwrap();
    }
    let [lower, upper, work] = ["lower", "upper", "work"].map(|layer| layers.join(layer).display().to_string());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    run("mount", &["-t", "overlay", "overlay", "-o", &options, text(at)]);
}

fn is_polling(house: &House, why: &str) -> bool {
    matches!(house.folder().status().state, RootState::Polling { reason } if reason.contains(why))
}

/// A root on which changes raise no event, or not all: told is what has stood still, and is said to be.
async fn a_polled_file_system_tells_the_same(house: &mut House, name: &str) {
    house.start().await;
    assert!(is_polling(house, name), "{:?}", house.folder().status());
    let began = Instant::now();
    let mut writer = File::create(house.at("a")).unwrap();
    for _ in 0..8 {
        writer.write_all(b"part.").unwrap();
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    drop(writer);
    assert_eq!(house.until_told(1).await, ["created /a 40"], "{:?}", began.elapsed());
    assert_eq!(house.events().await[0].completeness.unwrap().as_str(), "quiet-period");
    fs::rename(house.at("a"), house.at("b")).unwrap();
    house.until_told(2).await;
    fs::remove_file(house.at("b")).unwrap();
    assert_eq!(house.until_told(3).await, ["created /a 40", "moved /b 40 from /a", "deleted /b"]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overlay_is_recognised_and_polled() {
    if inside("an_overlay_is_recognised_and_polled") {
        let mut house = House::built(config()).await;
        mount_overlay(house.stage.path(), house.root.path());
        a_polled_file_system_tells_the_same(&mut house, "overlay").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fuse_is_recognised_and_polled() {
    if inside("fuse_is_recognised_and_polled") {
        let mut house = House::built(config()).await;
        run("bindfs", &[text(house.stage.path()), text(house.root.path())]);
        house.start().await;
        assert!(is_polling(&house, "FUSE"), "{:?}", house.folder().status());
        fs::write(house.stage.path().join("behind"), "its back").unwrap();
        assert_eq!(house.until_told(1).await, ["created /behind 8"]);
        assert_eq!(house.events().await[0].completeness.unwrap().as_str(), "quiet-period");
        house.stop().await;
        run("umount", &["-l", text(house.root.path())]);
    }
}

/// No event of inotify says that something was mounted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_on_top_of_a_watched_directory_is_noticed() {
    if inside("a_mount_on_top_of_a_watched_directory_is_noticed") {
        let mut house = House::built(config()).await;
        fs::create_dir(house.at("disk")).unwrap();
        fs::create_dir(house.at("layers")).unwrap();
        house.start().await;
        house.write("disk/under", "under");
        house.until_told(1).await;
        run("mount", &["-t", "tmpfs", "tmpfs", text(&house.at("disk"))]);
        house.write("disk/a", "a");
        assert_eq!(house.until_told(2).await, ["created /disk/under 5", "created /disk/a 1"]);
        assert_eq!(house.folder().status().state, RootState::Live);
        mount_overlay(house.stage.path(), &house.at("layers"));
        house.until("the overlay", |house| is_polling(house, "/layers/ lies on overlay")).await;
        house.write("layers/b", "b");
        house.until_told(3).await;
        run("umount", &[text(&house.at("layers"))]);
        house.until("life", |house| house.folder().status().state == RootState::Live).await;
        run("umount", &[text(&house.at("disk"))]);
        house.write("disk/c", "c");
        house.until_told(4).await;
        house.scan().await;
        assert_eq!(house.told().await.len(), 4, "what was hidden, or taken away, is not told as deleted");
        house.stop().await;
    }
}

/// What is mounted below the root and unmounted again takes no file with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_system_that_is_unmounted_deletes_nothing() {
    if inside("a_file_system_that_is_unmounted_deletes_nothing") {
        let mut house = House::open().await;
        fs::create_dir(house.at("disk")).unwrap();
        run("mount", &["-t", "tmpfs", "tmpfs", text(&house.at("disk"))]);
        house.write("disk/a", "a");
        house.until_told(1).await;
        house.settled().await;
        run("umount", &[text(&house.at("disk"))]);
        house.scan().await;
        house.stop().await;
        house.start().await;
        house.scan().await;
        assert_eq!(house.told().await, ["created /disk/a 1"]);
        house.write("disk/b", "b");
        assert_eq!(house.until_told(2).await, ["created /disk/a 1", "created /disk/b 1"]);
        house.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_goes_and_comes_back_deletes_nothing() {
    let house = House::open().await;
    house.write("a", "a");
    house.until_told(1).await;
    let away = house.stage.path().join("away");
    fs::rename(house.root.path(), &away).unwrap();
    house.until("the loss", |house| matches!(house.folder().status().state, RootState::Degraded { .. })).await;
    house.folder().request_scan();
    fs::write(away.join("b"), "bb").unwrap();
    fs::rename(&away, house.root.path()).unwrap();
    assert_eq!(house.until_told(2).await, ["created /a 1", "created /b 2"]);
    house.until("life", |house| house.folder().status().state == RootState::Live).await;
    house.write("c", "c");
    house.until_told(3).await;
    assert_eq!(house.told().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_directory_in_the_roots_place_deletes_nothing() {
    let house = House::open().await;
    house.write("a", "a");
    house.until_told(1).await;
    fs::rename(house.root.path(), house.stage.path().join("away")).unwrap();
    fs::create_dir(house.root.path()).unwrap();
    let swapped = |house: &House| match house.folder().status().state {
        RootState::Degraded { reason } => reason.contains("another directory"),
        _ => false,
    };
    house.until("the swap", swapped).await;
    house.write("b", "b");
    house.until_told(2).await;
    house.scan().await;
    assert_eq!(house.told().await, ["created /a 1", "created /b 1"]);
    // A name of the known root that is seen to come and to go here says nothing of the file there.
    std::os::unix::fs::symlink("b", house.at("a")).unwrap();
    fs::remove_file(house.at("a")).unwrap();
    assert_eq!(house.told().await.len(), 2);
    fs::remove_file(house.at("b")).unwrap();
    assert_eq!(house.until_told(3).await.last().unwrap(), "deleted /b", "what was seen to go is told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_moved_in_before_anything_is_watched_is_news() {
    let mut house = House::built(config()).await;
    fs::create_dir_all(house.stage.path().join("d/e")).unwrap();
    for path in ["d/a", "d/e/b"] {
        fs::write(house.stage.path().join(path), path).unwrap();
    }
    house.write("old", "old");
    let written = house.journal.now().as_millis();
    while house.journal.now().as_millis() < written + 2 * CLOCK_GRAIN_NS / 1_000_000 {
        std::thread::yield_now();
    }
    let known = house.store.keep_root(house.account, identify(house.root.path()).unwrap()).await.unwrap();
    house.store.root_state(house.account, house.journal.now()).await.unwrap();
    fs::rename(house.stage.path().join("d"), house.at("d")).unwrap();
    let (journal, config) = (house.journal.clone(), house.config.clone());
    let folder = Folder::start(house.account, "alice".into(), house.root.path(), known, config, journal).await;
    house.folder = Some(folder.unwrap());
    let mut told = house.until_told(2).await;
    told.sort();
    assert_eq!(told, ["created /d/a 3", "created /d/e/b 5"]);
    assert_eq!(house.told().await.len(), 2, "what was there before is not told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_is_one_also_when_the_new_name_waits() {
    let house = House::open_with(FolderConfig { quiet: 2 * dirty::VANISH_GRACE, ..config() }).await;
    house.write("a", "a");
    house.until_told(1).await;
    fs::rename(house.at("a"), house.at("b")).unwrap();
    assert_eq!(house.until_told(2).await.last().unwrap(), "moved /b 1 from /a");
    // Somebody holds it for writing longer than a file that vanished is waited for.
    let writer = OpenOptions::new().append(true).open(house.at("b")).unwrap();
    fs::rename(house.at("b"), house.at("c")).unwrap();
    let shared = &house.folder().shared;
    let path = |name: &str| filebell_core::path::FilePath::from_bytes(name.as_bytes()).unwrap();
    house
        .until("the look at the new name", |_| shared.dirty.waiting(&path("/c")).is_some_and(|one| one.busy > 0))
        .await;
    let seen = Instant::now();
    house.until("the old name", |_| seen.elapsed() > 2 * (dirty::VANISH_GRACE + shared.config.quiet)).await;
    assert_eq!(house.events().await.len(), 2);
    drop(writer);
    assert_eq!(house.until_told(3).await.last().unwrap(), "moved /c 1 from /b");
}

/// Random work in a few directories: what it was does not matter, what is left must be known.
fn churn(root: &Path, stage: &Path, seed: u64, operations: usize) {
    let mut chance = fastrand::Rng::with_seed(seed);
    for operation in 0..operations {
        let mut place = || format!("d{}/e{}", chance.u8(..3), chance.u8(..3));
        let (here, there) = (root.join(place()), root.join(place()));
        let (name, other) = (format!("f{}", chance.u8(..6)), format!("f{}", chance.u8(..6)));
        let content = format!("{seed} {operation}");
        // Any of these may fail, for the others are at work in the same places.
        let _ = match chance.u8(..12) {
            0..=3 => fs::create_dir_all(&here).and_then(|()| fs::write(here.join(name), content)),
            4 => fs::create_dir_all(&here).and_then(|()| {
                let staged = stage.join(format!("{seed}"));
                fs::write(&staged, content)?;
                fs::rename(staged, here.join(name))
            }),
            5 => fs::rename(here.join(name), there.join(other)),
            6 => fs::rename(&here, &there),
            7 => fs::rename(here.parent().unwrap(), there.parent().unwrap()),
            // A link in, that stays the only name: of what is written under a second name that is gone before it is
            // looked at nobody hears, and only a scan finds it.
            8 => {
                let staged = stage.join(format!("{seed}"));
                fs::write(&staged, content)
                    .and_then(|()| fs::hard_link(&staged, here.join(name)))
                    .and_then(|()| fs::remove_file(&staged))
            }
            9 => fs::remove_file(here.join(name)),
            10 => File::options().append(true).open(here.join(name)).and_then(|mut file| {
                file.write_all(b"more")?;
                std::thread::sleep(Duration::from_millis(1));
                file.write_all(b"and more")
            }),
            _ => fs::remove_dir_all(&here),
        };
    }
}

fn contents(directory: &Path, root: &Path, found: &mut Vec<(Vec<u8>, Vec<u8>)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            contents(&path, root, found);
        } else {
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            let hash = <sha2::Sha256 as sha2::Digest>::digest(fs::read(&path).unwrap()).to_vec();
            found.push((name, hash));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_any_turmoil_the_journal_says_what_is_there_without_a_scan() {
    for seed in 0..3 {
        let house = House::open().await;
        std::thread::scope(|scope| {
            let (root, stage) = (house.root.path(), house.stage.path());
            (0..3).for_each(|writer| drop(scope.spawn(move || churn(root, stage, 10 * seed + writer, 700))));
        });
        house.settled().await;
        // What waits for a writer is looked at again in its time: of several names of a file only one is told of a close.
        house.until("rest", |house| house.folder().status().dirty == 0).await;
        let mut there = Vec::new();
        contents(house.root.path(), house.root.path(), &mut there);
        there.sort();
        let known = house.journal.files(house.account, None, None, 10_000).unwrap();
        let known: Vec<_> =
            known.iter().map(|file| (file.path.relative().to_vec(), file.version.unwrap().sha256.to_vec())).collect();
        assert_eq!(known, there, "seed {seed}");
    }
}

/// A walk may find what lies in a directory before that is watched, and what goes again before it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_and_went_during_walks_leaves_nothing_behind() {
    const ROUNDS: usize = 400;
    let house = House::open().await;
    std::thread::scope(|scope| {
        let (root, shared) = (house.root.path(), &house.folder().shared);
        let churning = scope.spawn(move || {
            for round in 0..ROUNDS {
                let directory = root.join(format!("d{}", round % 7));
                fs::create_dir(&directory).unwrap();
                (0..20).for_each(|at| fs::write(directory.join(at.to_string()), "x").unwrap());
                fs::remove_dir_all(&directory).unwrap();
            }
        });
        while !churning.is_finished() {
            shared.scan.request();
            shared.scan.wait_idle();
        }
    });
    house.settled().await;
    house.until("rest", |house| house.folder().status().dirty == 0).await;
    assert_eq!(house.journal.files(house.account, None, None, 10).unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_new_root_came_with_is_remembered_without_being_read() {
    let mut house = House::built(FolderConfig { existing: Existing::None, ..config() }).await;
    for name in ["a", "b", "c", "d"] {
        house.write(name, "old");
    }
    // More than any machine reads in a test.
    File::create(house.at("huge")).unwrap().set_len(1 << 40).unwrap();
    let kept = fs::metadata(house.at("b")).unwrap().modified().unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    house.start_at_once().await;
    house.until("the baseline", |house| house.folder().shared.baseline_done.load(Ordering::Relaxed)).await;
    let rows = || house.journal.files(house.account, None, None, 10).unwrap();
    assert_eq!(rows().len(), 5);
    assert!(rows().iter().all(|row| row.version.is_none()));
    assert_eq!(house.told().await, [""; 0]);

    // Same size, same time of last change as before.
    let old = fs::metadata(house.at("a")).unwrap().modified().unwrap();
    let mut again = File::options().write(true).open(house.at("a")).unwrap();
    again.write_all(b"new").unwrap();
    again.set_modified(old).unwrap();
    drop(again);
    fs::set_permissions(house.at("b"), PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(fs::metadata(house.at("b")).unwrap().modified().unwrap(), kept);
    fs::rename(house.at("c"), house.at("e")).unwrap();
    fs::remove_file(house.at("d")).unwrap();
    let mut told = house.until_told(3).await;
    told.sort();
    assert_eq!(told, ["deleted /d", "moved /e 3 from /c", "updated /a 3"]);
    let learned = || rows().into_iter().any(|row| row.path.relative() == b"b" && row.version.is_some());
    house.until("the content behind a change of rights", |_| learned()).await;
    assert_eq!(house.told().await.len(), 3, "that is silent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_watches_are_used_up_the_rest_is_polled() {
    if !inside("where_the_watches_are_used_up_the_rest_is_polled") {
        return;
    }
    fs::write("/proc/sys/user/max_inotify_watches", "3").unwrap();
    let house = House::open().await;
    for directory in ["a", "b", "c/d", "e"] {
        fs::create_dir_all(house.at(directory)).unwrap();
    }
    let degraded = |house: &House| match house.folder().status().state {
        RootState::Degraded { reason } => reason.contains("fs.inotify.max_user_watches"),
        _ => false,
    };
    house.until("the limit", degraded).await;
    for path in ["a/1", "b/1", "c/1", "c/d/1", "e/1", "e/1.part"] {
        house.write(path, "1");
    }
    house.until_told(5).await;
    fs::remove_file(house.at("e/1")).unwrap();
    fs::remove_file(house.at("a/1")).unwrap();
    house.until_told(7).await;
    for directory in ["b", "c", "e"] {
        fs::remove_dir_all(house.at(directory)).unwrap();
    }
    house.until_told(10).await;
    house.scan().await;
    house.until("life", |house| house.folder().status().state == RootState::Live).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_watch_is_proved_by_a_file_of_our_own() {
    let house = House::open().await;
    house.until("a probe", |house| house.folder().status().last_probe_at.is_some()).await;
    assert!(house.told().await.is_empty());
    assert_eq!(fs::read_dir(house.root.path()).unwrap().count(), 0, "nothing is left of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_cannot_be_is_refused_with_a_remedy() {
    let house = House::built(config()).await;
    house.write("file", "");
    for (root, expected) in [("missing", "does not exist"), ("file", "is not a directory")] {
        let root = house.at(root);
        let known = house.store.keep_root(house.account, identify(house.root.path()).unwrap()).await.unwrap();
        let answer = Folder::start(house.account, "alice".into(), &root, known, config(), house.journal.clone()).await;
        let error = answer.err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inode_numbers_given_out_again_are_other_files() {
    const ROUNDS: usize = 50;
    let house = House::open().await;
    for round in 1..=ROUNDS {
        let name = format!("f{round}");
        house.write(&name, &name);
        house.until_told(2 * round - 1).await;
        fs::remove_file(house.at(&name)).unwrap();
        house.until_told(2 * round).await;
    }
    let told = house.told().await;
    assert!(told.iter().all(|line| line.starts_with("created") || line.starts_with("deleted")), "{told:?}");
}
