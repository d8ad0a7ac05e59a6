//! End to end: a real store, real sockets, a clock that is moved by hand.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use filebell_core::arrival::{Announce, Arrival, Claim, Completeness, Fingerprint, Present, SourceKind, Version};
use filebell_core::filter::FilterText;
use filebell_core::id::{AccountId, SubscriptionId};
use filebell_core::path::FilePath;
use filebell_core::retry::{Outcome, Schedule};
use filebell_core::ring::Rings;
use filebell_core::secret::Secret;
use filebell_core::subscription::SubscriptionStatus;
use filebell_core::time::{TimestampMs, TimestampSecs};
use filebell_core::wire::{SignedRequest, nextcloud, sagex3, standard};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::metrics::Metrics;
use crate::seams::Seams;
use crate::store::{
    Application, Attempt, NewAccount, NewApplication, NewProtocol, NewSubscription, Notification, NotificationState,
    Store, StoreKey, Timing,
};

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const COMMON_KEY: &str = "4fdab23178d6c424196c9448070d3bef";
const TIMEOUT: Duration = Duration::from_secs(2);
const START: i64 = 1_800_000_000_000;

// --- a receiver that answers by a script

/// What a receiver does with one request.
#[derive(Debug, Clone)]
enum Answer {
    /// Answers with these bytes after a while.
    Bytes(Duration, String),
    /// Says nothing.
    Hang,
    /// Hangs up.
    Close,
    /// Answers with the first text, then with the second for ever, a piece at a time.
    Trickle(&'static str, String, Duration),
}

fn status(code: u16) -> Answer {
    late(Duration::ZERO, code)
}

fn late(after: Duration, code: u16) -> Answer {
    let body = if code == 204 { "\r\n" } else { "content-length: 2\r\n\r\nno" };
    Answer::Bytes(after, format!("HTTP/1.1 {code} X\r\n{body}"))
}

fn bytes(text: &str) -> Answer {
    Answer::Bytes(Duration::ZERO, text.into())
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Received {
    head: String,
    body: Vec<u8>,
}

impl Received {
    fn header(&self, name: &str) -> &str {
        let header = |line: &'_ str| line.split_once(": ").is_some_and(|(found, _)| found.eq_ignore_ascii_case(name));
        self.head
            .lines()
            .find(|line| header(line))
            .and_then(|line| line.split_once(": "))
            .map_or("", |(_, value)| value)
    }
}

#[derive(Default)]
struct Seen {
    received: Mutex<Vec<Received>>,
    times: Mutex<Vec<Instant>>,
    connections: AtomicUsize,
    at_once: AtomicUsize,
    at_once_max: AtomicUsize,
    hung_up: AtomicUsize,
}

struct Receiver {
    address: SocketAddr,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    /// Gives the answers in their order, then the last one for ever.
    async fn answering(script: impl Into<Vec<Answer>>) -> Self {
        Self::at("127.0.0.1:0", script).await
    }

    async fn at(address: &str, script: impl Into<Vec<Answer>>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let task = tokio::spawn(accept(listener, seen.clone(), Arc::new(Mutex::new(script.into()))));
        Self { address, seen, task }
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    fn received(&self) -> Vec<Received> {
        self.seen.received.lock().unwrap().clone()
    }

    async fn has_received(&self, count: usize) -> Vec<Received> {
        until("the receiver is told", async || self.received().len() >= count).await;
        self.received()
    }
}

async fn accept(listener: TcpListener, seen: Arc<Seen>, script: Arc<Mutex<Vec<Answer>>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        seen.connections.fetch_add(1, Ordering::SeqCst);
        let (seen, script) = (seen.clone(), script.clone());
        tokio::spawn(async move {
            let _ = serve(stream, &seen, &script).await;
            seen.hung_up.fetch_add(1, Ordering::SeqCst);
        });
    }
}

async fn serve(mut stream: TcpStream, seen: &Seen, script: &Mutex<Vec<Answer>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while let Some(received) = request(&mut stream, &mut buffer).await? {
        let at_once = seen.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        seen.at_once_max.fetch_max(at_once, Ordering::SeqCst);
        seen.times.lock().unwrap().push(Instant::now());
        seen.received.lock().unwrap().push(received);
        let answer = {
            let mut script = script.lock().unwrap();
            if script.len() > 1 { script.remove(0) } else { script[0].clone() }
        };
        match answer {
            Answer::Bytes(after, text) => {
                if !after.is_zero() {
                    sleep(after).await;
                }
                seen.at_once.fetch_sub(1, Ordering::SeqCst);
                stream.write_all(text.as_bytes()).await?;
            }
            Answer::Hang => std::future::pending().await,
            Answer::Close => return Ok(()),
            Answer::Trickle(first, then, gap) => {
                stream.write_all(first.as_bytes()).await?;
                loop {
                    sleep(gap).await;
                    stream.write_all(then.as_bytes()).await?;
                }
            }
        }
    }
    Ok(())
}

async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<Received>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
            let length: usize = Received { head: head.clone(), body: vec![] }.header("content-length").parse().unwrap();
            if buffer.len() >= end + 4 + length {
                let body = buffer[end + 4..end + 4 + length].to_vec();
                buffer.drain(..end + 4 + length);
                return Ok(Some(Received { head, body }));
            }
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !done().await {
            sleep(Duration::from_millis(3)).await;
        }
    };
    timeout(Duration::from_secs(10), waited).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

// --- a house with a dispatcher in it

struct House {
    store: Store,
    account: AccountId,
    clock: Arc<AtomicI64>,
    dir: tempfile::TempDir,
    wake: Arc<Notify>,
    change: watch::Sender<u64>,
    running: Option<(JoinHandle<()>, CancellationToken)>,
    config: DeliveryConfig,
    files: AtomicUsize,
}

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn loopback() -> Policy {
    Policy { allow_networks: vec!["127.0.0.0/8".parse().unwrap()], allow_http: false }
}

impl House {
    async fn new() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut DeliveryConfig)) -> Self {
        let mut config = DeliveryConfig {
            timeout: TIMEOUT,
            max_in_flight: 256,
            max_in_flight_per_endpoint: 16,
            schedule: Schedule::new(vec![secs(5), secs(30)]),
            rings: Rings::new(vec![secs(10), secs(30)]),
        };
        change(&mut config);
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_sqlite(dir.path(), StoreKey::generate().unwrap()).await.unwrap();
        let account = NewAccount {
            name: "test2".into(),
            password_hash: None,
            root: None,
            customer_url: "https://x3.example.com".into(),
            customer_id: "cfg-1".into(),
            customer_code: "acme".into(),
            quota_bytes: None,
            managed: false,
        };
        let account = store.upsert_account(account, TimestampMs::from_millis(START)).await.unwrap().id;
        let mut house = Self {
            store,
            account,
            clock: Arc::new(AtomicI64::new(START)),
            dir,
            wake: Arc::default(),
            change: watch::Sender::new(0),
            running: None,
            config,
            files: AtomicUsize::new(0),
        };
        house.start();
        house
    }

    fn seams(&self) -> Seams {
        let clock = self.clock.clone();
        Seams::with_clock(move || TimestampMs::from_millis(clock.load(Ordering::SeqCst)))
    }

    fn start(&mut self) {
        let hints = Hints { wake: self.wake.clone(), changed: self.change.subscribe() };
        let egress = Egress::new(loopback(), self.seams()).unwrap();
        let public_url = "https://files.example.org".parse().unwrap();
        let dispatcher = Dispatcher::new(
            self.store.clone(),
            egress,
            self.seams(),
            self.config.clone(),
            &public_url,
            hints,
            Onlookers { metrics: Metrics::new(), feed: Feed::new(TimestampMs::ZERO) },
        );
        let stop = CancellationToken::new();
        self.running = Some((tokio::spawn(dispatcher.run(stop.clone())), stop));
    }

    async fn stop(&mut self) {
        let (running, stop) = self.running.take().unwrap();
        stop.cancel();
        timeout(TIMEOUT * 2, running).await.expect("it stops in time").unwrap();
    }

    async fn subscribe(&self, name: &str, url: &str) -> SubscriptionId {
        self.subscribe_as(name, url, NewProtocol::Standard, KEY, Duration::ZERO).await
    }

    async fn subscribe_as(
        &self,
        name: &str,
        url: &str,
        protocol: NewProtocol,
        key: &str,
        min_interval: Duration,
    ) -> SubscriptionId {
        let new = NewSubscription {
            name: name.into(),
            account: self.account,
            protocol,
            url: url.into(),
            key: Secret::new(key),
            min_interval,
            filter: FilterText::default(),
            managed: false,
        };
        self.store.upsert_subscription(new, self.seams().now(), self.seams().fresh_ids()).await.unwrap().id
    }

    /// An application that is told of the account's files.
    async fn grant(&self, name: &str, url: &str) -> Application {
        let now = self.seams().now();
        let application = NewApplication {
            name: name.into(),
            application_id: "0b0c6c1e-0000-4000-8000-000000000001".into(),
            client_id: "5b2f6f0e-2a41-4a0c-9d5e-7f3c1b8e9a10".into(),
            client_secret_hash: Some("$argon2id$".into()),
            redirect_urls: vec![],
            notification_url: Some(url.into()),
            signature_encoding: "hex".into(),
            managed: false,
        };
        let application = self.store.upsert_application(application, now).await.unwrap();
        self.store.upsert_grant(application.id, self.account, vec!["SEED".into()], vec![], now).await.unwrap();
        application
    }

    /// So many new files arrive at once.
    async fn arrive(&self, count: usize) {
        let first = self.files.fetch_add(count, Ordering::SeqCst);
        let arrivals = (first..first + count).map(|number| arrival(self.account, number)).collect();
        self.store.record(arrivals, self.seams().now(), self.seams().fresh_ids()).await.unwrap();
    }

    /// Time passes.
    fn pass(&self, by: Duration) {
        self.clock.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
        self.wake.notify_one();
    }

    async fn newest(&self, subscription: SubscriptionId) -> Notification {
        self.store.notifications(subscription, 1).await.unwrap().remove(0)
    }

    /// Waits until so many attempts of the newest notification have been settled.
    async fn attempted(&self, subscription: SubscriptionId, count: u32) -> Notification {
        until("it is attempted", async || self.newest(subscription).await.attempts >= count).await;
        self.newest(subscription).await
    }

    /// Waits until the newest notification has been delivered.
    async fn delivered(&self, subscription: SubscriptionId) {
        until("it is delivered", async || self.newest(subscription).await.state == NotificationState::Delivered).await;
    }

    async fn all_delivered(&self, subscription: SubscriptionId, count: usize) {
        until("all are delivered", async || {
            let all = self.store.notifications(subscription, u32::MAX).await.unwrap();
            all.len() == count && all.iter().all(|one| one.state == NotificationState::Delivered)
        })
        .await;
    }

    async fn last_attempt(&self, notification: &Notification) -> Attempt {
        self.store.attempts(notification.id).await.unwrap().pop().unwrap()
    }

    /// Changes the store behind its back.
    fn meddle(&self, sql: &str) {
        rusqlite::Connection::open(self.dir.path().join("filebell.db")).unwrap().execute_batch(sql).unwrap();
    }
}

fn arrival(account: AccountId, number: usize) -> Arrival {
    let inode = u64::try_from(number).unwrap();
    let present = Present {
        fingerprint: Fingerprint { dev: 1, inode, birth_ns: Some(1), size: 1, mtime_ns: 1, ctime_ns: 1 },
        version: Version { sha256: [1; 32], md5: [1; 16], size: 1 },
        completeness: Completeness::Leased,
        moved_from: None,
        announce: Announce::News,
    };
    Arrival {
        account,
        path: FilePath::from_bytes(format!("/SEED/{number}.txt").as_bytes()).unwrap(),
        claim: Claim::Present(present),
        source: SourceKind::Folder,
        user: "test2".into(),
    }
}

// --- what is sent

#[tokio::test]
async fn a_standard_notification_is_signed_for_its_attempt_and_says_who_sends_it() {
    let house = House::new().await;
    let receiver = Receiver::answering([status(204)]).await;
    let each = house.subscribe("each", &receiver.url()).await;
    house.arrive(1).await;
    house.delivered(each).await;
    let got = receiver.received().remove(0);
    assert!(got.head.starts_with("POST /hook HTTP/1.1\r\n"), "{}", got.head);
    assert_eq!(got.header("user-agent"), concat!("filebell/", env!("CARGO_PKG_VERSION")));
    assert_eq!(got.header("host"), receiver.address.to_string());
    let key = standard::StandardKey::parse(&Secret::new(KEY)).unwrap();
    let headers = standard::Headers {
        id: got.header("webhook-id"),
        timestamp: got.header("webhook-timestamp"),
        signature: got.header("webhook-signature"),
    };
    standard::check(&key, headers, &got.body, TimestampSecs::from_secs(START / 1000), secs(1)).unwrap();
    assert!(String::from_utf8(got.body).unwrap().contains("https://files.example.org/api/v1/changes?account=test2"));
}

#[tokio::test]
async fn a_nextcloud_notification_rings_at_once_and_again_at_the_end_of_the_interval() {
    let house = House::new().await;
    let receiver = Receiver::answering([status(200)]).await;
    let protocol = NewProtocol::Nextcloud("cloud:test2".into());
    let rdm = house.subscribe_as("rdm", &receiver.url(), protocol, COMMON_KEY, secs(10)).await;
    house.arrive(1).await;
    house.delivered(rdm).await;
    house.arrive(2).await;
    house.pass(secs(9));
    sleep(Duration::from_millis(50)).await;
    assert_eq!(receiver.received().len(), 1);
    house.pass(secs(1));
    house.delivered(rdm).await;
    let got = receiver.has_received(2).await;
    assert_eq!(got.len(), 2);
    for one in got {
        assert!(one.head.contains("\r\nX-Nextcloud-File-Upload-Notification-Signature: "), "{}", one.head);
        let read =
            nextcloud::verify(&Secret::new(COMMON_KEY), one.header(nextcloud::SIGNATURE_HEADER), &one.body).unwrap();
        assert_eq!((read.id.as_str(), read.min_interval), ("cloud:test2", secs(10)));
    }
}

#[tokio::test]
async fn a_nextcloud_receiver_that_fetches_nothing_is_rung_again_in_bounds() {
    let house = House::new().await;
    let receiver = Receiver::answering([status(200), status(500), status(200)]).await;
    let protocol = NewProtocol::Nextcloud("cloud:test2".into());
    let rdm = house.subscribe_as("rdm", &receiver.url(), protocol, COMMON_KEY, secs(2)).await;
    house.arrive(1).await;
    house.delivered(rdm).await;
    for (number, gap) in [(2, 10), (3, 30)] {
        house.pass(secs(gap - 1));
        sleep(Duration::from_millis(50)).await;
        assert_eq!(receiver.received().len(), number - 1, "not before its time");
        house.pass(secs(1));
        house.attempted(rdm, u32::try_from(number).unwrap()).await;
    }
    let unfetched = async || house.store.standings().await.unwrap().remove(0).unfetched_at;
    until("it stands as never fetched", async || unfetched().await.is_some()).await;
    house.pass(secs(100_000));
    sleep(Duration::from_millis(50)).await;
    let got = receiver.received();
    assert_eq!(got.len(), 3);
    assert!(got.iter().all(|one| one.body == got[0].body));
    assert_eq!(house.newest(rdm).await.state, NotificationState::Delivered);
}

/// A subscription to a receiver that answers as GakuNin RDM's does: 500, whatever it then does.
async fn told_with_500(house: &House) -> (Receiver, SubscriptionId) {
    let receiver = Receiver::answering([status(500)]).await;
    let protocol = NewProtocol::Nextcloud("cloud:test2".into());
    let rdm = house.subscribe_as("rdm", &receiver.url(), protocol, COMMON_KEY, secs(2)).await;
    house.arrive(1).await;
    house.attempted(rdm, 1).await;
    assert_eq!(house.newest(rdm).await.state, NotificationState::Told);
    (receiver, rdm)
}

#[tokio::test]
async fn a_receiver_that_answers_500_and_fetches_is_left_in_peace() {
    let house = House::new().await;
    let (receiver, rdm) = told_with_500(&house).await;
    // As whoever answers `recent` does.
    house.store.acknowledge_recent(house.account, house.seams().now().to_secs()).await.unwrap();
    assert_eq!(house.newest(rdm).await.state, NotificationState::Delivered);
    house.pass(secs(100_000));
    house.arrive(1).await;
    house.attempted(rdm, 1).await;
    assert_eq!(receiver.received().len(), 2, "only what is new is told");
    let standing = house.store.standings().await.unwrap().remove(0);
    assert_eq!((standing.dead, standing.unfetched_at), (0, None));
}

#[tokio::test]
async fn a_receiver_that_answers_500_and_never_fetches_is_rung_in_bounds_and_holds_up_nothing_newer() {
    let house = House::new().await;
    let (receiver, rdm) = told_with_500(&house).await;
    let first = house.newest(rdm).await.id;
    house.pass(secs(10));
    house.attempted(rdm, 2).await;
    // The next ring is half a minute off; what is new is told at the end of the interval.
    house.pass(secs(2));
    house.arrive(1).await;
    receiver.has_received(3).await;
    house.attempted(rdm, 1).await;
    let newest = house.newest(rdm).await.id;
    assert_ne!(newest, first);
    assert_eq!(house.store.notification(first).await.unwrap().unwrap().state, NotificationState::Superseded);
    for (attempts, gap) in [(2, 10), (3, 30)] {
        house.pass(secs(gap));
        house.attempted(rdm, attempts).await;
    }
    until("it is given up", async || house.newest(rdm).await.state == NotificationState::Dead).await;
    let standing = house.store.standings().await.unwrap().remove(0);
    assert!(standing.unfetched_at.is_some() && standing.dead == 1);
    house.pass(secs(100_000));
    house.arrive(1).await;
    receiver.has_received(6).await;
    assert_eq!(receiver.received().len(), 6, "two of the first, three of the second, one of the third");
}

#[tokio::test]
async fn a_gateway_that_answers_for_a_receiver_is_told_by_the_schedule() {
    let house = House::new().await;
    let receiver = Receiver::answering([status(502), status(503), status(200)]).await;
    let protocol = NewProtocol::Nextcloud("cloud:test2".into());
    let rdm = house.subscribe_as("rdm", &receiver.url(), protocol, COMMON_KEY, secs(2)).await;
    house.arrive(1).await;
    for (attempts, gap) in [(1, 6), (2, 34)] {
        let failed = house.attempted(rdm, attempts).await;
        assert_eq!(failed.state, NotificationState::Pending);
        house.pass(secs(gap));
    }
    house.delivered(rdm).await;
}

#[tokio::test]
async fn a_sage_x3_application_is_told_of_each_file_and_where_its_detail_is() {
    let house = House::new().await;
    let receiver = Receiver::answering([status(200)]).await;
    let application = house.grant("ledger", &receiver.url()).await;
    house.arrive(2).await;
    let got = receiver.has_received(2).await;
    let subscription = house.store.subscriptions().await.unwrap().remove(0);
    house.all_delivered(subscription.id, 2).await;
    let newest = house.newest(subscription.id).await.id.uuid().to_string();
    let details: Vec<String> = got
        .iter()
        .map(|one| {
            let signature = one.header(sagex3::SIGNATURE_HEADER);
            sagex3::verify(&Secret::new(application.client_id.clone()), signature, &one.body).unwrap();
            String::from_utf8(one.body.clone()).unwrap()
        })
        .collect();
    let url = format!("https://files.example.org/v1/notification/{newest}");
    assert!(details.iter().any(|detail| detail.contains(&url)), "{details:?}");
}

// --- failing and trying again

#[tokio::test]
async fn what_failed_is_sent_again_with_the_same_id_and_the_same_bytes() {
    let house = House::new().await;
    let receiver = Receiver::answering([status(500), status(204)]).await;
    let each = house.subscribe("each", &receiver.url()).await;
    house.arrive(1).await;
    let failed = house.attempted(each, 1).await;
    assert_eq!(failed.state, NotificationState::Pending);
    let attempt = house.last_attempt(&failed).await;
    assert_eq!((attempt.status, attempt.detail.as_deref()), (Some(500), Some("no")));
    house.pass(secs(6));
    house.delivered(each).await;
    let got = receiver.received();
    assert_eq!(got.len(), 2);
    assert_eq!(got[0].body, got[1].body);
    assert_eq!(got[0].header("webhook-id"), got[1].header("webhook-id"));
    assert_ne!(got[0].header("webhook-timestamp"), got[1].header("webhook-timestamp"));
    assert_eq!(receiver.seen.connections.load(Ordering::SeqCst), 1, "an answer read to its end frees the connection");
}

#[tokio::test]
async fn an_endpoint_that_was_down_is_told_when_it_is_back() {
    let house = House::new().await;
    let address = Receiver::answering([status(204)]).await.address;
    until("nobody listens", async || TcpStream::connect(address).await.is_err()).await;
    let each = house.subscribe("each", &format!("http://{address}/hook")).await;
    house.arrive(1).await;
    let failed = house.attempted(each, 1).await;
    let attempt = house.last_attempt(&failed).await;
    assert_eq!(attempt.status, None);
    assert!(attempt.detail.as_deref().unwrap().contains("did not accept the connection"), "{attempt:?}");
    let receiver = Receiver::at(&address.to_string(), [status(204)]).await;
    house.pass(secs(6));
    house.delivered(each).await;
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn no_answer_at_all_is_a_failure() {
    for (answer, told) in [
        (Answer::Close, "closed"),
        (bytes("SSH-2.0-OpenSSH_9.9\r\n\r\n"), "HTTP"),
        (bytes("HTTP/1.1 2x0 OK\r\n\r\n"), "HTTP"),
    ] {
        let house = House::new().await;
        let receiver = Receiver::answering([answer.clone(), status(204)]).await;
        let each = house.subscribe("each", &receiver.url()).await;
        house.arrive(1).await;
        let failed = house.attempted(each, 1).await;
        let attempt = house.last_attempt(&failed).await;
        assert_eq!((failed.state, attempt.status), (NotificationState::Pending, None), "{answer:?}");
        assert!(attempt.detail.as_deref().unwrap().contains(told), "{attempt:?}");
        house.pass(secs(6));
        house.delivered(each).await;
    }
}

#[tokio::test]
async fn at_the_end_of_the_schedule_it_is_dead_and_can_be_replayed() {
    let house = House::with(|config| config.schedule = Schedule::new(vec![secs(5)])).await;
    let receiver = Receiver::answering([status(500), status(503), status(204)]).await;
    let each = house.subscribe("each", &receiver.url()).await;
    house.arrive(1).await;
    house.attempted(each, 1).await;
    house.pass(secs(6));
    let dead = house.attempted(each, 2).await;
    assert_eq!(dead.state, NotificationState::Dead);
    house.pass(secs(100_000));
    assert_eq!(house.store.replay_dead(each, house.seams().now()).await.unwrap(), 1);
    house.wake.notify_one();
    house.delivered(each).await;
    let got = receiver.received();
    assert_eq!(got.len(), 3);
    assert_eq!(got[0].body, got[2].body);
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let house = House::new().await;
    let busy = bytes("HTTP/1.1 503 Busy\r\nRetry-After: 120\r\ncontent-length: 0\r\n\r\n");
    let receiver = Receiver::answering([busy, status(204)]).await;
    let each = house.subscribe("each", &receiver.url()).await;
    house.arrive(1).await;
    let failed = house.attempted(each, 1).await;
    assert_eq!(failed.due_at, TimestampMs::from_millis(START).after(secs(120)));
    house.pass(secs(119));
    sleep(Duration::from_millis(50)).await;
    assert_eq!(receiver.received().len(), 1);
    house.pass(secs(1));
    house.delivered(each).await;
}

#[tokio::test]
async fn an_endpoint_that_asks_to_be_left_alone_is_sent_nothing_else_meanwhile() {
    for code in [429, 503] {
        let house = House::with(|config| config.max_in_flight_per_endpoint = 1).await;
        let busy = bytes(&format!("HTTP/1.1 {code} X\r\nRetry-After: 3600\r\ncontent-length: 0\r\n\r\n"));
        let receiver = Receiver::answering([busy, status(204)]).await;
        let other = Receiver::answering([status(204)]).await;
        let each = house.subscribe("each", &receiver.url()).await;
        let healthy = house.subscribe("healthy", &other.url()).await;
        house.arrive(20).await;
        receiver.has_received(1).await;
        house.all_delivered(healthy, 20).await;
        house.pass(secs(3599));
        // Whoever claims for one has looked at the other.
        for count in 21..24 {
            house.arrive(1).await;
            house.all_delivered(healthy, count).await;
        }
        assert_eq!(receiver.received().len(), 1, "{code}");
        house.pass(secs(1));
        house.all_delivered(each, 23).await;
        assert_eq!(receiver.received().len(), 24);
    }
}

#[tokio::test]
async fn gone_disables_the_subscription_and_keeps_what_it_is_owed() {
    let house = House::with(|config| config.max_in_flight_per_endpoint = 1).await;
    let receiver = Receiver::answering([status(410), status(204)]).await;
    let each = house.subscribe("each", &receiver.url()).await;
    house.arrive(5).await;
    until("it is disabled", async || {
        house.store.subscriptions().await.unwrap()[0].status == SubscriptionStatus::Disabled
    })
    .await;
    house.arrive(1).await;
    house.wake.notify_one();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(receiver.received().len(), 1);

    house.store.set_subscription_status(each, SubscriptionStatus::Active, None).await.unwrap();
    house.change.send_modify(|turn| *turn += 1);
    house.all_delivered(each, 6).await;
}

#[tokio::test]
async fn what_waits_for_an_application_that_is_disabled_is_let_go() {
    let house = House::with(|config| config.max_in_flight_per_endpoint = 1).await;
    let receiver = Receiver::answering([Answer::Hang, status(200)]).await;
    let application = house.grant("ledger", &receiver.url()).await;
    let ledger = house.store.subscriptions().await.unwrap().remove(0).id;
    let other = Receiver::answering([status(204)]).await;
    let each = house.subscribe("each", &other.url()).await;
    house.arrive(5).await;
    receiver.has_received(1).await;
    // The next one is claimed already; the first keeps the only place until the deadline.
    house.all_delivered(each, 5).await;
    house.store.set_application_disabled(application.id, true).await.unwrap();
    house.change.send_modify(|turn| *turn += 1);
    until("the first has failed", async || {
        house.store.notifications(ledger, 5).await.unwrap().iter().any(|one| one.attempts == 1)
    })
    .await;
    house.arrive(1).await;
    house.all_delivered(each, 6).await;
    assert_eq!(receiver.received().len(), 1);

    house.store.set_application_disabled(application.id, false).await.unwrap();
    house.change.send_modify(|turn| *turn += 1);
    house.pass(secs(6));
    house.all_delivered(ledger, 6).await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let house = House::new().await;
    let elsewhere = Receiver::answering([status(204)]).await;
    let location = format!("{}?token=hunter2", elsewhere.url());
    let moved = format!("HTTP/1.1 307 Moved\r\nLocation: {location}\r\ncontent-length: 0\r\n\r\n");
    let receiver = Receiver::answering([bytes(&moved)]).await;
    let each = house.subscribe("each", &receiver.url()).await;
    house.arrive(1).await;
    let failed = house.attempted(each, 1).await;
    let attempt = house.last_attempt(&failed).await;
    assert_eq!((failed.state, attempt.status), (NotificationState::Pending, Some(307)));
    assert_eq!(attempt.detail, Some(format!("redirect to {} not followed", elsewhere.url())));
    assert!(elsewhere.received().is_empty());
}

// --- isolation

#[tokio::test]
async fn an_endpoint_that_hangs_slows_nobody_but_itself() {
    let house = House::new().await;
    let hanging = Receiver::answering([Answer::Hang]).await;
    let healthy = Receiver::answering([status(204)]).await;
    let slow = house.subscribe("a-slow", &hanging.url()).await;
    let quick = house.subscribe("quick", &healthy.url()).await;
    house.arrive(50).await;
    let began = Instant::now();
    hanging.has_received(1).await;
    house.all_delivered(quick, 50).await;
    assert!(began.elapsed() < TIMEOUT, "{:?}", began.elapsed());
    assert_eq!(house.newest(slow).await.state, NotificationState::Pending);
    assert!(hanging.seen.at_once_max.load(Ordering::SeqCst) <= house.config.max_in_flight_per_endpoint);
}

#[tokio::test]
async fn one_that_has_nothing_under_way_begins_beside_any_that_hang() {
    let house = House::with(|config| (config.timeout, config.max_in_flight) = (secs(60), 8)).await;
    let (first, second) = (Receiver::answering([Answer::Hang]).await, Receiver::answering([Answer::Hang]).await);
    house.subscribe("first", &first.url()).await;
    house.subscribe("second", &second.url()).await;
    house.arrive(10).await;
    // Each would have four places; together they leave one of all.
    until("they hang", async || first.received().len() + second.received().len() >= 7).await;
    let healthy = Receiver::answering([status(204)]).await;
    let quick = house.subscribe("quick", &healthy.url()).await;
    house.change.send_modify(|turn| *turn += 1);
    house.arrive(5).await;
    house.all_delivered(quick, 5).await;
}

#[tokio::test]
async fn what_was_claimed_ahead_for_an_endpoint_that_is_down_is_given_back() {
    const FILES: usize = 600;
    let house = House::new().await;
    let mut script = vec![status(204); 100];
    script.push(status(503));
    let receiver = Receiver::answering(script).await;
    let each = house.subscribe("each", &receiver.url()).await;
    house.arrive(FILES).await;
    receiver.has_received(120).await;
    let mut free = 0;
    until("others can claim it", async || {
        let now = house.seams().now();
        free += house.store.claim(each, now, secs(60), u32::MAX).await.unwrap().len();
        free > FILES - 200
    })
    .await;
}

#[tokio::test]
async fn one_deadline_covers_an_answer_that_drips() {
    let seams = Seams::with_clock(|| TimestampMs::from_millis(START));
    let egress = Egress::new(loopback(), seams).unwrap();
    let (short, gap) = (Duration::from_millis(100), Duration::from_millis(20));
    for (head, drip, expected) in [
        ("HTTP/1.1 204 X\r\nx-a: ", "a", (Outcome::Unreachable, None)),
        (
            "HTTP/1.1 500 X\r\ncontent-length: 9999\r\n\r\n",
            "a",
            (Outcome::Refused { status: 500, retry_after: None }, Some(500)),
        ),
        // Its head has accepted; waiting for the rest changes nothing.
        ("HTTP/1.1 200 X\r\ncontent-length: 9999\r\n\r\n", "a", (Outcome::Accepted, Some(200))),
    ] {
        let receiver = Receiver::answering([Answer::Trickle(head, drip.into(), gap)]).await;
        let exchange = post(&egress, &receiver.url(), short).await;
        assert_eq!((exchange.outcome, exchange.status), expected, "{head}");
        assert!(exchange.took >= short && exchange.took < secs(1), "{:?}", exchange.took);
        until("it hangs up", async || receiver.seen.hung_up.load(Ordering::SeqCst) == 1).await;
    }
}

#[tokio::test]
async fn a_body_that_drips_is_not_waited_for_and_its_beginning_is_kept() {
    let egress = Egress::new(loopback(), Seams::real()).unwrap();
    for (head, outcome) in [
        ("HTTP/1.1 200 X\r\ncontent-length: 9999\r\n\r\n", Outcome::Accepted),
        ("HTTP/1.1 503 X\r\ncontent-length: 9999\r\n\r\n", Outcome::Refused { status: 503, retry_after: None }),
    ] {
        let receiver = Receiver::answering([Answer::Trickle(head, "a".into(), Duration::from_millis(20))]).await;
        let exchange = post(&egress, &receiver.url(), secs(60)).await;
        assert_eq!(exchange.outcome, outcome);
        assert!(exchange.took < secs(5), "{:?}", exchange.took);
        assert!(exchange.answer.starts_with(b"\na"), "{:?}", exchange.answer);
        until("it hangs up", async || receiver.seen.hung_up.load(Ordering::SeqCst) == 1).await;
    }
}

#[tokio::test]
async fn endpoints_whose_bodies_drip_hold_up_nobody() {
    const DRIPPING: usize = 4;
    let house = House::with(|config| (config.timeout, config.max_in_flight) = (secs(60), DRIPPING)).await;
    let mut receivers = Vec::new();
    for number in 0..DRIPPING {
        let head = "HTTP/1.1 200 X\r\ncontent-length: 9999\r\n\r\n";
        let receiver = Receiver::answering([Answer::Trickle(head, "a".into(), Duration::from_millis(20))]).await;
        house.subscribe(&format!("a{number}"), &receiver.url()).await;
        receivers.push(receiver);
    }
    let healthy = Receiver::answering([status(204)]).await;
    let quick = house.subscribe("quick", &healthy.url()).await;
    house.arrive(4).await;
    house.all_delivered(quick, 4).await;
    for receiver in receivers {
        receiver.has_received(4).await;
    }
}

#[tokio::test]
async fn a_flood_is_cut() {
    let egress = Egress::new(loopback(), Seams::real()).unwrap();
    let flood = "HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n";
    let receiver =
        Receiver::answering([Answer::Trickle(flood, format!("400\r\n{}\r\n", "a".repeat(1024)), Duration::ZERO)]).await;
    let exchange = post(&egress, &receiver.url(), secs(10)).await;
    assert_eq!(exchange.outcome, Outcome::Accepted);
    assert!(exchange.took < secs(5), "{:?}", exchange.took);
    until("it hangs up", async || receiver.seen.hung_up.load(Ordering::SeqCst) == 1).await;

    let header = format!("x-{}: a\r\n", "a".repeat(1024));
    let endless_head = Answer::Trickle("HTTP/1.1 200 X\r\n", header, Duration::ZERO);
    let receiver = Receiver::answering([endless_head]).await;
    let exchange = post(&egress, &receiver.url(), secs(10)).await;
    assert_eq!(exchange.outcome, Outcome::Unreachable);
    assert!(exchange.took < secs(5), "{:?}", exchange.took);
}

#[tokio::test]
async fn an_endpoint_never_has_more_at_once_than_it_may() {
    let house = House::with(|config| config.max_in_flight_per_endpoint = 4).await;
    let receiver = Receiver::answering([late(Duration::from_millis(10), 204)]).await;
    let first = house.subscribe("first", &receiver.url()).await;
    let second = house.subscribe("second", &receiver.url()).await;
    house.arrive(40).await;
    house.all_delivered(first, 40).await;
    house.all_delivered(second, 40).await;
    assert_eq!(receiver.seen.at_once_max.load(Ordering::SeqCst), 4);
    assert_eq!(receiver.received().len(), 80);
}

#[tokio::test]
async fn all_endpoints_together_never_have_more_than_the_whole_may() {
    let house = House::with(|config| config.max_in_flight = 3).await;
    let receiver = Receiver::answering([late(Duration::from_millis(5), 204)]).await;
    let mut subscriptions = Vec::new();
    for number in 0..6 {
        let url = format!("http://{}/{number}", receiver.address);
        subscriptions.push(house.subscribe(&number.to_string(), &url).await);
    }
    house.arrive(10).await;
    for subscription in subscriptions {
        house.all_delivered(subscription, 10).await;
    }
    assert!(receiver.seen.at_once_max.load(Ordering::SeqCst) <= 3);
}

// --- bookkeeping

#[tokio::test]
async fn a_failure_to_write_an_acceptance_does_not_send_again() {
    let house = House::new().await;
    let receiver = Receiver::answering([status(204)]).await;
    let each = house.subscribe("each", &receiver.url()).await;
    house.meddle("CREATE TRIGGER full BEFORE INSERT ON attempt BEGIN SELECT RAISE(ABORT, 'disk full'); END");
    house.arrive(1).await;
    receiver.has_received(1).await;
    sleep(Duration::from_millis(50)).await;
    house.arrive(1).await;
    house.pass(secs(3600));
    sleep(Duration::from_millis(100)).await;
    assert_eq!(receiver.received().len(), 1, "nothing is claimed while an outcome waits to be written");
    house.meddle("DROP TRIGGER full");
    house.all_delivered(each, 2).await;
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test]
async fn what_ended_while_the_store_failed_longer_than_a_lease_is_not_sent_again() {
    let house = House::with(|config| config.max_in_flight_per_endpoint = 8).await;
    // One ends first, and is tried to be written alone.
    let late: Vec<_> = (0..7).map(|_| late(Duration::from_millis(150), 204)).collect();
    let receiver = Receiver::answering([vec![status(204)], late].concat()).await;
    let each = house.subscribe("each", &receiver.url()).await;
    house.meddle("CREATE TRIGGER full BEFORE INSERT ON attempt BEGIN SELECT RAISE(ABORT, 'disk full'); END");
    house.arrive(8).await;
    receiver.has_received(8).await;
    // So long that all that is due is looked for again as soon as the store takes the first.
    sleep(Duration::from_millis(1100)).await;
    house.pass(secs(3600));
    house.meddle(
        "DROP TRIGGER full; CREATE TRIGGER full BEFORE INSERT ON attempt WHEN EXISTS (SELECT 1 FROM attempt)
         BEGIN SELECT RAISE(ABORT, 'disk full'); END",
    );
    until("the first is written", async || {
        let all = house.store.notifications(each, 10).await.unwrap();
        all.iter().any(|one| one.state == NotificationState::Delivered)
    })
    .await;
    sleep(Duration::from_millis(100)).await;
    house.meddle("DROP TRIGGER full");
    house.all_delivered(each, 8).await;
    assert_eq!(receiver.received().len(), 8);
}

#[tokio::test]
async fn what_cannot_be_written_after_a_failure_of_the_store_holds_up_nothing() {
    let house = House::new().await;
    let receiver = Receiver::answering([status(204)]).await;
    let each = house.subscribe("each", &receiver.url()).await;
    let change = "UPDATE meta SET value = value + 1 WHERE key = 'revision'";
    house.meddle("CREATE TRIGGER full BEFORE INSERT ON attempt BEGIN SELECT RAISE(ABORT, 'disk full'); END");
    house.arrive(1).await;
    receiver.has_received(1).await;
    sleep(Duration::from_millis(50)).await;
    house.meddle(&format!(
        "BEGIN; DROP TRIGGER full; CREATE TABLE kept AS SELECT filter FROM subscription;
         UPDATE subscription SET filter = 'no filter'; {change}; COMMIT"
    ));
    sleep(Duration::from_millis(1000)).await;
    house.meddle(&format!("BEGIN; UPDATE subscription SET filter = (SELECT filter FROM kept); {change}; COMMIT"));
    house.pass(secs(3600));
    house.delivered(each).await;
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test]
async fn a_stop_lets_what_is_under_way_end_and_writes_it() {
    let mut house = House::with(|config| config.max_in_flight_per_endpoint = 1).await;
    let receiver = Receiver::answering([late(Duration::from_millis(200), 204)]).await;
    let each = house.subscribe("each", &receiver.url()).await;
    house.arrive(3).await;
    receiver.has_received(1).await;
    house.stop().await;
    let states: Vec<_> = house.store.notifications(each, 10).await.unwrap().iter().rev().map(|one| one.state).collect();
    assert_eq!(receiver.received().len(), 1, "nothing is begun after the stop");
    assert_eq!(states.iter().filter(|state| **state == NotificationState::Delivered).count(), 1);
    house.start();
    house.all_delivered(each, 3).await;
}

#[tokio::test]
async fn what_was_cut_off_is_sent_again_under_the_same_id() {
    let mut house = House::new().await;
    let receiver = Receiver::answering([Answer::Hang, status(204)]).await;
    let each = house.subscribe("each", &receiver.url()).await;
    house.arrive(1).await;
    receiver.has_received(1).await;
    // As a crash would: nothing is settled. The lease runs out.
    house.running.take().unwrap().0.abort();
    house.pass(secs(3600));
    house.start();
    house.delivered(each).await;
    let got = receiver.received();
    assert_eq!(got.last().unwrap().header("webhook-id"), got[0].header("webhook-id"));
}

#[tokio::test]
async fn a_key_that_cannot_sign_says_so_and_sends_nothing() {
    let house = House::new().await;
    let receiver = Receiver::answering([status(204)]).await;
    let each = house.subscribe_as("each", &receiver.url(), NewProtocol::Standard, "short", Duration::ZERO).await;
    house.arrive(1).await;
    let failed = house.attempted(each, 1).await;
    let detail = house.last_attempt(&failed).await.detail.unwrap();
    assert!(detail.contains("whsec_") && !detail.contains("short"), "{detail}");
    assert!(receiver.received().is_empty());
    house.subscribe("each", &receiver.url()).await;
    house.change.send_modify(|turn| *turn += 1);
    house.pass(secs(6));
    house.delivered(each).await;
}

// --- the address policy, on real connections

async fn post(egress: &Egress, url: &str, deadline: Duration) -> Exchange {
    let request = SignedRequest { headers: vec![("webhook-id", "secret-signature".into())], body: b"{}".to_vec() };
    egress.post(&url.parse().unwrap(), request, deadline).await
}

#[tokio::test]
async fn a_forbidden_address_is_never_connected_to() {
    let receiver = Receiver::answering([status(204)]).await;
    let port = receiver.address.port();
    let strict = Egress::new(Policy { allow_http: true, ..Policy::default() }, Seams::real()).unwrap();
    for host in ["127.0.0.1", "localhost", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0"] {
        let exchange = post(&strict, &format!("http://{host}:{port}/hook?key=hunter2"), TIMEOUT).await;
        let detail = exchange.detail.unwrap();
        assert_eq!((exchange.outcome, exchange.status), (Outcome::Unreachable, None));
        assert!(detail.contains("egress.allow_networks"), "{detail}");
        assert!(!detail.contains("hunter2") && !detail.contains("secret-signature"), "{detail}");
    }
    assert_eq!(receiver.seen.connections.load(Ordering::SeqCst), 0);

    let allowing = Egress::new(loopback(), Seams::real()).unwrap();
    for host in ["127.0.0.1", "0x7f.1", "[::ffff:127.0.0.1]"] {
        let exchange = post(&allowing, &format!("http://{host}:{port}/hook"), TIMEOUT).await;
        assert_eq!(exchange.outcome, Outcome::Accepted, "{host}: {:?}", exchange.detail);
    }
}

#[tokio::test]
async fn public_addresses_are_reached_by_https_only() {
    let strict = Egress::new(Policy::default(), Seams::real()).unwrap();
    let exchange = post(&strict, "http://1.1.1.1/", TIMEOUT).await;
    assert!(exchange.detail.unwrap().contains("by https only"));
}

#[tokio::test]
async fn a_receiver_that_does_not_speak_tls_is_not_told_in_the_clear() {
    let receiver = Receiver::answering([status(204)]).await;
    let egress = Egress::new(loopback(), Seams::real()).unwrap();
    let exchange = post(&egress, &format!("https://{}/", receiver.address), Duration::from_millis(500)).await;
    assert_eq!(exchange.outcome, Outcome::Unreachable);
    assert!(receiver.received().is_empty());
}

// --- what an attempt keeps

#[tokio::test]
async fn an_attempt_keeps_what_it_waited_for_and_what_was_answered() {
    let egress = Egress::new(loopback(), Seams::real()).unwrap();
    let body = "b".repeat(3000);
    let answers = [
        late(Duration::from_millis(50), 204),
        bytes(&format!("HTTP/1.1 200 X\r\nserver: s\r\nset-cookie: secret\r\ncontent-length: 3000\r\n\r\n{body}")),
        bytes("HTTP/1.1 503 X\r\nretry-after: 9\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
    ];
    let receiver = Receiver::answering(answers).await;
    let slow = post(&egress, &receiver.url(), TIMEOUT).await;
    let first_byte = slow.timing.first_byte.unwrap();
    assert!(slow.timing.resolve.is_some() && slow.timing.connect.is_some(), "{:?}", slow.timing);
    assert_eq!(slow.timing.tls, None);
    assert!(first_byte >= Duration::from_millis(50) && first_byte <= slow.took, "{slow:?}");
    assert_eq!(slow.answer, b"", "nothing is kept of nothing");

    let kept = post(&egress, &receiver.url(), TIMEOUT).await;
    let none = Timing { first_byte: kept.timing.first_byte, ..Timing::default() };
    assert_eq!((kept.timing, receiver.seen.connections.load(Ordering::SeqCst)), (none, 1), "its connection was kept");
    assert_eq!(String::from_utf8(kept.answer).unwrap(), format!("server: s\n\n{}", &body[..2048]));

    let refused = post(&egress, &receiver.url(), TIMEOUT).await;
    assert_eq!(String::from_utf8(refused.answer).unwrap(), "retry-after: 9\n\n");
    until("it hangs up", async || receiver.seen.hung_up.load(Ordering::SeqCst) == 1).await;
    let anew = post(&egress, &receiver.url(), TIMEOUT).await;
    assert!(anew.timing.connect.is_some(), "{anew:?}");

    let unanswered = Receiver::answering([Answer::Hang]).await;
    let exchange = post(&egress, &unanswered.url(), Duration::from_millis(50)).await;
    assert_eq!((exchange.timing, exchange.answer), (Timing::default(), vec![]));
}

#[tokio::test]
async fn a_request_is_built_again_exactly_as_it_was_sent() {
    let house = House::new().await;
    let receiver = Receiver::answering([status(503), status(204)]).await;
    let url = format!("{}?token=hunter2", receiver.url());
    let each = house.subscribe("each", &url).await;
    let rings =
        house.subscribe_as("rings", &url, NewProtocol::Nextcloud("cloud:test2".into()), COMMON_KEY, secs(10)).await;
    house.arrive(1).await;
    receiver.has_received(2).await;
    house.attempted(each, 1).await;
    house.attempted(rings, 1).await;
    house.pass(secs(20));
    house.delivered(each).await;
    house.delivered(rings).await;
    let all = house.store.subscriptions().await.unwrap();
    let mut sent: Vec<_> = receiver.received();
    for id in [each, rings] {
        let subscription = all.iter().find(|one| one.id == id).unwrap();
        let Notification { id, after, last, created_at, .. } = house.newest(id).await;
        let letter = Letter { notification: id, after, last, created_at, since: TimestampSecs::from_secs(0) };
        for attempt in house.store.attempts(id).await.unwrap() {
            let shown = letter.shown(None, subscription, "https://files.example.org/", attempt.started_at).unwrap();
            assert_eq!(Some(shown.print), attempt.print, "{}", subscription.name);
            let head = shown.head.replace("token=***", "token=hunter2").trim_end().replace('\n', "\r\n");
            let at = sent.iter().position(|one| *one == Received { head: head.clone(), body: shown.body.clone() });
            sent.remove(at.unwrap_or_else(|| panic!("{head}\nwas not received: {sent:?}")));
        }
        let mut moved = subscription.clone();
        moved.key =
            Secret::new(if subscription.name == "each" { "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0" } else { "4f4f" });
        let other = letter.shown(None, &moved, "https://files.example.org/", created_at).unwrap();
        assert!(house.store.attempts(id).await.unwrap().iter().all(|one| one.print != Some(other.print)));
    }
    assert_eq!(sent, [], "everything received was shown");
}

/// Answers one request after another over TLS, each after a while, on a thread of its own.
fn tls_receiver(connections: usize, exchanges: usize, after: Duration) -> SocketAddr {
    let certificate = include_bytes!("tests/receiver.cert.der").as_slice().into();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(include_bytes!("tests/receiver.key.der").as_slice()).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for _ in 0..connections {
            let (tcp, _) = listener.accept().unwrap();
            // The handshake begins late.
            std::thread::sleep(after);
            let mut stream = rustls::StreamOwned::new(rustls::ServerConnection::new(config.clone()).unwrap(), tcp);
            for _ in 0..exchanges {
                let mut read = Vec::new();
                while !read.ends_with(b"{}") {
                    let mut buffer = [0; 1024];
                    let count = stream.read(&mut buffer).unwrap();
                    read.extend(&buffer[..count]);
                }
                std::thread::sleep(after);
                stream.write_all(b"HTTP/1.1 204 X\r\n\r\n").unwrap();
            }
        }
    });
    address
}

#[tokio::test]
async fn the_handshake_is_timed_apart_and_only_where_there_was_one() {
    let after = Duration::from_millis(40);
    let address = tls_receiver(1, 2, after);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(include_bytes!("tests/receiver.cert.der").as_slice().into()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let egress = Egress::with_tls(loopback(), Seams::real(), tls.with_root_certificates(roots).with_no_client_auth());
    let url = format!("https://{address}/");
    let first = post(&egress, &url, secs(5)).await;
    assert_eq!(first.outcome, Outcome::Accepted, "{:?}", first.detail);
    let (handshake, first_byte) = (first.timing.tls.unwrap(), first.timing.first_byte.unwrap());
    assert!(handshake >= after && first_byte >= handshake + after, "{:?}", first.timing);
    let second = post(&egress, &url, secs(5)).await;
    assert_eq!((second.timing.tls, second.timing.connect), (None, None));
    assert!(second.timing.first_byte.unwrap() >= after);
}
