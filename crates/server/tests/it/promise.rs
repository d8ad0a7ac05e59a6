//! What is promised, from outside: the real binary, real files, real sockets.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use filebell_core::secret::Secret;
use filebell_core::wire::{nextcloud, sagex3};
use sha2::Digest;

use crate::house::{House, basic, run};
use crate::receiver::{PATIENCE, Received, Receiver};

const KEY: &str = "4fdab23178d6c424196c9448070d3bef";
const CLIENT_ID: &str = "5b2f6f0e-2a41-4a0c-9d5e-7f3c1b8e9a10";
const INTERVAL: Duration = Duration::from_secs(2);

pub fn rdm(receiver: &Receiver) -> String {
    format!(
        "[[subscriptions]]\nname = \"rdm\"\naccount = \"test2\"\nprotocol = \"nextcloud\"\nurl = \"{}\"\n\
         connection_id = \"https://nextcloud.example.com:test2\"\nmin_interval = \"2s\"\nkey = \"{KEY}\"\n",
        receiver.url("/hook")
    )
}

pub fn ledger(receiver: &Receiver) -> String {
    format!(
        "[[applications]]\nname = \"ledger\"\nclient_id = \"{CLIENT_ID}\"\nclient_secret = \"s3cr3t-Example\"\n\
         redirect_urls = [\"http://127.0.0.1:9001/callback\"]\nnotification_url = \"{}\"\n\
         signature_encoding = \"hex\"\n[[applications.grants]]\naccount = \"test2\"\nfolders = [\"SEED\"]\n\
         scopes = [\"api.dataDelivery\"]\n",
        receiver.url("/notification")
    )
}

fn nextcloud_since(received: &Received) -> i64 {
    let signature = received.header("x-nextcloud-file-upload-notification-signature");
    nextcloud::verify(&Secret::new(KEY), signature, &received.body).unwrap().since.as_secs()
}

pub fn recent(house: &House, since: i64) -> serde_json::Value {
    let path = format!("/ocs/v2.php/apps/file_upload_notification/api/recent?since={since}&format=json");
    let headers = [("Authorization", basic("test2", "secret")), ("OCS-APIRequest", "true".into())];
    let answer = house.get(&path, &headers.each_ref().map(|(name, value)| (*name, value.as_str())));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["ocs"]["data"].clone()
}

pub fn token(house: &House) -> String {
    let printed = house.run("token", &["--application", "ledger", "--account", "test2"]);
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    format!("Bearer {}", printed["access_token"].as_str().unwrap())
}

#[test]
fn a_file_is_told_by_nextcloud_verified_pulled_and_downloaded() {
    let receiver = Receiver::start();
    let house = House::open(&rdm(&receiver));
    house.write("SEED/result.txt", "hello\n");
    let told = receiver.wait_for(1).remove(0);
    assert_eq!(told.line, "POST /hook HTTP/1.1");
    assert_eq!(told.header("content-type"), "application/json");
    assert_eq!(told.text(), r#"{"id":"https:\/\/nextcloud.example.com:test2","min_interval":"2","since":"0"}"#);
    let data = recent(&house, nextcloud_since(&told));
    assert_eq!(data["count"], 1);
    let file = &data["files"][0];
    assert_eq!((&file["name"], &file["path"]), (&"result.txt".into(), &"/SEED/result.txt".into()));
    assert_eq!((&file["type"], &file["modified_user"]), (&"file".into(), &"test2".into()));
    let by = basic("test2", "secret");
    for tree in ["/remote.php/dav/files/test2", "/remote.php/webdav"] {
        let answer = house.get(&format!("{tree}/SEED/result.txt"), &[("Authorization", &by)]);
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello\n"));
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert!(answer.header("oc-checksum").contains(sha256));
    }
    // What was shown is where the next notification starts from.
    house.write("SEED/more.txt", "more\n");
    let second = receiver.wait_for(2).remove(1);
    assert_eq!(nextcloud_since(&second), file["time"].as_i64().unwrap());
}

#[test]
fn what_was_there_before_is_listed_with_its_checksum_though_it_was_never_read() {
    let receiver = Receiver::start();
    let mut house = House::new(&ledger(&receiver));
    house.write("SEED/old.txt", "hello\n");
    // The grain of the file system's clock must lie between what was there and the start.
    std::thread::sleep(Duration::from_millis(50));
    house.start();
    house.write("SEED/new.txt", "new\n");
    receiver.wait_for(1);
    let by = token(&house);
    let by = [("Authorization", by.as_str())];
    for _ in 0..2 {
        let listing = house.get("/v1/datadelivery/SEED", &by).json();
        assert_eq!(listing["itemsCount"], 2);
        assert_eq!(listing["items"][1]["key"], "old.txt");
        assert_eq!(listing["items"][1]["checksum"], "\"b1946ac92492d2347c6235b4d2611184\"");
    }
    let download = house.get("/v1/datadelivery/SEED?filename=old.txt", &by);
    let at = download.header("location").strip_prefix(&house.url("")).unwrap();
    let download = house.get(at, &[]);
    let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    assert!(download.header("oc-checksum").contains(sha256), "{} {:?}", download.status, download.headers);
    assert_eq!(house.events().len(), 1, "nobody is told of it");
}

#[test]
fn a_file_is_told_by_sagex3_verified_pulled_downloaded_and_deleted() {
    let receiver = Receiver::start();
    let house = House::open(&ledger(&receiver));
    house.write("other.txt", "not in a granted folder");
    house.write("SEED/sub/result.txt", "hello\n");
    let told = receiver.wait_for(1).remove(0);
    let pushed =
        sagex3::verify(&Secret::new(CLIENT_ID), told.header("hmac_sha256"), &told.body).expect("a signature that fits");
    let detail_url = format!("{}/v1/notification/{}", house.url(""), pushed.notification_id);
    assert_eq!(told.json()["detailUrl"], detail_url);
    let by = token(&house);
    let by = [("Authorization", by.as_str())];
    let detail = house.get(&format!("/v1/notification/{}", pushed.notification_id), &by).json();
    assert_eq!(detail["notificationID"], told.json()["notificationId"]);
    assert_eq!(detail["customerId"], told.json()["customerID"]);
    let payload: serde_json::Value = serde_json::from_str(detail["payload"].as_str().unwrap()).unwrap();
    assert_eq!((&payload["folder"], &payload["fileName"]), (&"SEED".into(), &"sub/result.txt".into()));
    let download = payload["downloadUrl"].as_str().unwrap().strip_prefix(&house.url("")).unwrap().to_owned();
    assert_eq!(download, "/v1/datadelivery/SEED?filename=sub%2Fresult.txt");
    // To where the bytes are one is sent without the token.
    let sent = house.get(&download, &by);
    assert_eq!(sent.status, 302);
    let storage = sent.header("location").strip_prefix(&house.url("")).unwrap().to_owned();
    assert_eq!(house.get(&storage, &[]).text(), "hello\n");
    let part = house.get(&storage, &[("Range", "bytes=1-3")]);
    assert_eq!((part.status, part.text().as_str()), (206, "ell"));
    assert_eq!(part.header("content-range"), "bytes 1-3/6");
    let listing = house.get("/v1/datadelivery/SEED", &by).json();
    assert_eq!(listing["items"][0]["key"], "sub/result.txt");
    assert_eq!(listing["items"][0]["checksum"], "\"b1946ac92492d2347c6235b4d2611184\"");
    assert_eq!(house.request("DELETE", &download, &by).status, 204);
    assert!(!house.root().join("SEED/sub/result.txt").exists());
    assert_eq!(house.request("DELETE", &download, &by).status, 204, "deleting again is no error");
    assert_eq!(house.get(&download, &by).json()["message"], "File not found");
    assert_eq!(house.get("/v1/datadelivery/SEED", &by).json()["itemsCount"], 0);
}

#[test]
fn line_6_the_minimum_interval_holds_both_ways() {
    let receiver = Receiver::start();
    let house = House::open(&rdm(&receiver));
    house.write("first", "1");
    receiver.wait_for(1);
    for number in 0..20 {
        house.write(&format!("burst-{number}"), "2");
    }
    let told = receiver.wait_for(2);
    let gap = told[1].at - told[0].at;
    assert!(gap >= INTERVAL, "two sends {gap:?} apart");
    let shown = recent(&house, nextcloud_since(&told[1]));
    assert_eq!(shown["count"], 21);
    assert_eq!(receiver.received().len(), 2, "one notification covers the burst");
}

#[test]
fn a_nextcloud_receiver_is_rung_until_it_fetches() {
    let receiver = Receiver::start();
    let mut house = House::new(&rdm(&receiver));
    let text = std::fs::read_to_string(house.path("filebell.toml")).unwrap();
    let text = text.replace("[delivery]\n", "[delivery]\nring = [\"100ms\", \"3s\", \"3s\"]\n");
    std::fs::write(house.path("filebell.toml"), text).unwrap();
    house.start();
    house.write("a", "1");
    let told = receiver.wait_for(2);
    house.kill();
    house.start();
    let told = [told, receiver.wait_for(3)].concat();
    assert!(told.iter().all(|one| one.body == told[0].body));
    assert!(told[1].at - told[0].at >= INTERVAL, "no ring inside the interval");
    recent(&house, nextcloud_since(&told[0]));
    std::thread::sleep(Duration::from_millis(3500));
    assert_eq!(receiver.received().len(), 3, "what was fetched is not rung again");
}

#[test]
fn line_6_a_steady_stream_is_told_every_interval_not_never() {
    let receiver = Receiver::start();
    let house = House::open(&rdm(&receiver));
    let begun = Instant::now();
    for number in 0.. {
        if begun.elapsed() > 3 * INTERVAL {
            break;
        }
        house.write("steady", number.to_string());
        std::thread::sleep(Duration::from_millis(50));
    }
    let told = receiver.wait_for(3);
    assert!(told.len() <= 4, "{} in three intervals", told.len());
    assert!(told.windows(2).all(|two| two[1].at - two[0].at >= INTERVAL));
}

#[test]
fn a_receiver_that_fails_is_told_again_under_the_same_id() {
    let receiver = Receiver::start().answering(&["500 Oh", "503 No\r\nRetry-After: 1", "404 What"]);
    let house = House::open(&ledger(&receiver));
    house.write("SEED/a", "1");
    let told = receiver.wait_for(4);
    let bodies: BTreeSet<_> = told.iter().map(|one| one.body.clone()).collect();
    assert_eq!(bodies.len(), 1, "the same bytes on every attempt");
    assert!(told[2].at - told[1].at >= Duration::from_secs(1), "Retry-After is honoured");
}

#[test]
fn a_receiver_that_is_not_there_is_told_when_it_comes() {
    // A port that was free a moment ago refuses until the receiver takes it.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let absent = |path: &str| format!("http://{address}{path}");
    let more = format!(
        "[[applications]]\nname = \"ledger\"\nclient_id = \"{CLIENT_ID}\"\nclient_secret = \"s\"\n\
         notification_url = \"{}\"\n[[applications.grants]]\naccount = \"test2\"\nfolders = [\"SEED\"]\n",
        absent("/n")
    );
    let house = House::open(&more);
    house.write("SEED/a", "1");
    house.wait_for_events(1);
    let receiver = Receiver::start_at(address);
    receiver.wait_for(1);
}

#[test]
fn killed_between_arrival_and_delivery_it_tells_after_the_restart() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut house = House::new(&format!(
        "[[subscriptions]]\nname = \"each\"\naccount = \"test2\"\nprotocol = \"standard\"\nurl = \"http://{address}/\"\n\
         key = \"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\"\n"
    ));
    house.start();
    for number in 0..10 {
        house.write(&format!("file-{number}"), number.to_string());
    }
    let before = house.wait_for_events(10);
    house.kill();
    let receiver = Receiver::start_at(address);
    house.start();
    let told = receiver.wait_for(10);
    let ids: BTreeSet<_> = told.iter().map(|one| one.header("webhook-id").to_owned()).collect();
    assert_eq!(ids.len(), 10, "each once");
    assert_eq!(house.events(), before, "the restart made no event of its own");
    assert_eq!(house.stop(), Some(0));
}

#[test]
fn what_was_written_while_it_was_down_is_told_at_the_start() {
    let receiver = Receiver::start();
    let mut house = House::new(&ledger(&receiver));
    house.write("SEED/before-the-first-start", "old");
    house.start();
    house.write("SEED/a", "1");
    house.write("SEED/there", "2");
    receiver.wait_for(2);
    house.kill();
    house.write("SEED/a", "3");
    house.write("SEED/deep/new/b", "4");
    std::fs::rename(house.root().join("SEED/there"), house.root().join("SEED/moved")).unwrap();
    house.start();
    let events = house.wait_for_events(5);
    let mut told: Vec<_> = events
        .iter()
        .map(|event| (event["kind"].as_str().unwrap().to_owned(), event["path"].as_str().unwrap().to_owned()))
        .collect();
    told[1..].sort();
    let expected = [
        ("created", "/SEED/a"),
        ("created", "/SEED/deep/new/b"),
        ("created", "/SEED/there"),
        ("moved", "/SEED/moved"),
        ("updated", "/SEED/a"),
    ];
    assert_eq!(told, expected.map(|(kind, path)| (kind.to_owned(), path.to_owned())));
    receiver.wait_for(4);
}

#[test]
fn the_minimum_is_one_folder_and_one_address() {
    let receiver = Receiver::start();
    let house = House::new("");
    let mut process = std::process::Command::new(env!("CARGO_BIN_EXE_filebell"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(house.path("data"))
        .arg("--watch")
        .arg(house.root())
        .args(["--notify", &receiver.url("/hook")])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(process.stdout.take().unwrap()), &mut line).unwrap();
    assert!(line.starts_with("listening on http://127.0.0.1:"), "{line}");
    house.write("a", "1");
    let told = receiver.wait_for(1).remove(0);
    process.kill().unwrap();
    let said = std::io::read_to_string(process.stderr.take().unwrap()).unwrap();
    process.wait().unwrap();
    let key = said.split_whitespace().find(|word| word.starts_with("whsec_")).expect("the secret is shown");
    let key = filebell_core::wire::standard::StandardKey::parse(&Secret::new(key)).unwrap();
    let sent = told.header("webhook-timestamp").parse().unwrap();
    let tag = filebell_core::wire::standard::signature(
        &key,
        told.header("webhook-id"),
        filebell_core::time::TimestampSecs::from_secs(sent),
        &told.body,
    );
    assert_eq!(told.header("webhook-signature"), tag);
    assert_eq!(told.json()["type"], "files.changed");
}

fn each(name: &str, url: &str) -> String {
    format!(
        "[[subscriptions]]\nname = \"{name}\"\naccount = \"test2\"\nprotocol = \"standard\"\nurl = \"{url}\"\n\
         key = \"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\"\n"
    )
}

/// What a receiver was told: the ids of its messages, without repeats.
fn ids(told: &[Received]) -> BTreeSet<String> {
    told.iter().map(|one| one.header("webhook-id").to_owned()).collect()
}

fn told(house: &House) -> Vec<String> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    house.events().iter().map(|event| format!("{} {}", text(&event["kind"]), text(&event["path"]))).collect()
}

#[test]
fn line_1_nothing_is_missed() {
    let mut house = House::open("[watch]\nrescan = \"300ms\"\n");
    for (count, content) in [(1, "A"), (2, "B"), (3, "A")] {
        house.write("a", content);
        house.wait_for_events(count);
    }
    run("touch", &[house.root().join("a").to_str().unwrap()]);
    run("chmod", &["600", house.root().join("a").to_str().unwrap()]);
    house.kill();
    house.write("while/it/is/down", "1");
    house.write("a", "C");
    house.start();
    house.write("while-it-starts", "2");
    house.wait_for_events(6);
    let mut told = told(&house);
    told[3..].sort();
    let expected = ["created /a", "updated /a", "updated /a", "created /while-it-starts", "created /while/it/is/down"];
    assert_eq!(told, [&expected[..], &["updated /a"]].concat());
}

#[test]
fn line_2_nothing_is_told_half_written() {
    let receiver = Receiver::start();
    let house =
        House::open(&format!("{}[watch]\nsettle = \"10ms\"\nrescan = \"100ms\"\n", each("each", &receiver.url("/"))));
    let path = house.root().join("slow");
    let mut writer = std::fs::File::create(&path).unwrap();
    house.write("slow.part", "a name on the way");
    for part in 1..=5 {
        std::io::Write::write_all(&mut writer, b"part").unwrap();
        house.write(&format!("fence-{part}"), "");
        receiver.wait_for(part);
    }
    assert!(!told(&house).contains(&"created /slow".to_owned()));
    drop(writer);
    let event = house.wait_for_events(6).pop().unwrap();
    assert_eq!((&event["path"], &event["size"]), (&"/slow".into(), &20.into()));
    assert_eq!(event["sha256"], hex::encode(sha2::Sha256::digest(b"part".repeat(5))));
    assert_eq!(event["completeness"], "leased");
    assert_eq!(told(&house).len(), 6, "and no name on the way");
}

#[test]
fn line_3_accepted_means_durable() {
    let receiver = Receiver::start();
    let mut house = House::open(&each("each", &receiver.url("/")));
    for round in 1..=5 {
        house.write(&format!("file-{round}"), "1");
        // What was sent must outlive the sender, however soon that ends.
        receiver.wait_until(|told| ids(told).len() >= round);
        house.kill();
        std::fs::remove_file(house.root().join(format!("file-{round}"))).unwrap();
        house.start();
        assert!(told(&house).contains(&format!("created /file-{round}")));
    }
}

#[test]
fn line_4_every_event_is_told() {
    const GONE: [&str; 1] = ["410 Gone"];
    let receiver = Receiver::start().answering(&GONE);
    let mut house = House::open(&each("each", &receiver.url("/")));
    house.write("refused", "1");
    receiver.wait_for(1);
    let status =
        |house: &House| -> serde_json::Value { serde_json::from_str(&house.run("status", &["--json"])).unwrap() };
    let begun = Instant::now();
    while status(&house)["subscriptions"][0]["status"] == "active" {
        assert!(begun.elapsed() < PATIENCE, "{}", status(&house));
    }
    // Disabled, and killed: nothing is discarded.
    house.write("while-disabled", "2");
    house.wait_for_events(2);
    house.kill();
    house.start();
    house.run("subscription", &["resume", "each"]);
    let told = receiver.wait_until(|told| ids(told).len() >= 2);
    assert_eq!(ids(&told).len(), 2);
    // Paused.
    house.run("subscription", &["pause", "each"]);
    house.write("while-paused", "3");
    house.wait_for_events(3);
    house.run("subscription", &["resume", "each"]);
    receiver.wait_until(|told| ids(told).len() >= 3);
}

#[test]
fn line_4_what_is_dead_stands_visibly_and_can_be_replayed() {
    let receiver = Receiver::start().answering(&["500 No", "500 No"]);
    let mut house = House::new(&each("each", &receiver.url("/")));
    let mut command = house.command("serve");
    command.env("FILEBELL_DELIVERY_SCHEDULE", "50ms");
    house.start_as(command);
    house.write("a", "1");
    let begun = Instant::now();
    loop {
        let status: serde_json::Value = serde_json::from_str(&house.run("status", &["--json"])).unwrap();
        if status["subscriptions"][0]["dead"] == 1 {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{status}");
    }
    house.run("replay", &["--subscription", "each"]);
    assert_eq!(ids(&receiver.wait_for(3)).len(), 1, "the same notification");
}

#[test]
fn line_5_told_once() {
    const FILES: usize = 30;
    let receiver = Receiver::start();
    let mut house = House::open(&each("each", &receiver.url("/")));
    for number in 0..FILES {
        house.write(&format!("file-{number}"), number.to_string());
        if number % 10 == 9 {
            receiver.wait_for(number + 1);
            assert_eq!(house.stop(), Some(0));
            house.start();
        }
    }
    house.write("fence", "");
    let told = receiver.wait_for(FILES + 1);
    assert_eq!((told.len(), ids(&told).len()), (FILES + 1, FILES + 1));
}

#[test]
fn line_5_after_a_lost_answer_the_same_notification_comes_again() {
    let receiver = Receiver::start().answering(&["garbage"]);
    let house = House::open(&each("each", &receiver.url("/")));
    house.write("a", "1");
    let told = receiver.wait_for(2);
    assert_eq!(ids(&told).len(), 1);
    assert_eq!(told[0].body, told[1].body);
}

#[test]
fn line_7_isolation() {
    const FILES: usize = 40;
    // One that takes connections and never answers, one that is not there, one that drips.
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let absent = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dripping = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let drips_at = dripping.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in dripping.incoming().flatten() {
            std::thread::spawn(move || {
                for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n".iter().chain([b'x'; 1000].iter()) {
                    if std::io::Write::write_all(&mut stream, &[*byte]).is_err() {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
            });
        }
    });
    let healthy = Receiver::start();
    let house = House::open(
        &[
            each("hanging", &format!("http://{}/", hanging.local_addr().unwrap())),
            each("absent", &format!("http://{absent}/")),
            each("dripping", &format!("http://{drips_at}/")),
            each("healthy", &healthy.url("/")),
        ]
        .concat(),
    );
    for number in 0..FILES {
        let begun = Instant::now();
        house.write(&format!("file-{number}"), "1");
        healthy.wait_for(number + 1);
        assert!(begun.elapsed() < Duration::from_secs(2), "held up by another's time-out: {:?}", begun.elapsed());
    }
}

#[test]
fn line_9_refused_means_unchanged() {
    let mut house = House::open(&each("each", "https://app.example.org/"));
    house.write("a", "1");
    house.wait_for_events(1);
    let all = |house: &House| {
        ["account", "subscription", "application"].map(|what| house.run(what, &["list", "--json"])).concat()
    };
    let before = (all(&house), house.events());
    let refused = |house: &House, name: &str, arguments: &[&str], remedy: &str| {
        let output = house.command(name).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(remedy), "{name} {arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    };
    let new = |account: &'static str, url: &'static str| {
        ["add", "new", "--account", account, "--protocol", "standard", "--url", url]
    };
    refused(&house, "subscription", &new("nobody", "https://app.example.org/"), "nobody");
    refused(&house, "subscription", &new("test2", "ftp://app.example.org/"), "http");
    refused(&house, "subscription", &["remove", "nothing"], "nothing");
    refused(&house, "account", &["add", "new", "--root", "/does/not/exist"], "/does/not/exist");
    assert_eq!((all(&house), house.events()), before);
    // A configuration with one good change and one mistake: neither is taken.
    assert_eq!(house.stop(), Some(0));
    let config = house.path("filebell.toml");
    let good = std::fs::read_to_string(&config).unwrap();
    let bad = format!("{good}{}settel = \"1s\"\n", each("second", "https://app.example.org/second"));
    std::fs::write(&config, bad).unwrap();
    refused(&house, "serve", &[], "settel");
    std::fs::write(&config, good).unwrap();
    house.start();
    assert_eq!((all(&house), house.events()), before);
}
