//! The contract of the store's verbs, passed by every engine. It speaks only through the verbs.

use std::time::Duration;

use filebell_core::arrival::{Announce, Arrival, Claim, Completeness, Fingerprint, Present, SourceKind, Version};
use filebell_core::event::{Event, EventKind, StoredFile};
use filebell_core::filter::FilterText;
use filebell_core::id::{AccountId, Cursor, FileId, FreshIds, NotificationId, Seq, SubscriptionId};
use filebell_core::path::FilePath;
use filebell_core::retry::Step;
use filebell_core::root::{KnownRoot, RootIdentity};
use filebell_core::secret::Secret;
use filebell_core::subscription::{Protocol, Subscription, SubscriptionStatus};
use filebell_core::time::{TimestampMs, TimestampSecs};
use uuid::Uuid;

use super::*;

mod claims;
mod deliveries;
mod owed;
mod pairing;

const INTERVAL: Duration = Duration::from_secs(10);
const LEASE: Duration = Duration::from_secs(60);

/// An engine with one account, and a place to open it again from.
struct Bench {
    store: Store,
    account: AccountId,
    dir: tempfile::TempDir,
    key: StoreKey,
}

fn at(secs: i64) -> TimestampMs {
    TimestampMs::from_millis(secs * 1000)
}

fn ids() -> FreshIds {
    Box::new(|| Uuid::from_u128(u128::from(fastrand::u64(..)) << 64 | u128::from(fastrand::u64(..))))
}

fn path(text: &str) -> FilePath {
    FilePath::from_bytes(text.as_bytes()).unwrap()
}

fn new_account(name: &str) -> NewAccount {
    NewAccount {
        name: name.into(),
        password_hash: Some("$argon2id$".into()),
        root: Some("/srv".into()),
        customer_url: "https://x3.example.com".into(),
        customer_id: "cfg-1".into(),
        customer_code: "acme".into(),
        quota_bytes: None,
        managed: false,
    }
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = StoreKey::generate().unwrap();
        let store = Store::open_sqlite(dir.path(), key.clone()).await.unwrap();
        let account = store.upsert_account(new_account("test2"), at(0)).await.unwrap().id;
        Self { store, account, dir, key }
    }

    /// As after a crash.
    async fn reopened(self) -> Self {
        let Self { store, account, dir, key } = self;
        drop(store);
        let store = Store::open_sqlite(dir.path(), key.clone()).await.unwrap();
        store.seal_outstanding().await.unwrap();
        Self { store, account, dir, key }
    }

    async fn subscribe(&self, name: &str, protocol: NewProtocol, min_interval: Duration) -> SubscriptionId {
        let new = NewSubscription {
            name: name.into(),
            account: self.account,
            protocol,
            url: "http://127.0.0.1:9/hook".into(),
            key: Secret::new("4fdab231"),
            min_interval,
            filter: FilterText::default(),
            managed: false,
        };
        self.store.upsert_subscription(new, at(0), ids()).await.unwrap().id
    }

    async fn coalescing(&self) -> SubscriptionId {
        self.subscribe("rdm", NewProtocol::Nextcloud("cloud:test2".into()), INTERVAL).await
    }

    async fn per_event(&self) -> SubscriptionId {
        self.subscribe("each", NewProtocol::Standard, Duration::ZERO).await
    }

    fn seen(&self, at: &str, content: u8) -> Arrival {
        self.seen_as(at, content, Announce::News, None)
    }

    fn seen_as(&self, at: &str, content: u8, announce: Announce, moved_from: Option<&str>) -> Arrival {
        let present = Present {
            fingerprint: Fingerprint {
                dev: u64::MAX,
                inode: 7,
                birth_ns: Some(1),
                size: 1,
                mtime_ns: 1_500_000,
                ctime_ns: i64::from(content),
            },
            version: Version { sha256: [content; 32], md5: [content; 16], size: 1 },
            completeness: Completeness::Leased,
            moved_from: moved_from.map(path),
            announce,
        };
        Arrival {
            account: self.account,
            path: path(at),
            claim: Claim::Present(present),
            source: SourceKind::Folder,
            user: "test2".into(),
        }
    }

    fn gone(&self, at: &str) -> Arrival {
        Arrival { claim: Claim::Gone, ..self.seen(at, 0) }
    }

    async fn record(&self, secs: i64, arrivals: Vec<Arrival>) -> Vec<Recorded> {
        self.store.record(arrivals, at(secs), ids()).await.unwrap()
    }

    async fn arrive(&self, secs: i64, name: &str) {
        self.record(secs, vec![self.seen(name, 1)]).await;
    }

    async fn events(&self) -> Vec<(EventKind, String)> {
        let changes = self.store.changes(ChangesOf::default(), Cursor::after(Seq::ZERO), 1000).await.unwrap();
        changes.events.iter().map(|event| (event.kind, event.path.to_text().into_owned())).collect()
    }

    async fn claim(&self, secs: i64, subscription: SubscriptionId) -> Vec<Claimed> {
        self.store.claim(subscription, at(secs), LEASE, 100).await.unwrap()
    }

    async fn settle(&self, secs: i64, claimed: &Claimed, step: Step) -> bool {
        self.settle_ringing(secs, claimed, step, None).await
    }

    /// As [`Self::settle`]; rings again after `ring` seconds.
    async fn settle_ringing(&self, secs: i64, claimed: &Claimed, step: Step, ring: Option<i64>) -> bool {
        let settlement = Self::settlement(secs, claimed, step, ring);
        self.store.settle([settlement].into(), at(secs), ids()).await.unwrap().pop().unwrap()
    }

    fn settlement(secs: i64, claimed: &Claimed, step: Step, ring: Option<i64>) -> Settlement {
        Settlement {
            claimed: claimed.clone(),
            step,
            body: b"body".to_vec(),
            ring_at: ring.map(|after| at(secs + after)),
            attempt: Attempt {
                started_at: at(secs),
                took: Duration::from_millis(3),
                status: (step == Step::Delivered).then_some(204),
                detail: (step != Step::Delivered).then(|| "refused".into()),
                timing: Timing { first_byte: Some(Duration::from_millis(2)), ..Timing::default() },
                answer: b"server: x\n\nno".to_vec(),
                print: Some(u32::MAX),
            },
        }
    }

    /// Tells a new coalescing subscription of a file at 100 s, and rings again 10 s later.
    async fn told(&self) -> (SubscriptionId, Claimed) {
        let subscription = self.coalescing().await;
        self.arrive(100, "/a").await;
        let told = self.claim(100, subscription).await.remove(0);
        assert!(self.settle_ringing(100, &told, Step::Delivered, Some(10)).await);
        (subscription, told)
    }

    async fn pulled(&self, secs: i64) {
        self.store.acknowledge_recent(self.account, TimestampSecs::from_secs(secs)).await.unwrap();
    }

    async fn unfetched_at(&self) -> Option<TimestampMs> {
        self.store.standings().await.unwrap().pop().unwrap().unfetched_at
    }

    async fn state(&self, id: NotificationId) -> NotificationState {
        self.store.notification(id).await.unwrap().unwrap().state
    }

    async fn due(&self, subscription: SubscriptionId) -> Option<TimestampMs> {
        self.store.due().await.unwrap().into_iter().find(|(id, _)| *id == subscription).map(|(_, at)| at)
    }

    async fn subscription(&self, id: SubscriptionId) -> Subscription {
        self.store.subscriptions().await.unwrap().into_iter().find(|one| one.id == id).unwrap()
    }
}

#[tokio::test]
async fn a_change_of_content_is_one_event_and_anything_else_is_none() {
    let bench = Bench::new().await;
    for content in [1, 1, 2, 1] {
        bench.record(1, vec![bench.seen("/a", content)]).await;
    }
    bench.record(1, vec![bench.gone("/a"), bench.gone("/a")]).await;
    use EventKind::{Created, Deleted, Updated};
    let kinds: Vec<_> = bench.events().await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [Created, Updated, Updated, Deleted]);
    assert_eq!(bench.store.file_at(bench.account, path("/a")).await.unwrap(), None);
}

#[tokio::test]
async fn a_file_keeps_its_id_over_rewrites_and_moves_and_never_gives_it_on() {
    let bench = Bench::new().await;
    let Recorded::Event { file, .. } = bench.record(1, vec![bench.seen("/a", 1)]).await[0] else { panic!() };
    bench.record(2, vec![bench.seen("/a", 2)]).await;
    bench.record(3, vec![bench.seen_as("/b", 2, Announce::News, Some("/a"))]).await;
    let moved = bench.store.file_at(bench.account, path("/b")).await.unwrap().unwrap();
    assert_eq!((moved.id, moved.arrived_at), (file, at(2)), "moving is not arriving");
    assert_eq!(bench.store.file_at(bench.account, path("/a")).await.unwrap(), None);
    let changes = bench.store.changes(ChangesOf::default(), Cursor::after(Seq::ZERO), 10).await.unwrap();
    let last = changes.events.last().unwrap();
    assert_eq!((last.kind, last.previous_path.clone()), (EventKind::Moved, Some(path("/a"))));
    bench.record(4, vec![bench.gone("/b")]).await;
    let Recorded::Event { file: next, .. } = bench.record(5, vec![bench.seen("/b", 2)]).await[0] else { panic!() };
    assert_ne!(next, file);
}

#[tokio::test]
async fn what_was_found_before_somebody_else_recorded_the_path_changes_nothing() {
    use Recorded::{Silent, Stale};
    let bench = Bench::new().await;
    bench.record(1, vec![bench.seen("/a", 1), bench.seen("/b", 2)]).await;
    let row = async |name: &str| {
        let row = bench.store.file_at(bench.account, path(name)).await.unwrap();
        row.map(|row| (row.id, row.fingerprint))
    };
    let (a, b) = (row("/a").await, row("/b").await);
    let decide = async |decided: Vec<(Arrival, Option<(FileId, Fingerprint)>)>| {
        let considered = decided.into_iter().map(|(arrival, row)| Considered { arrival, row }).collect();
        let (store, ids) = (bench.store.clone(), ids());
        let record = move || store.record_here(considered, at(9), ids)();
        tokio::task::spawn_blocking(record).await.unwrap().unwrap()
    };
    bench.record(2, vec![bench.seen("/a", 3), bench.gone("/b"), bench.seen("/c", 4)]).await;
    let before = bench.events().await;
    // Looked at before: it went, it has another content, it is gone, it is new.
    let (old, gone, new) = (bench.seen("/a", 1), bench.gone("/a"), bench.seen("/c", 5));
    assert_eq!(decide(vec![(old, a), (gone, a), (bench.seen("/b", 6), b), (new, None)]).await, [Stale; 4]);
    assert_eq!(decide(vec![(bench.gone("/b"), b)]).await, [Silent], "both say that it is gone");
    assert_eq!(bench.events().await, before);
    assert!(matches!(*decide(vec![(bench.gone("/a"), row("/a").await)]).await, [Recorded::Event { .. }]));
}

#[tokio::test]
async fn a_move_takes_no_other_file_s_row_along() {
    let bench = Bench::new().await;
    bench.record(1, vec![bench.seen("/a", 1)]).await;
    let mut moved = bench.seen_as("/b", 2, Announce::News, Some("/a"));
    if let Claim::Present(present) = &mut moved.claim {
        present.fingerprint.inode += 1;
    }
    let (store, considered) = (bench.store.clone(), vec![Considered { arrival: moved, row: None }]);
    let ids = ids();
    let recorded = tokio::task::spawn_blocking(move || store.record_here(considered, at(2), ids)()).await.unwrap();
    assert!(matches!(*recorded.unwrap(), [Recorded::Event { kind: EventKind::Created, .. }]));
    assert!(bench.store.file_at(bench.account, path("/a")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_baseline_is_kept_and_not_told() {
    let bench = Bench::new().await;
    let subscription = bench.per_event().await;
    bench.record(1, vec![bench.seen_as("/old", 1, Announce::Baseline, None)]).await;
    assert_eq!(bench.events().await, []);
    assert_eq!(bench.due(subscription).await, None);
    assert!(bench.store.file_at(bench.account, path("/old")).await.unwrap().is_some());
}

#[tokio::test]
async fn rows_come_back_as_they_went_in() {
    let bench = Bench::new().await;
    let odd = FilePath::from_bytes(b"/S/\xff\n.txt").unwrap();
    let arrival = Arrival { path: odd.clone(), ..bench.seen("/x", 9) };
    bench.record(7, vec![arrival.clone()]).await;
    let Claim::Present(present) = &arrival.claim else { panic!() };
    let stored = bench.store.file_at(bench.account, odd.clone()).await.unwrap().unwrap();
    assert_eq!((stored.fingerprint, stored.version), (present.fingerprint, Some(present.version)));
    let asked = |path, inode| Asked { path, inode };
    let asked = vec![asked(odd.clone(), Some(7)), asked(path("/elsewhere"), Some(7)), asked(path("/none"), None)];
    let known = bench.store.known_here(bench.account, &asked).unwrap();
    let here = Known { row: Some(stored.clone()), kin: vec![stored.clone()] };
    assert_eq!(known, [here, Known { row: None, kin: vec![stored] }, Known::default()]);
    let event = bench.store.changes(ChangesOf::default(), Cursor::after(Seq::ZERO), 1).await.unwrap().events.remove(0);
    assert_eq!((event.path, event.version, event.recorded_at), (odd, Some(present.version), at(7)));
    assert_eq!((event.mtime_ms, event.completeness), (Some(1), Some(Completeness::Leased)));
}

#[tokio::test]
async fn what_is_remembered_unread_overwrites_nothing_and_is_told_to_nobody() {
    let bench = Bench::new().await;
    let subscription = bench.per_event().await;
    bench.arrive(1, "/known").await;
    let known = bench.store.file_at(bench.account, path("/known")).await.unwrap();
    let Claim::Present(present) = bench.seen("/x", 1).claim else { panic!() };
    let seen = ["/known", "/old"].map(|name| Seen { path: path(name), fingerprint: present.fingerprint });
    for secs in [2, 3] {
        bench.store.remember(bench.account, seen.to_vec(), "test2".into(), at(secs)).await.unwrap();
    }
    assert_eq!(bench.store.file_at(bench.account, path("/known")).await.unwrap(), known);
    let old = bench.store.file_at(bench.account, path("/old")).await.unwrap().unwrap();
    assert_eq!((old.version, old.fingerprint, old.arrived_at), (None, present.fingerprint, at(2)));
    assert_eq!((bench.events().await.len(), bench.claim(4, subscription).await.len()), (1, 1));

    bench.record(5, vec![bench.seen_as("/old", 1, Announce::Baseline, None)]).await;
    let read = bench.store.file_at(bench.account, path("/old")).await.unwrap().unwrap();
    assert_eq!((read.version, read.arrived_at), (Some(present.version), at(2)), "its content is learned in silence");
    assert_eq!(bench.events().await.len(), 1);
}

#[tokio::test]
async fn who_was_made_due_is_said_once() {
    let bench = Bench::new().await;
    let subscription = bench.per_event().await;
    assert_eq!(bench.store.just_due(), []);
    bench.arrive(1, "/a").await;
    assert_eq!(bench.store.just_due(), [(subscription, at(1))]);
    assert_eq!(bench.store.just_due(), []);
    assert_eq!(bench.claim(1, subscription).await.len(), 1, "it is due all the same");
}

#[tokio::test]
async fn files_are_listed_in_byte_order_below_their_directory_only() {
    let bench = Bench::new().await;
    let names = ["/S/10", "/S/2", "/S/a/b", "/S-1/x", "/S0/x", "/T"];
    bench.record(1, names.iter().map(|name| bench.seen(name, 1)).collect()).await;
    let texts =
        |files: Vec<StoredFile>| -> Vec<String> { files.iter().map(|file| file.path.to_text().into_owned()).collect() };
    let below = || Some(path("/S"));
    assert_eq!(
        texts(bench.store.files_here(bench.account, below().as_ref(), None, 10).unwrap()),
        ["/S/10", "/S/2", "/S/a/b"]
    );
    assert_eq!(
        texts(bench.store.files_here(bench.account, below().as_ref(), Some(&path("/S/10")), 1).unwrap()),
        ["/S/2"]
    );
    assert_eq!(texts(bench.store.files_page(bench.account, path("/S"), 2, 10).await.unwrap()), ["/S/a/b"]);
    assert_eq!(texts(bench.store.files_here(bench.account, None, None, 2).unwrap()), ["/S-1/x", "/S/10"]);
}

#[tokio::test]
async fn recent_is_inclusive_newest_first_and_one_entry_a_file() {
    let bench = Bench::new().await;
    bench.record(10, vec![bench.seen("/a", 1), bench.seen("/b", 1)]).await;
    bench.record(12, vec![bench.seen("/a", 2), bench.seen("/c", 1)]).await;
    let since = |secs| bench.store.recent(bench.account, TimestampSecs::from_secs(secs), None, 100);
    let names = |files: Vec<StoredFile>| files.iter().map(|file| file.path.to_text().into_owned()).collect::<Vec<_>>();
    assert_eq!(names(since(10).await.unwrap()), ["/c", "/a", "/b"]);
    assert_eq!(names(since(12).await.unwrap()), ["/c", "/a"]);
    assert_eq!(names(since(13).await.unwrap()), [""; 0]);
}

#[tokio::test]
async fn a_cursor_skips_nothing() {
    let bench = Bench::new().await;
    let other = bench.store.upsert_account(new_account("other"), at(0)).await.unwrap().id;
    for number in 0..5 {
        bench.arrive(1, &format!("/S/{number}")).await;
        bench.record(1, vec![Arrival { account: other, ..bench.seen("/T/x", number) }]).await;
        bench.arrive(1, &format!("/T/{number}")).await;
    }
    let of = ChangesOf { account: Some(bench.account), folders: Some(vec!["S".into()]) };
    let (mut cursor, mut seen) = (Cursor::after(Seq::ZERO), Vec::new());
    loop {
        let page = bench.store.changes(of.clone(), cursor, 2).await.unwrap();
        seen.extend(page.events.iter().map(|event| event.path.to_text().into_owned()));
        cursor = page.next;
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, ["/S/0", "/S/1", "/S/2", "/S/3", "/S/4"]);
    assert_eq!(bench.store.changes(of, cursor, 2).await.unwrap().next, cursor);
    assert_eq!(bench.store.newest().await.unwrap().seq(), Seq::new(15));
}

#[tokio::test]
async fn each_event_is_owed_once_to_who_wants_each() {
    let bench = Bench::new().await;
    let subscription = bench.per_event().await;
    bench.record(1, vec![bench.seen("/a", 1), bench.seen("/b", 1), bench.gone("/a")]).await;
    assert_eq!(bench.due(subscription).await, Some(at(1)));
    let claimed = bench.claim(1, subscription).await;
    assert_eq!(claimed.len(), 2, "a deletion is not wanted by default");
    assert!(claimed.iter().all(|one| one.last.ordinal - one.after.ordinal == 1));
    assert_eq!(bench.claim(1, subscription).await.len(), 0, "what is held is not claimed again");
    for one in &claimed {
        assert!(bench.settle(1, one, Step::Delivered).await);
        assert_eq!(bench.state(one.notification).await, NotificationState::Delivered);
    }
    assert_eq!(bench.due(subscription).await, None);
}

#[tokio::test]
async fn a_burst_is_told_at_its_start_and_at_the_end_of_the_interval() {
    let bench = Bench::new().await;
    let subscription = bench.coalescing().await;
    bench.arrive(100, "/a").await;
    let first = bench.claim(100, subscription).await.remove(0);
    bench.arrive(100, "/b").await;
    assert_eq!(bench.state(first.notification).await, NotificationState::Pending);
    assert!(bench.settle(101, &first, Step::Delivered).await);
    bench.arrive(102, "/c").await;
    assert_eq!(bench.due(subscription).await, Some(at(111)));
    assert_eq!(bench.claim(110, subscription).await.len(), 0, "not before its time");
    let trailing = bench.claim(111, subscription).await.remove(0);
    assert_eq!(trailing.after, first.last, "what came while the first was under way is in the second");
    assert_eq!(trailing.last.ordinal, 3);
    assert!(bench.settle(111, &trailing, Step::Delivered).await);
    assert_eq!(bench.due(subscription).await, None);
}

#[tokio::test]
async fn what_failed_keeps_its_bytes_and_waits() {
    let bench = Bench::new().await;
    let subscription = bench.coalescing().await;
    bench.arrive(100, "/a").await;
    let first = bench.claim(100, subscription).await.remove(0);
    assert_eq!((first.attempts, &first.body), (0, &None));
    assert!(bench.settle(100, &first, Step::Again(at(105))).await);
    bench.arrive(101, "/b").await;
    assert_eq!(bench.due(subscription).await, Some(at(110)), "no retry inside the interval");
    let again = bench.claim(110, subscription).await.remove(0);
    assert_eq!((again.notification, again.last), (first.notification, first.last));
    assert_eq!((again.attempts, again.body.as_deref()), (1, Some(b"body".as_slice())));
    assert!(bench.settle(110, &again, Step::Delivered).await);
    assert_eq!(bench.due(subscription).await, Some(at(120)));
    let attempts = bench.store.attempts(first.notification).await.unwrap();
    assert_eq!(attempts.iter().map(|one| one.status).collect::<Vec<_>>(), [None, Some(204)]);
}

#[tokio::test]
async fn what_died_stands_and_is_covered_by_the_next() {
    let bench = Bench::new().await;
    let subscription = bench.coalescing().await;
    bench.arrive(100, "/a").await;
    let first = bench.claim(100, subscription).await.remove(0);
    bench.settle(100, &first, Step::Dead).await;
    assert_eq!(bench.state(first.notification).await, NotificationState::Dead);
    bench.arrive(200, "/b").await;
    let next = bench.claim(200, subscription).await.remove(0);
    assert_eq!(next.after, first.after);
    bench.settle(200, &next, Step::Delivered).await;
    assert_eq!(bench.state(first.notification).await, NotificationState::Superseded);
}

#[tokio::test]
async fn the_dead_can_be_replayed() {
    let bench = Bench::new().await;
    let subscription = bench.per_event().await;
    bench.record(1, vec![bench.seen("/a", 1), bench.seen("/b", 1)]).await;
    for one in bench.claim(1, subscription).await {
        bench.settle(1, &one, Step::Dead).await;
    }
    assert_eq!(bench.due(subscription).await, None);
    assert_eq!(bench.store.replay_dead(subscription, at(5)).await.unwrap(), 2);
    let again = bench.claim(5, subscription).await;
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|one| one.attempts == 0 && one.body.is_some()));
}

#[tokio::test]
async fn a_lease_fences() {
    let bench = Bench::new().await;
    let subscription = bench.per_event().await;
    bench.arrive(1, "/a").await;
    let stale = bench.claim(1, subscription).await.remove(0);
    let late = 1 + i64::try_from(LEASE.as_secs()).unwrap();
    let fresh = bench.claim(late, subscription).await.remove(0);
    assert_eq!(stale.notification, fresh.notification);
    assert!(!bench.settle(late, &stale, Step::Delivered).await);
    assert_eq!(bench.state(fresh.notification).await, NotificationState::Pending);
    assert!(bench.settle(late, &fresh, Step::Delivered).await);
    assert!(!bench.settle(late, &fresh, Step::Delivered).await, "a claim is used up by settling");
}

#[tokio::test]
async fn whatever_becomes_due_is_found_however_much_is_held() {
    let bench = Bench::new().await;
    let subscription = bench.per_event().await;
    for number in 0..20 {
        bench.arrive(100, &format!("/{number}")).await;
    }
    let claim = |secs, limit| bench.store.claim(subscription, at(secs), LEASE, limit);
    let first = claim(100, 5).await.unwrap();
    let second = claim(100, 5).await.unwrap();
    assert!(first.iter().all(|one| second.iter().all(|other| one.notification != other.notification)));
    // One that was held goes back among those that are held, one arrives with a clock set back.
    assert!(bench.settle(100, &first[0], Step::Again(at(99))).await);
    bench.arrive(90, "/late").await;
    assert_eq!(bench.due(subscription).await, Some(at(90)));
    let rest = claim(100, 100).await.unwrap();
    assert_eq!(rest.len(), 20 - 10 + 2);
    assert!(rest.iter().any(|one| one.notification == first[0].notification));
    assert_eq!(claim(100, 100).await.unwrap().len(), 0);
    assert_eq!(bench.due(subscription).await, Some(at(160)), "the end of the leases");
}

#[tokio::test]
async fn what_is_due_later_is_said_again_to_whoever_claims() {
    let bench = Bench::new().await;
    let subscription = bench.per_event().await;
    assert_eq!(bench.due(subscription).await, None);
    bench.arrive(100, "/a").await;
    bench.arrive(101, "/b").await;
    let first = bench.store.claim(subscription, at(101), LEASE, 1).await.unwrap().remove(0);
    assert!(bench.settle(101, &first, Step::Again(at(105))).await);
    bench.store.just_due();
    assert_eq!(bench.claim(101, subscription).await.len(), 1);
    assert_eq!(bench.store.just_due(), [(subscription, at(105))]);
}

#[tokio::test]
async fn many_arrivals_at_once_are_as_many_one_after_the_other() {
    let bench = Bench::new().await;
    let arrivals = (0..50).map(|number| match number % 10 {
        9 => bench.gone(&format!("/{}", number - 3)),
        8 => bench.seen(&format!("/{}", number - 1), 2),
        _ => bench.seen(&format!("/{number}"), 1),
    });
    let recorded = bench.record(1, arrivals.clone().collect()).await;
    let one_by_one = Bench::new().await;
    for arrival in arrivals {
        one_by_one.record(1, vec![arrival]).await;
    }
    assert_eq!(bench.events().await, one_by_one.events().await);
    let files = recorded.iter().map(|one| match one {
        Recorded::Event { seq, file, .. } => (*seq, *file),
        Recorded::Silent | Recorded::Stale => panic!("each is news"),
    });
    for (number, (seq, file)) in (1..).zip(files) {
        assert_eq!(seq, Seq::new(number));
        let back = match number % 10 {
            0 => 3,
            9 => 1,
            _ => 0,
        };
        let first = recorded.get(usize::try_from(number - back - 1).unwrap());
        assert!(matches!(first, Some(Recorded::Event { file: same, .. }) if *same == file));
    }
}

#[tokio::test]
async fn what_is_settled_together_is_answered_one_by_one() {
    let bench = Bench::new().await;
    let subscription = bench.per_event().await;
    bench.record(1, (0..40).map(|number| bench.seen(&format!("/{number}"), 1)).collect()).await;
    let claimed = bench.claim(1, subscription).await;
    // One is settled before, one is given back, one fails.
    assert!(bench.settle(2, &claimed[3], Step::Delivered).await);
    bench.store.release(vec![claimed[20].clone()]).await.unwrap();
    let settled = claimed.iter().enumerate().map(|(number, one)| Settlement {
        step: if number == 30 { Step::Dead } else { Step::Delivered },
        claimed: one.clone(),
        body: b"body".to_vec(),
        ring_at: None,
        attempt: Attempt {
            started_at: at(2),
            took: Duration::ZERO,
            status: Some(204),
            detail: None,
            timing: Timing::default(),
            answer: Vec::new(),
            print: None,
        },
    });
    let answers = bench.store.settle(settled.collect(), at(2), ids()).await.unwrap();
    for (number, (one, held)) in claimed.iter().zip(answers).enumerate() {
        assert_eq!(held, number != 3 && number != 20);
        let state = match number {
            20 => NotificationState::Pending,
            30 => NotificationState::Dead,
            _ => NotificationState::Delivered,
        };
        assert_eq!(bench.state(one.notification).await, state);
        let attempts = bench.store.attempts(one.notification).await.unwrap();
        assert_eq!(attempts.len(), usize::from(number != 20));
    }
    let standing = bench.store.standings().await.unwrap().remove(0);
    assert_eq!((standing.pending, standing.delivered, standing.dead), (1, 38, 1));
}

#[tokio::test]
async fn what_is_given_back_can_be_claimed_at_once() {
    let bench = Bench::new().await;
    let subscription = bench.per_event().await;
    bench.arrive(1, "/a").await;
    let given_back = bench.claim(1, subscription).await;
    assert!(bench.claim(1, subscription).await.is_empty());
    bench.store.release(given_back.clone()).await.unwrap();
    let claimed = bench.claim(1, subscription).await;
    assert_eq!(claimed.len(), 1);
    bench.store.release(given_back).await.unwrap();
    assert!(bench.claim(1, subscription).await.is_empty(), "who gave back holds nothing any more");
}

#[tokio::test]
async fn a_pause_keeps_what_is_owed() {
    let bench = Bench::new().await;
    let subscription = bench.per_event().await;
    let set = |status| bench.store.set_subscription_status(subscription, status, None);
    set(SubscriptionStatus::Paused).await.unwrap();
    bench.arrive(1, "/a").await;
    assert_eq!(bench.due(subscription).await, None);
    assert_eq!(bench.claim(1, subscription).await.len(), 0);
    set(SubscriptionStatus::Active).await.unwrap();
    assert_eq!(bench.claim(2, subscription).await.len(), 1);
}

#[tokio::test]
async fn gone_disables_and_keeps_what_is_owed() {
    let bench = Bench::new().await;
    let subscription = bench.per_event().await;
    bench.arrive(1, "/a").await;
    let claimed = bench.claim(1, subscription).await.remove(0);
    assert!(bench.settle(1, &claimed, Step::Disable).await);
    let stands = bench.subscription(subscription).await;
    assert_eq!(stands.status, SubscriptionStatus::Disabled);
    assert!(stands.status_reason.unwrap().contains("410"));
    assert_eq!(bench.state(claimed.notification).await, NotificationState::Pending);
}

#[tokio::test]
async fn since_is_never_later_than_what_is_untold() {
    let bench = Bench::new().await;
    let subscription = bench.coalescing().await;
    bench.arrive(100, "/a").await;
    let first = bench.claim(100, subscription).await.remove(0);
    assert_eq!(first.since, TimestampSecs::from_secs(0), "nothing was ever shown");
    bench.settle(100, &first, Step::Delivered).await;
    bench.arrive(105, "/b").await;
    bench.store.acknowledge_recent(bench.account, TimestampSecs::from_secs(200)).await.unwrap();
    bench.store.acknowledge_recent(bench.account, TimestampSecs::from_secs(100)).await.unwrap();
    let second = bench.claim(110, subscription).await.remove(0);
    assert_eq!(second.since, TimestampSecs::from_secs(105));
    bench.settle(110, &second, Step::Delivered).await;
    bench.arrive(300, "/c").await;
    assert_eq!(bench.claim(300, subscription).await[0].since, TimestampSecs::from_secs(200));
}

#[tokio::test]
async fn a_restart_resumes_exactly_and_repeats_only_the_same() {
    let bench = Bench::new().await;
    let (coalescing, per_event) = (bench.coalescing().await, bench.per_event().await);
    bench.arrive(100, "/a").await;
    let sent = bench.claim(100, coalescing).await.remove(0);
    let each = bench.claim(100, per_event).await.remove(0);
    // The process dies between the POST and its record.
    let bench = bench.reopened().await;
    bench.arrive(101, "/b").await;
    let again = bench.claim(101, coalescing).await.remove(0);
    assert_eq!((again.notification, again.last), (sent.notification, sent.last), "same id, same events");
    assert_eq!(bench.claim(101, per_event).await[0].notification, each.notification);
    bench.settle(101, &again, Step::Delivered).await;
    assert_eq!(bench.due(coalescing).await, Some(at(111)));
}

#[tokio::test]
async fn a_grant_with_a_notification_url_is_a_subscription() {
    let bench = Bench::new().await;
    let new = NewApplication {
        name: "ledger".into(),
        application_id: "3d7a1c52".into(),
        client_id: "5b2f6f0e".into(),
        client_secret_hash: Some("$argon2id$".into()),
        redirect_urls: vec!["http://127.0.0.1:1/callback".into()],
        notification_url: Some("http://127.0.0.1:1/notification".into()),
        signature_encoding: "base64".into(),
        managed: true,
    };
    let application = bench.store.upsert_application(new.clone(), at(0)).await.unwrap();
    let scopes = vec!["api.dataDelivery".into()];
    bench.store.upsert_grant(application.id, bench.account, vec!["SEED".into()], scopes, at(0)).await.unwrap();
    bench.record(1, vec![bench.seen("/SEED/a", 1), bench.seen("/b", 1)]).await;
    let subscription = bench.store.subscriptions().await.unwrap().remove(0);
    assert_eq!(subscription.name, "ledger/test2");
    let Protocol::SageX3 { client_id, customer, .. } = &subscription.protocol else { panic!() };
    assert_eq!((client_id.as_str(), customer.code.as_str()), ("5b2f6f0e", "acme"));
    assert_eq!(bench.claim(1, subscription.id).await.len(), 1, "only what lies in a granted folder");

    let elsewhere = NewApplication { notification_url: Some("http://127.0.0.1:2/n".into()), ..new.clone() };
    bench.store.upsert_application(elsewhere, at(2)).await.unwrap();
    assert_eq!(bench.subscription(subscription.id).await.endpoint.to_string(), "http://127.0.0.1:2/n");
    let again = NewApplication { name: "other".into(), application_id: "x".into(), ..new };
    assert!(matches!(bench.store.upsert_application(again, at(2)).await, Err(StoreError::Exists(_))));
    bench.store.remove_application(application.id).await.unwrap();
    assert!(bench.store.subscriptions().await.unwrap().is_empty());
    assert!(bench.store.grants().await.unwrap().is_empty());
}

#[tokio::test]
async fn writing_again_changes_what_was_given_and_keeps_the_rest() {
    let bench = Bench::new().await;
    let subscription = bench.coalescing().await;
    bench.arrive(1, "/a").await;
    assert_eq!(bench.coalescing().await, subscription);
    assert_eq!(bench.claim(1, subscription).await.len(), 1, "what is owed stays owed");
    let revision = bench.store.revision().await.unwrap();
    let kept = NewAccount { password_hash: None, ..new_account("test2") };
    let account = bench.store.upsert_account(kept, at(1)).await.unwrap();
    assert_eq!((account.id, account.password_hash.as_deref()), (bench.account, Some("$argon2id$")));
    assert_ne!(bench.store.revision().await.unwrap(), revision);
    let state = bench.store.root_state(bench.account, at(5)).await.unwrap();
    assert_eq!((state.first_seen_at, state.baseline_done), (at(5), false));
    bench.store.set_baseline_done(bench.account).await.unwrap();
    bench.store.upsert_account(new_account("test2"), at(6)).await.unwrap();
    let state = bench.store.root_state(bench.account, at(9)).await.unwrap();
    assert_eq!((state.first_seen_at, state.baseline_done), (at(5), true));
    let elsewhere = NewAccount { root: Some("/other".into()), ..new_account("test2") };
    bench.store.upsert_account(elsewhere, at(6)).await.unwrap();
    let state = bench.store.root_state(bench.account, at(9)).await.unwrap();
    assert_eq!((state.first_seen_at, state.baseline_done), (at(9), false), "another root is a new root");
}

#[tokio::test]
async fn who_fetched_an_event_is_known_with_the_first_time() {
    use fetches::{Fetch, Fetched, FetchedFile, Part, Shown};
    let bench = Bench::new().await;
    bench.arrive(10, "/SEED/a").await;
    bench.arrive(20, "/OTHER/b").await;
    let events = bench.store.changes(ChangesOf::default(), Cursor::after(Seq::ZERO), 10).await.unwrap().events;
    let of = async |event: usize| {
        let fetches = bench.store.fetches_of(events[event].clone()).await.unwrap();
        let line = |one: Fetched| format!("{} {} {}", one.at.as_millis() / 1000, one.reader, one.how);
        fetches.into_iter().map(line).collect::<Vec<_>>()
    };
    let shown = |reader: &str, what, folders: Option<&str>, secs| {
        let (reader, folders) = (reader.to_owned(), folders.map(|folder| vec![folder.to_owned()]));
        Fetch::Shown(Shown { reader, what, account: Some(bench.account), folders, at: at(secs) })
    };
    let file = |event: usize, secs| {
        let Event { account, file, recorded_at, .. } = events[event];
        let reader = "application x".to_owned();
        Fetch::File(FetchedFile { account, file, arrived_at: recorded_at, reader, how: "download", at: at(secs) })
    };
    assert_eq!(of(0).await, [""; 0]);
    let (first, second) = (events[0].seq.get(), events[1].seq.get());
    let fetches = vec![
        shown("operator", Part::Changes(0, first), None, 30),
        shown("operator", Part::Changes(0, second), None, 31),
        shown("operator", Part::Changes(0, second), None, 32),
        shown("application x", Part::Changes(0, second), Some("SEED"), 33),
        shown("account test2", Part::Recent(15_000, 20_000), None, 34),
        file(0, 35),
        file(0, 36),
    ];
    bench.store.note_fetches(fetches).await.unwrap();
    assert_eq!(of(0).await, ["30 operator changes", "33 application x changes", "35 application x download"]);
    assert_eq!(of(1).await, ["31 operator changes", "34 account test2 recent"]);
    bench.store.remove_account(bench.account).await.unwrap();
    assert_eq!(of(0).await, [""; 0]);
}

#[tokio::test]
async fn a_root_stays_the_one_it_was_until_another_is_accepted() {
    let bench = Bench::new().await;
    let (store, account) = (&bench.store, bench.account);
    assert_eq!(store.root_identity(account).await.unwrap(), None);
    let first = RootIdentity { dev: 1, inode: 2, birth_ns: Some(3), file_system: 4 };
    let known = KnownRoot { identity: first, files: 0, interrupted: false, reached: None };
    assert_eq!(store.keep_root(account, first).await.unwrap(), known);
    let other = RootIdentity { inode: 9, ..first };
    assert_eq!(store.keep_root(account, other).await.unwrap(), known, "another one changes nothing");
    // Half of its first scan.
    store.root_state(account, at(1)).await.unwrap();
    let seen = |text: &str| Seen {
        path: path(text),
        fingerprint: Fingerprint { dev: 1, inode: 7, birth_ns: None, size: 1, mtime_ns: 0, ctime_ns: 0 },
    };
    store.remember(account, vec![seen("/a"), seen("/b")], "test2".into(), at(2)).await.unwrap();
    let moved = RootIdentity { dev: 8, ..first };
    let known = KnownRoot { identity: moved, files: 2, interrupted: true, reached: Some(path("/b")) };
    assert_eq!(store.keep_root(account, moved).await.unwrap(), known);
    let devices = store.files(account, None, None, 10).await.unwrap();
    assert!(devices.iter().all(|file| file.fingerprint.dev == 8), "rows follow their device: {devices:?}");
    store.set_baseline_done(account).await.unwrap();
    let known = store.keep_root(account, moved).await.unwrap();
    assert_eq!((known.interrupted, known.reached), (false, None));
    store.accept_root(account, other).await.unwrap();
    assert_eq!(store.root_identity(account).await.unwrap(), Some(other));
    assert_eq!(store.keep_root(account, moved).await.unwrap().identity, other);
    let elsewhere = NewAccount { root: Some("/other".into()), ..new_account("test2") };
    store.upsert_account(elsewhere, at(6)).await.unwrap();
    assert_eq!(store.root_identity(account).await.unwrap(), None, "another root is a new root");
    store.root_state(account, at(7)).await.unwrap();
    let known = store.keep_root(account, moved).await.unwrap();
    assert_eq!((known.interrupted, known.reached), (true, None), "what is known of the old one is not of this scan");
}

#[tokio::test]
async fn a_removed_account_leaves_nothing_behind() {
    let bench = Bench::new().await;
    let subscription = bench.per_event().await;
    bench.arrive(1, "/a").await;
    let claimed = bench.claim(1, subscription).await.remove(0);
    bench.store.remove_account(bench.account).await.unwrap();
    assert_eq!(bench.events().await, []);
    assert!(!bench.settle(1, &claimed, Step::Delivered).await);
    assert!(matches!(bench.store.remove_account(bench.account).await, Err(StoreError::Missing(_))));
}

#[tokio::test]
async fn a_secret_is_not_in_the_file_and_not_read_with_another_key() {
    let bench = Bench::new().await;
    let subscription = bench.coalescing().await;
    assert_eq!(bench.subscription(subscription).await.key, Secret::new("4fdab231"));
    for entry in std::fs::read_dir(bench.dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(8).any(|part| part == b"4fdab231"));
    }
    let other = Store::open_sqlite(bench.dir.path(), StoreKey::generate().unwrap()).await.unwrap();
    assert!(matches!(other.subscriptions().await, Err(StoreError::WrongKey)));
}

#[tokio::test]
async fn recent_is_read_in_pages_that_meet() {
    let bench = Bench::new().await;
    for (secs, name) in [(10, "/a"), (10, "/b"), (10, "/c"), (11, "/d"), (12, "/e")] {
        bench.arrive(secs, name).await;
    }
    let since = TimestampSecs::from_secs(10);
    let (mut before, mut names) = (None, Vec::new());
    loop {
        let page = bench.store.recent(bench.account, since, before, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some((last.arrived_at.to_secs(), last.id));
        names.extend(page.iter().map(|file| file.path.to_text().into_owned()));
    }
    assert_eq!(names, ["/e", "/d", "/c", "/b", "/a"]);
    assert_eq!(bench.store.recent_count(bench.account, since).await.unwrap(), 5);
    assert_eq!(bench.store.recent_count(bench.account, TimestampSecs::from_secs(11)).await.unwrap(), 2);
}

#[tokio::test]
async fn a_connection_is_a_subscription_while_it_can_be_told() {
    let bench = Bench::new().await;
    let subscription = |url: &str| NewSubscription {
        name: connection_name("test2"),
        account: bench.account,
        protocol: NewProtocol::Nextcloud("cloud:test2".into()),
        url: url.into(),
        key: Secret::new("4fdab231"),
        min_interval: INTERVAL,
        filter: FilterText::default(),
        managed: false,
    };
    let status = async || {
        let found = bench.store.subscriptions().await.unwrap().into_iter().find(|one| one.name == "nextcloud/test2");
        found.map(|one| (one.status, one.endpoint.to_string()))
    };
    let put = |text: &str, subscription| {
        bench.store.put_connection(bench.account, Secret::new(text), subscription, at(1), ids())
    };
    assert_eq!(bench.store.connection(bench.account).await.unwrap(), None);
    bench.store.remove_connection(bench.account).await.unwrap();
    put("{}", None).await.unwrap();
    assert_eq!((bench.store.connection(bench.account).await.unwrap(), status().await), (Some(Secret::new("{}")), None));
    put("{1}", Some(subscription("http://127.0.0.1:9/a"))).await.unwrap();
    assert_eq!(status().await, Some((SubscriptionStatus::Active, "http://127.0.0.1:9/a".into())));
    bench.store.remove_connection(bench.account).await.unwrap();
    assert_eq!(status().await, Some((SubscriptionStatus::Paused, "http://127.0.0.1:9/a".into())));
    put("{2}", Some(subscription("http://127.0.0.1:9/b"))).await.unwrap();
    assert_eq!(status().await, Some((SubscriptionStatus::Active, "http://127.0.0.1:9/b".into())));
    put("{3}", None).await.unwrap();
    assert_eq!(status().await.unwrap().0, SubscriptionStatus::Paused);
    let bench = bench.reopened().await;
    assert_eq!(bench.store.connection(bench.account).await.unwrap(), Some(Secret::new("{3}")));
}

#[tokio::test]
async fn an_app_password_is_named_once_and_its_use_is_noted() {
    let bench = Bench::new().await;
    let (store, account) = (&bench.store, bench.account);
    store.add_app_password(account, "b".into(), [1; 32], at(1)).await.unwrap();
    store.add_app_password(account, "a".into(), [2; 32], at(2)).await.unwrap();
    let again = store.add_app_password(account, "a".into(), [3; 32], at(3)).await;
    assert!(matches!(again, Err(StoreError::Exists(_))));
    assert_eq!(store.use_app_password([3; 32], at(4)).await.unwrap(), None);
    for secs in [5, 30, 70] {
        assert_eq!(store.use_app_password([1; 32], at(secs)).await.unwrap(), Some(account));
    }
    let listed = store.app_passwords(account).await.unwrap();
    let used: Vec<_> = listed.iter().map(|one| (one.name.as_str(), one.last_used_at)).collect();
    assert_eq!(used, [("a", None), ("b", Some(at(70)))]);
    store.remove_app_password(account, "b".into()).await.unwrap();
    assert!(matches!(store.remove_app_password(account, "b".into()).await, Err(StoreError::Missing(_))));
    assert_eq!(store.use_app_password([1; 32], at(71)).await.unwrap(), None);
}

#[tokio::test]
async fn properties_follow_what_they_were_given_to() {
    let bench = Bench::new().await;
    let (store, account) = (&bench.store, bench.account);
    let set = |path: &str, name: &str, value: Option<&str>| {
        let change = (name.to_owned(), value.map(str::to_owned));
        store.set_properties(account, path.as_bytes().to_vec(), vec![change])
    };
    let at_path = async |path: &str| {
        let bytes = path.as_bytes().to_vec();
        let mut found = store.properties(account, vec![bytes.clone()]).await.unwrap();
        found.remove(&bytes).unwrap_or_default().into_iter().map(|one| one.name + "=" + &one.value).collect::<Vec<_>>()
    };
    bench.record(1, vec![bench.seen("/d/a", 1), bench.seen("/d0", 2)]).await;
    for (path, name) in [("/d/a", "n"), ("/d/a", "m"), ("/d", "n"), ("/d0", "n"), ("", "n")] {
        set(path, name, Some(path)).await.unwrap();
    }
    set("/d/a", "n", Some("new")).await.unwrap();
    set("/d/a", "m", None).await.unwrap();
    store.copy_properties(account, path("/d"), path("/longer name")).await.unwrap();
    assert_eq!(at_path("/longer name/a").await, ["n=new"]);
    store.move_properties(account, path("/d"), path("/e")).await.unwrap();
    assert_eq!((at_path("/e").await, at_path("/e/a").await), (vec!["n=/d".to_owned()], vec!["n=new".to_owned()]));
    assert_eq!((at_path("/d").await.len(), at_path("/d/a").await.len()), (0, 0));
    assert_eq!(at_path("/d0").await, ["n=/d0"], "a name that only begins the same is another");
    bench.record(2, vec![bench.seen_as("/f", 2, Announce::News, Some("/d0"))]).await;
    assert_eq!(
        (at_path("/f").await, at_path("/d0").await.len()),
        (vec!["n=/d0".to_owned()], 0),
        "however it was noticed"
    );
    bench.record(3, vec![bench.gone("/f")]).await;
    assert_eq!(at_path("/f").await.len(), 0);
    store.remove_properties(account, path("/e")).await.unwrap();
    assert_eq!((at_path("/e/a").await.len(), at_path("").await), (0, vec!["n=".to_owned()]));
}

#[tokio::test]
async fn sizes_and_news_are_summed_by_account() {
    let bench = Bench::new().await;
    assert_eq!(bench.store.newest_of(bench.account).await.unwrap(), Seq::ZERO);
    bench.record(1, vec![bench.seen("/d/a", 1), bench.seen("/d/b/c", 1), bench.seen("/d0", 1)]).await;
    let bytes = |below: &str| bench.store.bytes_below(bench.account, path(below));
    assert_eq!(bench.store.usage(bench.account).await.unwrap(), (3, None));
    assert_eq!((bytes("/d").await.unwrap(), bytes("/none").await.unwrap()), (2, 0));
    let newest = bench.store.newest().await.unwrap();
    assert_eq!(Cursor::after(bench.store.newest_of(bench.account).await.unwrap()), newest);
}

#[tokio::test]
async fn what_an_account_holds_is_the_sum_of_its_files_whatever_becomes_of_them() {
    let bench = Bench::new().await;
    let other = bench.store.upsert_account(new_account("other"), at(0)).await.unwrap().id;
    let mut chance = fastrand::Rng::with_seed(8);
    for step in 0..600 {
        let name = |chance: &mut fastrand::Rng| format!("/d{}/f{}", chance.u8(..3), chance.u8(..6));
        let (to, from, size) = (name(&mut chance), name(&mut chance), chance.u64(..1000));
        let content = chance.u8(..4);
        let mut arrival = match chance.u8(..8) {
            0 | 1 => bench.gone(&to),
            2 => bench.seen_as(&to, content, Announce::News, Some(&from)),
            3 => bench.seen_as(&to, content, Announce::Baseline, None),
            _ => bench.seen(&to, content),
        };
        if let Claim::Present(present) = &mut arrival.claim {
            (present.version.size, present.fingerprint.size) = (size, size);
        }
        arrival.account = if chance.bool() { bench.account } else { other };
        let account = arrival.account;
        if chance.u8(..8) == 0 {
            let fingerprint = Fingerprint { dev: 1, inode: 1, birth_ns: None, size, mtime_ns: 1, ctime_ns: 1 };
            let seen = Seen { path: arrival.path.clone(), fingerprint };
            bench.store.remember(account, vec![seen], "test2".into(), at(step)).await.unwrap();
        } else {
            bench.record(step, vec![arrival]).await;
        }
        let files = bench.store.files(account, None, None, 100).await.unwrap();
        let sum = files.iter().map(|file| file.fingerprint.size).sum();
        assert_eq!(bench.store.usage(account).await.unwrap(), (sum, None), "after step {step}");
    }
    bench.store.set_quota(bench.account, Some(10)).await.unwrap();
    let written = bench.store.upsert_account(new_account("test2"), at(1000)).await.unwrap();
    assert_eq!(written.quota_bytes, Some(10), "who writes nothing of a quota keeps it");
    let declared = NewAccount { managed: true, ..new_account("test2") };
    let written = bench.store.upsert_account(declared, at(1000)).await.unwrap();
    assert_eq!(written.quota_bytes, None, "a configuration file without one has none");
    bench.store.remove_account(other).await.unwrap();
    assert!(bench.store.usage(other).await.is_err());
}

#[tokio::test]
async fn how_a_subscription_stands_is_known_without_counting() {
    let bench = Bench::new().await;
    let each = bench.per_event().await;
    let standing = async || bench.store.standings().await.unwrap().pop().unwrap();
    assert_eq!((standing().await.pending, standing().await.oldest_untold_at), (0, None));
    bench.arrive(1, "/a").await;
    bench.arrive(2, "/b").await;
    bench.arrive(3, "/c").await;
    let now = standing().await;
    assert_eq!((now.subscription, now.pending, now.oldest_untold_at), (each, 3, Some(at(1))));
    let claimed = bench.claim(4, each).await;
    assert!(bench.settle(5, &claimed[0], Step::Delivered).await);
    assert!(bench.settle(6, &claimed[1], Step::Again(at(60))).await);
    assert!(bench.settle(7, &claimed[2], Step::Dead).await);
    let now = standing().await;
    assert_eq!((now.pending, now.delivered, now.dead, now.superseded), (1, 1, 1, 0));
    assert_eq!(now.oldest_untold_at, Some(at(2)));
    assert_eq!(now.last_success_at.map(TimestampMs::to_secs), Some(at(5).to_secs()));
    assert_eq!(now.last_failure_at.map(TimestampMs::to_secs), Some(at(7).to_secs()));
    assert_eq!(now.last_failure.as_deref(), Some("refused"));
    bench.store.replay_dead(each, at(8)).await.unwrap();
    assert_eq!((standing().await.pending, standing().await.dead), (2, 0));
    bench.store.remove_subscription(each).await.unwrap();
    assert_eq!(bench.store.standings().await.unwrap(), []);
}

#[tokio::test]
async fn a_coalescing_subscription_is_as_old_as_its_first_untold_event() {
    let bench = Bench::new().await;
    let rdm = bench.coalescing().await;
    bench.arrive(1, "/a").await;
    bench.arrive(2, "/b").await;
    let oldest = async || bench.store.standings().await.unwrap().pop().unwrap().oldest_untold_at;
    assert_eq!(oldest().await, Some(at(1)));
    let claimed = bench.claim(2, rdm).await;
    assert_eq!(claimed[0].oldest_at, at(1));
    bench.arrive(3, "/c").await;
    bench.settle(4, &claimed[0], Step::Delivered).await;
    assert_eq!(oldest().await, Some(at(3)));
}

#[tokio::test]
async fn the_way_of_a_file_is_found() {
    let bench = Bench::new().await;
    let (each, rdm) = (bench.per_event().await, bench.coalescing().await);
    bench.arrive(1, "/a").await;
    bench.record(2, vec![bench.seen("/a", 2)]).await;
    bench.arrive(3, "/other").await;
    let events = bench.store.file_events(bench.account, path("/a"), 10).await.unwrap();
    assert_eq!(events.iter().map(|event| event.kind).collect::<Vec<_>>(), [EventKind::Updated, EventKind::Created]);
    for event in &events {
        let told = bench.store.covering(each, event.seq).await.unwrap().unwrap();
        assert_eq!(told.last.seq, event.seq);
        let told = bench.store.covering(rdm, event.seq).await.unwrap().unwrap();
        assert!(told.after.seq < event.seq && event.seq <= told.last.seq);
    }
    bench.record(4, vec![bench.gone("/a")]).await;
    let newest = bench.store.file_events(bench.account, path("/a"), 1).await.unwrap().remove(0);
    assert_eq!(newest.kind, EventKind::Deleted, "what is gone is still found");
    assert_eq!(bench.store.covering(each, newest.seq.next()).await.unwrap(), None);
    assert_eq!(bench.store.file_events(bench.account, path("/none"), 10).await.unwrap(), []);
}

#[tokio::test]
async fn what_is_not_fetched_is_rung_again_so_often_and_no_more() {
    let bench = Bench::new().await;
    let (subscription, told) = bench.told().await;
    assert_eq!(bench.due(subscription).await, Some(at(110)));
    assert_eq!(bench.claim(109, subscription).await.len(), 0);
    let ring = bench.claim(110, subscription).await.remove(0);
    assert_eq!((ring.notification, ring.last, ring.rung, ring.attempts), (told.notification, told.last, Some(0), 1));
    assert_eq!(ring.body, None, "`since` may have moved");
    assert_eq!(bench.claim(110, subscription).await.len(), 0, "it is held");
    assert!(bench.settle_ringing(110, &ring, Step::Again(at(111)), Some(1)).await, "one that failed is one");
    assert_eq!(bench.due(subscription).await, Some(at(120)), "no ring inside the interval");
    assert_eq!(
        (bench.state(told.notification).await, bench.unfetched_at().await),
        (NotificationState::Delivered, None)
    );
    let last = bench.claim(120, subscription).await.remove(0);
    assert_eq!((last.rung, last.attempts), (Some(1), 2));
    assert!(bench.settle_ringing(121, &last, Step::Delivered, None).await);
    assert_eq!((bench.due(subscription).await, bench.unfetched_at().await), (None, Some(at(121))));
    assert_eq!(bench.store.attempts(told.notification).await.unwrap().len(), 3);
    bench.pulled(99).await;
    assert_eq!(bench.unfetched_at().await, Some(at(121)));
    bench.pulled(100).await;
    assert_eq!(bench.unfetched_at().await, None);
}

#[tokio::test]
async fn what_is_fetched_is_not_rung_again() {
    let bench = Bench::new().await;
    let (subscription, _) = bench.told().await;
    bench.pulled(99).await;
    assert_eq!(bench.due(subscription).await, Some(at(110)));
    bench.pulled(100).await;
    assert_eq!(bench.due(subscription).await, None);
    // Fetched before the delivery is written, and while it is rung.
    bench.arrive(200, "/b").await;
    let told = bench.claim(200, subscription).await.remove(0);
    bench.pulled(200).await;
    bench.settle_ringing(201, &told, Step::Delivered, Some(10)).await;
    assert_eq!(bench.due(subscription).await, None);
    bench.arrive(300, "/c").await;
    let told = bench.claim(300, subscription).await.remove(0);
    bench.settle_ringing(300, &told, Step::Delivered, Some(10)).await;
    let ring = bench.claim(310, subscription).await.remove(0);
    bench.pulled(300).await;
    bench.settle_ringing(310, &ring, Step::Delivered, None).await;
    assert_eq!((bench.due(subscription).await, bench.unfetched_at().await), (None, None));
}

#[tokio::test]
async fn what_cannot_be_fetched_any_more_is_not_rung_again() {
    let bench = Bench::new().await;
    let (subscription, _) = bench.told().await;
    bench.record(105, vec![bench.gone("/a")]).await;
    let ring = bench.claim(110, subscription).await.remove(0);
    bench.settle_ringing(110, &ring, Step::Delivered, Some(30)).await;
    assert_eq!(bench.due(subscription).await, None);
}

#[tokio::test]
async fn newer_events_take_the_place_of_a_ring() {
    let bench = Bench::new().await;
    let (subscription, told) = bench.told().await;
    bench.arrive(105, "/b").await;
    let next = bench.claim(110, subscription).await.remove(0);
    assert_eq!((next.rung, next.after, next.since), (None, told.last, TimestampSecs::from_secs(0)));
    assert_eq!(bench.claim(110, subscription).await.len(), 0);
    bench.settle_ringing(110, &next, Step::Delivered, Some(10)).await;
    // What comes while a ring is under way is told an interval after it.
    let ring = bench.claim(120, subscription).await.remove(0);
    assert_eq!((ring.notification, ring.rung), (next.notification, Some(0)));
    bench.arrive(121, "/c").await;
    bench.pulled(105).await;
    assert_eq!(bench.claim(121, subscription).await.len(), 0);
    assert!(bench.settle_ringing(122, &ring, Step::Delivered, Some(30)).await);
    assert_eq!(bench.due(subscription).await, Some(at(132)));
    let third = bench.claim(132, subscription).await.remove(0);
    assert_eq!((third.rung, third.after, third.since), (None, next.last, TimestampSecs::from_secs(105)));
}

#[tokio::test]
async fn a_ring_survives_a_restart_and_is_fenced() {
    let bench = Bench::new().await;
    let (subscription, told) = bench.told().await;
    let bench = bench.reopened().await;
    let stale = bench.claim(110, subscription).await.remove(0);
    assert_eq!(stale.notification, told.notification);
    // It dies while the ring is under way and something newer has come.
    bench.arrive(111, "/b").await;
    let bench = bench.reopened().await;
    let stale = bench.claim(112, subscription).await.remove(0);
    let late = 112 + i64::try_from(LEASE.as_secs()).unwrap();
    let fresh = bench.claim(late, subscription).await.remove(0);
    assert_eq!((stale.rung, fresh.rung), (Some(0), Some(0)));
    assert!(!bench.settle_ringing(late, &stale, Step::Delivered, Some(10)).await);
    assert!(bench.settle_ringing(late, &fresh, Step::Delivered, Some(10)).await);
    let next = bench.claim(late + 10, subscription).await.remove(0);
    assert_eq!((next.rung, next.after), (None, told.last), "the newer was not forgotten");
}

#[tokio::test]
async fn a_paused_subscription_is_not_rung() {
    let bench = Bench::new().await;
    let (subscription, _) = bench.told().await;
    let ring = bench.claim(110, subscription).await.remove(0);
    bench.settle_ringing(110, &ring, Step::Disable, Some(30)).await;
    assert_eq!(bench.subscription(subscription).await.status, SubscriptionStatus::Disabled);
    assert_eq!((bench.due(subscription).await, bench.claim(200, subscription).await.len()), (None, 0));
    bench.store.set_subscription_status(subscription, SubscriptionStatus::Active, None).await.unwrap();
    assert_eq!(bench.claim(200, subscription).await.len(), 1);
}

#[tokio::test]
async fn what_happened_is_counted_once_where_it_belongs() {
    let bench = Bench::new().await;
    let subscription = bench.per_event().await;
    let hour = 3600;
    let of = |counts: &[(TimestampMs, Counts)]| -> Vec<(i64, u64, u64, u64)> {
        let row = |(at, one): &(TimestampMs, Counts)| {
            (at.as_millis() / 60_000, one.arrivals, one.delivered, one.dead + one.pace.failed)
        };
        counts.iter().map(row).collect()
    };
    bench.store.count_history(Pace::default(), at(hour)).await.unwrap();
    bench.arrive(hour + 5, "/a").await;
    bench.arrive(hour + 61, "/b").await;
    let uncounted = bench.store.uncounted(Some(bench.account)).await.unwrap();
    assert_eq!((uncounted.arrivals, uncounted.delivered), (2, 0));
    assert_eq!(bench.store.uncounted(None).await.unwrap().arrivals, 2);
    let claimed = bench.claim(hour + 62, subscription).await;
    assert!(bench.settle(hour + 63, &claimed[0], Step::Delivered).await);
    assert!(bench.settle(hour + 63, &claimed[1], Step::Dead).await);
    let pace = Pace { failed: 1, took: vec![0, 1] };
    bench.store.count_history(pace.clone(), at(hour + 120)).await.unwrap();
    // Nothing new: nothing is counted twice.
    bench.store.count_history(Pace::default(), at(hour + 180)).await.unwrap();
    assert_eq!(bench.store.uncounted(None).await.unwrap(), Counts::default());
    let bench = bench.reopened().await;
    let minutes = bench.store.history(None, Span::Minute, at(0)).await.unwrap();
    assert_eq!(of(&minutes), [(60, 1, 1, 2), (61, 1, 0, 0)], "events by their own time, the rest by the last call's");
    assert_eq!(minutes[0].1.pace, pace);
    let own = bench.store.history(Some(bench.account), Span::Minute, at(hour + 60)).await.unwrap();
    assert_eq!(of(&own), [(61, 1, 0, 0)], "an account has no failures, and none from before was asked for");
    bench.store.count_history(pace, at(hour + 240)).await.unwrap();
    let days = bench.store.history(None, Span::Day, at(0)).await.unwrap();
    assert_eq!((of(&days), &days[0].1.pace.took), (vec![(0, 2, 1, 3)], &vec![0, 2]));
    // What is older than is kept goes, the finest first.
    bench.store.count_history(Pace::default(), at(4 * hour)).await.unwrap();
    assert!(bench.store.history(None, Span::Minute, at(0)).await.unwrap().is_empty());
    assert_eq!(bench.store.history(None, Span::Quarter, at(0)).await.unwrap().len(), 1);
    bench.store.remove_account(bench.account).await.unwrap();
    assert!(bench.store.history(Some(bench.account), Span::Day, at(0)).await.unwrap().is_empty());
    assert_eq!(bench.store.history(None, Span::Day, at(0)).await.unwrap().len(), 1, "the server's own stays");
}

#[tokio::test]
async fn what_was_answered_500_is_told_until_it_is_fetched_or_given_up() {
    let bench = Bench::new().await;
    let subscription = bench.coalescing().await;
    // Fetched while it is rung.
    bench.arrive(100, "/a").await;
    let first = bench.claim(100, subscription).await.remove(0);
    assert!(bench.settle_ringing(100, &first, Step::Told, Some(10)).await);
    assert_eq!(bench.state(first.notification).await, NotificationState::Told);
    assert_eq!(bench.due(subscription).await, Some(at(110)));
    bench.pulled(100).await;
    assert_eq!(
        (bench.due(subscription).await, bench.state(first.notification).await),
        (None, NotificationState::Delivered)
    );

    // Fetched before the answer is written.
    bench.arrive(200, "/b").await;
    let second = bench.claim(200, subscription).await.remove(0);
    bench.pulled(200).await;
    assert!(bench.settle_ringing(201, &second, Step::Told, Some(10)).await);
    assert_eq!(
        (bench.due(subscription).await, bench.state(second.notification).await),
        (None, NotificationState::Delivered)
    );

    // Accepted by a ring.
    bench.arrive(300, "/c").await;
    let third = bench.claim(300, subscription).await.remove(0);
    bench.settle_ringing(300, &third, Step::Told, Some(10)).await;
    let ring = bench.claim(310, subscription).await.remove(0);
    bench.settle_ringing(310, &ring, Step::Delivered, Some(30)).await;
    assert_eq!(bench.state(third.notification).await, NotificationState::Delivered);

    // Newer events do not wait for it, and cover it.
    bench.arrive(400, "/d").await;
    let fourth = bench.claim(400, subscription).await.remove(0);
    bench.settle_ringing(400, &fourth, Step::Told, Some(1000)).await;
    bench.arrive(411, "/e").await;
    assert_eq!(bench.state(fourth.notification).await, NotificationState::Superseded);
    let fifth = bench.claim(411, subscription).await.remove(0);
    assert_eq!(
        (fifth.rung, fifth.since),
        (None, TimestampSecs::from_secs(200)),
        "it asks for all that was not fetched"
    );
    // So does what came while it was on its way.
    bench.arrive(412, "/f").await;
    bench.settle_ringing(412, &fifth, Step::Told, Some(10)).await;
    assert_eq!(bench.state(fifth.notification).await, NotificationState::Superseded);

    // Never fetched: given up, in sight, and to be replayed.
    let sixth = bench.claim(422, subscription).await.remove(0);
    bench.settle_ringing(422, &sixth, Step::Told, Some(10)).await;
    let ring = bench.claim(432, subscription).await.remove(0);
    bench.settle_ringing(432, &ring, Step::Told, None).await;
    assert_eq!(
        (bench.state(sixth.notification).await, bench.unfetched_at().await, bench.due(subscription).await),
        (NotificationState::Dead, Some(at(432)), None)
    );
    assert_eq!(bench.store.replay_dead(subscription, at(500)).await.unwrap(), 1);
    let again = bench.claim(500, subscription).await.remove(0);
    assert_eq!((again.notification, again.rung, again.attempts), (sixth.notification, None, 0));
    bench.settle_ringing(500, &again, Step::Told, Some(10)).await;
    let ring = bench.claim(510, subscription).await.remove(0);
    bench.settle_ringing(510, &ring, Step::Told, None).await;
    assert_eq!(bench.state(sixth.notification).await, NotificationState::Dead);
    bench.pulled(412).await;
    assert_eq!(
        (bench.state(sixth.notification).await, bench.unfetched_at().await),
        (NotificationState::Delivered, None)
    );
}
