//! Many files, and endpoints that do not play along.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::house::House;
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
