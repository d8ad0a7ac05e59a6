//! Many files, and endpoints that do not play along.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use filebell::journal::Journal;
use filebell::metrics::Metrics;
use filebell::seams::Seams;
use filebell::store::{NewAccount, Store, StoreKey};
use filebell_core::arrival::{Announce, Arrival, Claim, Completeness, Fingerprint, Present, SourceKind, Version};
use filebell_core::path::FilePath;
use filebell_core::time::TimestampMs;

use crate::house::{House, basic};
use crate::observe::{asked, standard, until};
use crate::receiver::{PATIENCE, Receiver};

const INTERVAL: Duration = Duration::from_secs(1);

/// How many files make a burst.
fn burst() -> usize {
    std::env::var("FILEBELL_TEST_FILES").map_or(5_000, |text| text.parse().expect("FILEBELL_TEST_FILES is a number"))
}

#[test]
fn a_burst_is_told_once_an_interval_and_pulled_exactly_once() {
    let receiver = Receiver::start();
    let house = House::open(&standard("bulk", &receiver.url("/hook"), "min_interval = \"1s\""));
    let (count, begun) = (burst(), Instant::now());
    for number in 0..count {
        house.write(&format!("{}/{number}", number % 50), "x");
    }
    let (mut seen, mut after) = (BTreeSet::new(), String::new());
    while seen.len() < count {
        let page = asked(&house, "GET", &format!("/api/v1/changes?after={after}&wait={}", PATIENCE.as_secs()));
        let events = page["events"].as_array().unwrap();
        assert!(!events.is_empty(), "stuck at {} of {count}", seen.len());
        for event in events {
            assert!(seen.insert(event["path"].as_str().unwrap().to_owned()), "{} twice", event["path"]);
        }
        after = page["next"].as_str().unwrap().to_owned();
    }
    until(|| asked(&house, "GET", "/api/v1/status"), |report| report["subscriptions"][0]["pending"] == 0);
    let took = begun.elapsed();
    let told = receiver.received().len();
    let most = 1 + took.as_millis() / INTERVAL.as_millis();
    assert!(told >= 1 && told as u128 <= most, "{told} notifications in {took:?}, at most {most} may be");
    let rest = asked(&house, "GET", &format!("/api/v1/changes?after={after}"));
    assert_eq!(rest["events"].as_array().unwrap().len(), 0, "no more than that");
}

/// An endpoint that takes connections and does `what` with each; answers its URL and how many came.
fn endpoint(what: fn(std::net::TcpStream)) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let came = Arc::new(AtomicUsize::new(0));
    let counter = came.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counter.fetch_add(1, Ordering::Relaxed);
            std::thread::spawn(move || what(stream));
        }
    });
    (url, came)
}

/// Reads, and never answers.
fn hang(mut stream: std::net::TcpStream) {
    let mut bytes = [0; 4096];
    while stream.read(&mut bytes).is_ok_and(|read| read > 0) {}
}

/// Reads, and answers one byte a second.
fn drip(mut stream: std::net::TcpStream) {
    if stream.read(&mut [0; 4096]).is_err() {
        return;
    }
    for byte in b"HTTP/1.1 200 OK\r\nX-Long: ".iter().chain(std::iter::repeat(&b'x')) {
        if stream.write_all(&[*byte]).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn endpoints_that_hang_and_drip_cost_only_themselves() {
    const FILES: usize = 400;
    let receiver = Receiver::start();
    let ((hanging, hung), (dripping, dripped)) = (endpoint(hang), endpoint(drip));
    let more = [("healthy", receiver.url("/hook")), ("hanging", hanging), ("dripping", dripping)];
    let house = House::open(&more.map(|(name, url)| standard(name, &url, "")).concat());
    // Both hold on to what they were sent before the healthy one gets most of its share.
    house.write("first", "x");
    until(
        || (hung.load(Ordering::Relaxed), dripped.load(Ordering::Relaxed)),
        |(hung, dripped)| *hung > 0 && *dripped > 0,
    );
    for number in 1..FILES {
        house.write(&format!("{number}"), "x");
    }
    let told = receiver.wait_for(FILES);
    let ids: BTreeSet<&str> = told.iter().map(|one| one.header("webhook-id")).collect();
    assert_eq!((told.len(), ids.len()), (FILES, FILES), "each once");
    let report = asked(&house, "GET", "/api/v1/status");
    for subscription in report["subscriptions"].as_array().unwrap() {
        let counts = (subscription["delivered"].as_u64().unwrap(), subscription["pending"].as_u64().unwrap());
        if subscription["name"] != "healthy" {
            assert_eq!(counts, (0, FILES as u64), "{}: owed and kept", subscription["name"]);
        }
    }
    assert_eq!(report["subscriptions"].as_array().unwrap().len(), 3);
}

/// How many files `recent` answers with at once in the test below.
const RECENT_FILES: u64 = 100_000;

/// Puts files into the store of a house that is not open, as a source would.
fn fill(house: &House, account: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let data = house.path("data");
        std::fs::create_dir_all(&data).unwrap();
        let store = Store::open_sqlite(&data, StoreKey::load_or_create(&data).unwrap()).await.unwrap();
        let new = NewAccount {
            name: account.to_owned(),
            password_hash: None,
            root: None,
            customer_url: String::new(),
            customer_id: String::new(),
            customer_code: String::new(),
            quota_bytes: None,
            managed: false,
        };
        let account = store.upsert_account(new, TimestampMs::from_millis(0)).await.unwrap().id;
        let journal = Journal::open(store, Seams::real(), Metrics::new());
        let arrival = |number: u64| {
            let print = Fingerprint { dev: 1, inode: number, birth_ns: None, size: 1, mtime_ns: 1, ctime_ns: 1 };
            let present = Present {
                fingerprint: print,
                version: Version { sha256: [1; 32], md5: [1; 16], size: 1 },
                completeness: Completeness::Leased,
                moved_from: None,
                announce: Announce::News,
            };
            Arrival {
                account,
                path: FilePath::from_bytes(format!("/d{}/a file named {number}.csv", number % 100).as_bytes()).unwrap(),
                claim: Claim::Present(present),
                source: SourceKind::Folder,
                user: "bulk".to_owned(),
            }
        };
        for first in (0..RECENT_FILES).step_by(1000) {
            journal.record((first..first + 1000).map(arrival).collect()).await.unwrap();
        }
    });
}

#[test]
fn recent_of_very_many_files_is_one_answer_that_nobody_holds_in_memory() {
    let mut house = House::new("[[accounts]]\nname = \"bulk\"\npassword = \"bulk\"\n");
    fill(&house, "bulk");
    house.start();
    let bulk = basic("bulk", "bulk");
    let recent = |since: &str, format: &str| {
        let path = format!("/ocs/v2.php/apps/file_upload_notification/api/recent?since={since}&format={format}");
        let answer = house.get(&path, &[("Authorization", &bulk), ("OCS-APIRequest", "true")]);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    };
    // Logged in, and every part of the way gone once.
    recent("9999999999", "xml");
    let before = house.status_kib("VmHWM:");
    let (xml, json) = (recent("0", "xml"), recent("0", "json"));
    let grown = house.status_kib("VmHWM:") - before;
    let bytes = xml.body.len().min(json.body.len());
    assert!(bytes > 10 << 20, "an answer has {bytes} bytes");
    assert!(grown < 8 * 1024, "answers of {bytes} bytes and more took {grown} KiB");
    let in_json = filebell_client::recent::read_json(&json.body).unwrap();
    let in_xml = filebell_client::recent::read_xml(&xml.body).unwrap();
    assert_eq!(in_json, in_xml);
    assert!(xml.text().contains(&format!("<count>{RECENT_FILES}</count>")));
    let ids: BTreeSet<i64> = in_json.iter().map(|file| file.id).collect();
    assert_eq!((in_json.len() as u64, ids.len() as u64), (RECENT_FILES, RECENT_FILES), "each once");
    assert!(in_json.is_sorted_by(|a, b| (a.time, a.id) > (b.time, b.id)), "newest first");
    let names: BTreeSet<&str> = in_json.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names.len() as u64, RECENT_FILES);
}
