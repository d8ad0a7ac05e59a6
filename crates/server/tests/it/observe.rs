//! Looking on from outside: metrics, status, scan, tail, why, doctor.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::house::{House, basic};
use crate::promise::{ledger, rdm, recent, token};
use crate::receiver::{PATIENCE, Receiver};

pub fn standard(name: &str, url: &str, more: &str) -> String {
    format!(
        "[[subscriptions]]\nname = \"{name}\"\naccount = \"test2\"\nprotocol = \"standard\"\nurl = \"{url}\"\n\
         key = \"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\"\n{more}\n"
    )
}

/// What the operator is answered with.
pub fn asked(house: &House, method: &str, path: &str) -> Value {
    let authorization = format!("Bearer {}", house.admin_token());
    let answer = house.request(method, path, &[("Authorization", &authorization)]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Asks until the answer is as wanted.
pub fn until<T: std::fmt::Debug>(ask: impl Fn() -> T, wanted: impl Fn(&T) -> bool) -> T {
    let begun = Instant::now();
    loop {
        let answer = ask();
        if wanted(&answer) {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain; the last answer was {answer:#?}");
        std::thread::yield_now();
    }
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {output:?}"))
}

fn sample(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.rsplit_once(' ').is_some_and(|(sample, _)| sample == name));
    line.and_then(|line| line.rsplit_once(' ')).unwrap_or_else(|| panic!("no {name} in {text}")).1.parse().unwrap()
}

#[test]
fn a_scrape_after_a_told_file_counts_it_everywhere() {
    let receiver = Receiver::start();
    let house = House::open(&standard("each", &receiver.url("/hook"), ""));
    // Else the first scan may find it before the watch does.
    until(|| asked(&house, "GET", "/api/v1/status"), |report| !report["sources"][0]["last_scan_at"].is_null());
    house.write("SEED/a.txt", "hello\n");
    receiver.wait_for(1);
    let delivered = "filebell_notifications{protocol=\"standard\",state=\"delivered\"}";
    let text = until(|| house.get("/metrics", &[]).text(), |text| text.contains(&format!("{delivered} 1\n")));
    for (name, value) in [
        ("filebell_arrivals_total{source=\"folder\",found=\"watch\"}", 1.0),
        ("filebell_events_total{kind=\"created\"}", 1.0),
        ("filebell_attempts_total{protocol=\"standard\",outcome=\"accepted\"}", 1.0),
        ("filebell_attempt_seconds_count{protocol=\"standard\"}", 1.0),
        ("filebell_arrival_to_delivered_seconds_count{protocol=\"standard\"}", 1.0),
        ("filebell_commit_items_count{of=\"attempts\"}", 1.0),
        ("filebell_notifications{protocol=\"standard\",state=\"pending\"}", 0.0),
        ("filebell_backlog", 0.0),
        ("filebell_oldest_untold_seconds", 0.0),
        ("filebell_commit_failures_total{of=\"arrivals\"}", 0.0),
        ("filebell_unwritten_attempts_total", 0.0),
        ("filebell_watch_overflows_total", 0.0),
        ("filebell_roots{state=\"live\"}", 1.0),
        ("filebell_watches_used", 2.0),
    ] {
        assert_eq!(sample(&text, name), value, "{name}");
    }
    assert!(sample(&text, "filebell_watches_allowed") > 2.0);
    assert!(!text.contains("test2"), "no names");
}

#[test]
fn prometheus_has_nothing_to_say_against_the_metrics() {
    let receiver = Receiver::start();
    let house = House::open(&standard("each", &receiver.url("/hook"), ""));
    house.write("a.txt", "hello\n");
    receiver.wait_for(1);
    let plain = house.get("/metrics", &[]);
    assert_eq!(plain.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let promtool =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut promtool = promtool.expect("promtool, of the Debian package prometheus");
    promtool.stdin.take().unwrap().write_all(&plain.body).unwrap();
    let said = promtool.wait_with_output().unwrap();
    assert!(said.status.success() && said.stderr.is_empty(), "{said:?}");
    let open = house.get("/metrics", &[("Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")]);
    assert_eq!(open.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.text().ends_with("# EOF\n"));
}

#[test]
fn status_shows_how_everything_stands_with_and_without_a_server() {
    let receiver = Receiver::start().answering(&["500 Oh"]);
    let mut house = House::open(&standard("each", &receiver.url("/hook"), ""));
    house.write("a.txt", "hello\n");
    receiver.wait_for(2);
    let delivered = |report: &Value| report["subscriptions"][0]["delivered"] == 1;
    let report = until(|| json_of(&house.command("status").arg("--json").output().unwrap()), delivered);
    let (source, subscription) = (&report["sources"][0], &report["subscriptions"][0]);
    assert_eq!((&source["account"], &source["state"]), (&"test2".into(), &"live".into()));
    assert_eq!((&source["watches"], &source["scan"]["running"]), (&1.into(), &false.into()));
    assert_eq!((&subscription["pending"], &subscription["dead"]), (&0.into(), &0.into()));
    assert!(subscription["last_success_at"].as_str() > subscription["last_failure_at"].as_str());
    assert_eq!(subscription["last_failure"].as_str().unwrap().split(':').next(), Some("500"));
    assert_eq!(report["store"]["newest_seq"], 1);
    assert!(report["server"]["started_at"].is_string());
    assert!(house.run("status", &[]).contains(" live "), "a person can read it");
    assert_eq!(house.get("/api/v1/status", &[]).status, 401);
    assert_eq!(house.stop(), Some(0));
    let report = json_of(&house.command("status").arg("--json").output().unwrap());
    assert_eq!((&report["server"], &report["subscriptions"][0]["delivered"]), (&Value::Null, &1.into()));
    assert!(house.run("status", &[]).contains("no server runs"));
}

#[test]
fn a_scan_is_done_when_it_says_so() {
    let house = House::open("[watch]\nmode = \"poll\"\nsettle = \"10ms\"\nrescan = \"1h\"\n");
    until(|| asked(&house, "GET", "/api/v1/status"), |report| !report["sources"][0]["last_scan_at"].is_null());
    house.write("a.txt", "hello\n");
    assert_eq!(json_of(&house.command("scan").args(["--wait", "--json"]).output().unwrap())["done"], true);
    assert_eq!(house.events().len(), 1);
    assert_eq!(asked(&house, "POST", "/api/v1/scan?account=test2")["accounts"][0], "test2");
    let unknown = house.command("scan").args(["--account", "nobody"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(1));
}

/// While an arrival waits for its commit, a walk gives way to it, says so, and comes to its end all the same.
#[test]
fn a_scan_gives_way_and_ends() {
    const FILES: u64 = 2000;
    let mut house = House::new("");
    (0..FILES).for_each(|number| house.write(&format!("old/{number}"), ""));
    house.start();
    let scan = || asked(&house, "GET", "/api/v1/status")["sources"][0].clone();
    let first = until(scan, |source| !source["last_scan_at"].is_null());
    assert_eq!(first["scan"]["expected"], Value::Null, "nothing was known then");
    let mut store = rusqlite::Connection::open(house.path("data").join("filebell.db")).unwrap();
    store.busy_timeout(PATIENCE).unwrap();
    let held = store.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    house.write("new", "new");
    until(scan, |source| source["dirty"] == 1);
    asked(&house, "POST", "/api/v1/scan");
    let second = until(scan, |source| source["last_scan_at"] != first["last_scan_at"]);
    assert_eq!(second["dirty"], 1, "it still waits");
    assert_eq!((&second["scan"]["files"], &second["scan"]["expected"]), (&(FILES + 1).into(), &FILES.into()));
    assert!(second["scan"]["throttled_ms"].as_u64() > Some(0), "{second:#?}");
    held.rollback().unwrap();
    house.wait_for_events(1);
    assert!(sample(&house.get("/metrics", &[]).text(), "filebell_scan_throttled_seconds") > 0.0);
}

#[test]
fn ready_says_what_is_amiss() {
    let mut house = House::new("");
    std::fs::create_dir(house.path("lost")).unwrap();
    house.run("account", &["add", "lost", "--root", house.path("lost").to_str().unwrap()]);
    std::fs::remove_dir(house.path("lost")).unwrap();
    house.start();
    let ready = house.get("/readyz", &[]);
    let said = "ready\nbut 1 of 2 roots cannot be watched; `filebell status` says why\n";
    assert_eq!((ready.status, ready.text().as_str()), (200, said));
    let source = asked(&house, "GET", "/api/v1/status")["sources"][0].clone();
    assert_eq!((&source["account"], &source["state"]), (&"lost".into(), &"unusable".into()));
    assert!(source["reason"].as_str().unwrap().contains("make the directory"), "{source}");
    std::fs::create_dir(house.path("lost")).unwrap();
    until(|| house.get("/readyz", &[]).text(), |text| text == "ready\n");
}

#[test]
fn tail_prints_what_comes() {
    let house = House::open("");
    house.write("a.txt", "hello\n");
    house.wait_for_events(1);
    let mut tail = house.command("tail").args(["--after", "0", "--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("created  test2  /a.txt, 6 bytes, leased"));
    house.write("b.txt", "b");
    assert!(lines.next().unwrap().unwrap().contains("  /b.txt, 1 bytes"));
    tail.kill().unwrap();
    tail.wait().unwrap();
    let last: Value = serde_json::from_str(house.run("tail", &["--json", "--after", "1"]).trim_end()).unwrap();
    assert_eq!((&last["path"], &last["seq"]), (&"/b.txt".into(), &2.into()));
}

#[test]
fn why_follows_a_told_file_to_each_who_was_told() {
    let receiver = Receiver::start().answering(&["500 Oh"]);
    let more = standard("csv", &receiver.url("/other"), "filter = { include = [\"**/*.csv\"] }");
    let house = House::open(&format!("{}{more}", standard("each", &receiver.url("/hook"), "")));
    house.write("SEED/a.txt", "hello\n");
    receiver.wait_for(2);
    let path = house.root().join("SEED/a.txt");
    let ask = || json_of(&house.command("why").arg(&path).arg("--json").output().unwrap());
    let sent = |report: &Value, name: &str| {
        let all = report["events"][0]["sent"].as_array().unwrap().iter();
        all.filter(|one| one["subscription"] == name).cloned().collect::<Vec<_>>().remove(0)
    };
    let report = until(ask, |report| sent(report, "each")["state"] == "delivered");
    assert_eq!((&report["account"], &report["source"]), (&"test2".into(), &"live".into()));
    assert_eq!((&report["events"][0]["seq"], &report["events"][0]["completeness"]), (&1.into(), &"leased".into()));
    assert_eq!(sent(&report, "each")["attempts"], 2);
    assert_eq!(sent(&report, "csv")["state"], "not asked for");
    let text = house.run("why", &["--account", "test2", "/SEED/a.txt"]);
    assert!(text.contains("created: event 1") && text.contains("each: delivered by ntf_"), "{text}");
}

#[test]
fn why_says_why_a_file_is_not_told() {
    let house = House::open("");
    let why = |path: &std::path::Path| house.run("why", &[path.to_str().unwrap()]);
    house.write("a.part", "half");
    assert!(why(&house.root().join("a.part")).contains("left out by the pattern `*.part`"));
    assert!(why(&house.path("elsewhere")).contains("outside every account's root"));
    assert!(why(&house.root().join("none")).contains("no file lies there"));
    let mut writer = std::fs::File::create(house.root().join("slow.txt")).unwrap();
    writer.write_all(b"half").unwrap();
    let ours = format!("(process {})", std::process::id());
    let said = until(|| why(&house.root().join("slow.txt")), |said| said.contains(&ours));
    assert!(said.contains("it is being written by"), "{said}");
    drop(writer);
    house.wait_for_events(1);
}

#[test]
fn why_knows_who_has_fetched_a_file_and_how() {
    let receiver = Receiver::start();
    let mut house = House::open(&format!("{}{}", rdm(&receiver), ledger(&receiver)));
    house.write("SEED/a.txt", "hello\n");
    let told = receiver.wait_for(2);
    let why = |house: &House| {
        json_of(&house.command("why").arg(house.root().join("SEED/a.txt")).arg("--json").output().unwrap())
    };
    let report = why(&house);
    assert_eq!(report["events"][0]["fetched"], serde_json::json!([]));
    assert!(report["answer"].as_str().unwrap().ends_with(", not fetched so far"), "{report:#?}");

    let fetched = |report: &Value, event: usize| -> Vec<String> {
        let all = report["events"][event]["fetched"].as_array().unwrap();
        let line = |one: &Value| format!("{} {}", one["by"].as_str().unwrap(), one["how"].as_str().unwrap());
        all.iter().map(line).collect()
    };
    let own = basic("test2", "secret");
    let own = [("Authorization", own.as_str())];
    assert_eq!(recent(&house, 0)["count"], 1);
    // Asking about a file fetches nothing.
    assert_eq!(house.request("HEAD", "/remote.php/webdav/SEED/a.txt", &own).status, 200);
    assert_eq!(house.request("PROPFIND", "/remote.php/webdav/SEED/a.txt", &own).status, 207);
    assert_eq!(fetched(&why(&house), 0), ["account test2 recent"]);
    assert_eq!(house.get("/remote.php/webdav/SEED/a.txt", &own).text(), "hello\n");
    let token = token(&house);
    let by = [("Authorization", token.as_str())];
    let id = told.iter().find(|one| one.line.contains("/notification")).unwrap().json()["notificationId"].clone();
    assert_eq!(house.get(&format!("/v1/notification/{}", id.as_str().unwrap()), &by).status, 200);
    let away = house.get("/v1/datadelivery/SEED?filename=a.txt", &by);
    let ledger = ["account test2 recent", "account test2 download", "application ledger detail"];
    assert_eq!(fetched(&why(&house), 0), ledger, "to be sent elsewhere is no download");
    let storage = away.header("location").strip_prefix(&house.url("")).unwrap().to_owned();
    assert_eq!(house.get(&storage, &[]).text(), "hello\n");
    assert_eq!(house.get(&storage, &[]).text(), "hello\n");
    assert_eq!(house.get("/api/v1/changes", &by).json()["events"].as_array().unwrap().len(), 1);
    let all = [&ledger[..], &["application ledger download", "application ledger changes"]].concat();
    let report = why(&house);
    assert_eq!(fetched(&report, 0), all);
    assert!(report["answer"].as_str().unwrap().contains("fetched first by account test2 (recent) at "), "{report:#?}");
    assert!(
        house.run("why", &["--account", "test2", "/SEED/a.txt"]).contains("fetched by application ledger (detail)")
    );

    // Other content is another matter, and what an application may not see it was not shown.
    house.write("SEED/a.txt", "hello again\n");
    house.write("OTHER/b.txt", "b");
    house.wait_for_events(3);
    let report = until(|| why(&house), |report| report["events"].as_array().unwrap().len() == 2);
    assert_eq!(
        (fetched(&report, 0), fetched(&report, 1)),
        (
            vec!["operator changes".to_owned()],
            [&all[..], &["operator changes"]].concat().iter().map(|line| (*line).to_owned()).collect()
        )
    );
    assert_eq!(house.get("/api/v1/changes", &by).json()["events"].as_array().unwrap().len(), 2);
    assert!(fetched(&why(&house), 0).contains(&"application ledger changes".to_owned()));
    let other = asked(&house, "GET", "/api/v1/why?account=test2&path=/OTHER/b.txt");
    assert_eq!(fetched(&other, 0), ["operator changes"]);

    // It is kept.
    let all_fetched = |report: &Value| [fetched(report, 0), fetched(report, 1)];
    let before = all_fetched(&why(&house));
    assert_eq!(house.stop(), Some(0));
    assert_eq!(all_fetched(&why(&house)), before);
}

#[test]
fn why_names_the_pattern_without_a_server_too() {
    let mut house = House::open("[watch]\nignore = [\"*.bak\"]\n");
    house.write("a.bak", "");
    assert_eq!(house.stop(), Some(0));
    let said = house.run("why", &[house.root().join("a.bak").to_str().unwrap()]);
    assert!(said.contains("left out by the pattern `*.bak`"), "{said}");
}

#[test]
fn doctor_finds_nothing_wrong_where_nothing_is_and_names_what_is_broken() {
    let receiver = Receiver::start();
    let house = House::open(&standard("each", &receiver.url("/hook"), ""));
    let well = house.run("doctor", &[]);
    assert!(well.contains("the server answers") && !well.contains("PROBLEM"), "{well}");

    let more = standard("inside", "https://10.0.0.1/hook", "");
    let mut house = House::open(&more);
    house.stop();
    std::fs::remove_dir_all(house.root()).unwrap();
    let said = house.command("doctor").output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(said.status.code(), Some(1), "{text}");
    assert!(text.contains("does not exist: make the directory"), "{text}");
    assert!(text.contains("a private address, where nothing is sent"), "{text}");
}

#[test]
fn the_way_of_one_file_can_be_followed_in_the_log() {
    let receiver = Receiver::start();
    let house = House::new(&standard("each", &receiver.url("/hook"), ""));
    let mut serve = house.command("serve");
    let serve = serve.args(["--log", "info,filebell=debug", "--log-format", "json"]).stdout(Stdio::null());
    let mut serve = serve.stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(serve.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut fields = lines.map(|line| serde_json::from_str::<Value>(&line).unwrap()["fields"].clone());
    fields.find(|one| one["message"] == "watched").expect("it watches");
    house.write("SEED/a.txt", "hello\n");
    let mut said = Vec::new();
    while said.last().is_none_or(|last: &Value| last["message"] != "settled") {
        said.push(fields.next().expect("the log goes on"));
    }
    let of = |message: &str| said.iter().find(|one| one["message"] == message).unwrap_or_else(|| panic!("{said:#?}"));
    let (recorded, made) = (of("recorded"), of("made"));
    assert_eq!((&recorded["path"], &recorded["event.seq"]), (&"/SEED/a.txt".into(), &1.into()));
    assert!(recorded["event.id"].as_str().unwrap().starts_with("evt_"));
    assert_eq!((&made["notification.first_seq"], &made["notification.last_seq"]), (&1.into(), &1.into()));
    for message in ["sending", "delivered", "settled"] {
        assert_eq!(of(message)["notification.id"], made["notification.id"], "{message}");
    }
    serve.kill().unwrap();
    serve.wait().unwrap();
}

#[test]
fn a_file_that_is_announced_by_hand_is_told_at_once_and_once() {
    // Nothing looks at the root for an hour.
    let house = House::open("[watch]\nmode = \"poll\"\nrescan = \"1h\"\nsettle = \"10ms\"\n");
    until(|| asked(&house, "GET", "/api/v1/status"), |status| status["sources"][0]["last_scan_at"].is_string());
    house.write("SEED/by hand.csv", "a,b\n");
    let authorization = format!("Bearer {}", house.admin_token());
    let announce = |path: &str| {
        let body = serde_json::json!({ "account": "test2", "path": path }).to_string();
        house.send("POST", "/api/v1/emit", &[("Authorization", &authorization)], body.as_bytes())
    };
    let told = announce("/SEED/by hand.csv");
    assert_eq!((told.status, told.json()["kind"].as_str()), (201, Some("created")), "{}", told.text());
    assert_eq!(announce("/SEED/by hand.csv").status, 409, "once");
    assert_eq!(announce("/SEED/none.csv").status, 404);
    assert_eq!(announce("/SEED/half.part").status, 409, "a pattern leaves it out");
    assert_eq!(house.events().len(), 1);
}
