//! kill -9, again and again, and a full disk: nothing is missed, nothing told under two ids, nothing told half-written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::house::{House, inside, run};
use crate::receiver::{PATIENCE, Received, Receiver};

/// How often it is killed, unless `FILEBELL_TEST_KILLS` says more.
const KILLS: usize = 15;

fn each(receiver: &Receiver) -> String {
    format!(
        "[[subscriptions]]\nname = \"each\"\naccount = \"test2\"\nprotocol = \"standard\"\nurl = \"{}\"\n\
         key = \"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\"\n[watch]\nrescan = \"1s\"\n",
        receiver.url("/each")
    )
}

fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// What may be told of each path, the last of it at last.
type Landed = Mutex<BTreeMap<String, Vec<String>>>;

/// Lands files in every way there is, until it is stopped.
fn land(root: &Path, stage: &Path, writer: usize, landed: &Landed, stop: &AtomicBool) {
    let mut chance = fastrand::Rng::with_seed(writer as u64);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("w{writer}-{number}");
        let content = format!("{name} ").repeat(chance.usize(1..20_000)).into_bytes();
        let (half, whole) = content.split_at(content.len() / 2);
        let staged = stage.join(&name);
        let at = root.join(&name);
        let mut path = format!("/{name}");
        let mut versions = vec![sha256(&content)];
        let pause = || std::thread::sleep(Duration::from_millis(5));
        match chance.u8(..6) {
            0 => {
                let mut file = File::create(at).unwrap();
                file.write_all(half).unwrap();
                pause();
                file.write_all(whole).unwrap();
            }
            1 => {
                fs::write(&staged, &content).unwrap();
                fs::rename(staged, at).unwrap();
            }
            2 => {
                let part = root.join(format!("{name}.part"));
                fs::write(&part, half).unwrap();
                pause();
                OpenOptions::new().append(true).open(&part).unwrap().write_all(whole).unwrap();
                fs::rename(part, at).unwrap();
            }
            3 => {
                versions.insert(0, sha256(half));
                fs::write(&at, half).unwrap();
                pause();
                OpenOptions::new().append(true).open(&at).unwrap().write_all(whole).unwrap();
            }
            4 => {
                path = format!("/{name}/a/b");
                fs::create_dir_all(at.join("a")).unwrap();
                fs::write(at.join("a/b"), &content).unwrap();
            }
            _ => {
                path = format!("/{name}/c");
                fs::create_dir(&staged).unwrap();
                fs::write(staged.join("c"), &content).unwrap();
                fs::rename(staged, at).unwrap();
            }
        }
        landed.lock().unwrap().insert(path, versions);
        pause();
    }
}

#[test]
fn killed_again_and_again_while_files_land() {
    let kills = std::env::var("FILEBELL_TEST_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let receiver = Receiver::start();
    let mut house = House::new(&each(&receiver));
    fs::create_dir(house.path("stage")).unwrap();
    let (landed, stop) = (Landed::default(), AtomicBool::new(false));
    // Its port changes with every start; what it says of itself must not, or repeats would be in other words.
    let start = |house: &mut House| {
        let mut command = house.command("serve");
        command.env("FILEBELL_PUBLIC_URL", "https://files.example.org");
        house.start_as(command);
    };
    start(&mut house);
    std::thread::scope(|scope| {
        let (root, stage) = (house.root(), house.path("stage"));
        for writer in 0..3 {
            let (root, stage, landed, stop) = (root.clone(), stage.clone(), &landed, &stop);
            scope.spawn(move || land(&root, &stage, writer, landed, stop));
        }
        let mut chance = fastrand::Rng::with_seed(7);
        for _ in 0..kills {
            // Whatever it is doing then.
            std::thread::sleep(Duration::from_millis(chance.u64(10..400)));
            house.kill();
            start(&mut house);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let landed = landed.into_inner().unwrap();
    let events = all_is_told(&house, &landed);
    each_under_one_id(&receiver, &events);
    assert_eq!(house.events().len(), events.len(), "nothing is told later");
}

/// Waits until the journal says of every path what lies there, and looks at what it said on the way.
fn all_is_told(house: &House, landed: &BTreeMap<String, Vec<String>>) -> Vec<Value> {
    let last_of = |events: &[Value]| -> BTreeMap<String, String> {
        let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        events.iter().map(|event| (text(event, "path"), text(event, "sha256"))).collect()
    };
    let wanted: BTreeMap<_, _> =
        landed.iter().map(|(path, versions)| (path.clone(), versions.last().unwrap().clone())).collect();
    let mut count = 0;
    let mut since = Instant::now();
    let events = loop {
        let events = house.events();
        if events.len() > count {
            (count, since) = (events.len(), Instant::now());
        }
        let last = last_of(&events);
        if last == wanted {
            break events;
        }
        let missed: Vec<_> = wanted.iter().filter(|(path, version)| last.get(*path) != Some(version)).collect();
        assert!(since.elapsed() < PATIENCE, "{} of {} missed: {missed:#?}", missed.len(), wanted.len());
    };
    let mut told: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for event in &events {
        told.entry(event["path"].as_str().unwrap()).or_default().push(event["sha256"].as_str().unwrap());
    }
    for (path, told) in told {
        let may = &landed[path];
        assert!(told.iter().all(|version| may.iter().any(|may| may == version)), "{path} is told torn");
        let once: BTreeSet<_> = told.iter().collect();
        assert_eq!(once.len(), told.len(), "{path} is told twice");
    }
    events
}

/// Waits until every event was told; repeats are the same notification in the same words.
fn each_under_one_id(receiver: &Receiver, events: &[Value]) {
    let ids = |received: &[Received]| -> BTreeSet<String> {
        received.iter().map(|one| one.header("webhook-id").to_owned()).collect()
    };
    let received =
        receiver.wait_until(|received| received.len() >= events.len() && ids(received).len() >= events.len());
    assert_eq!(ids(&received).len(), events.len(), "a notification for each event");
    let mut bodies = BTreeMap::new();
    for one in &received {
        let before = bodies.insert(one.header("webhook-id"), &one.body);
        assert!(before.is_none_or(|before| *before == one.body), "a repeat in other words");
    }
    let cursors: BTreeSet<_> = bodies
        .values()
        .map(|body| serde_json::from_slice::<Value>(body).unwrap()["data"]["last"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(cursors.len(), events.len(), "an event is told under two ids");
}

/// What the store knows of files, read beside the server: paths, and when each row was written.
fn rows(house: &House) -> BTreeMap<Vec<u8>, i64> {
    let store = rusqlite::Connection::open(house.path("data").join("filebell.db")).unwrap();
    store.busy_timeout(PATIENCE).unwrap();
    let mut select = store.prepare("SELECT path, arrived_at FROM file").unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// Killed in the middle of its first scan, that remembers what is there and tells nothing of it. What comes while it is
/// down is told all the same, and nothing else.
#[test]
fn killed_during_its_first_scan() {
    const FILES: usize = 6000;
    let mut house = House::new("");
    fs::create_dir(house.path("stage")).unwrap();
    // One comes where the scan has been, and one where it has not.
    let trees = ["tree", "ztree"];
    for tree in trees {
        fs::create_dir_all(house.path("stage").join(tree).join("sub")).unwrap();
        fs::write(house.path("stage").join(tree).join("sub/old"), "old").unwrap();
    }
    fs::write(house.path("stage/renamed"), "renamed").unwrap();
    for directory in ["a", "m", "z"] {
        for number in 0..FILES / 3 {
            house.write(&format!("{directory}/{number:05}"), "old");
        }
    }
    house.write("a/changed", "old");
    house.write("z/changed", "old");
    // The grain of the file system's clock must lie between what was there and what comes.
    std::thread::sleep(Duration::from_millis(50));
    // Makes the store.
    house.run("account", &["add", "other"]);
    let store = rusqlite::Connection::open(house.path("data").join("filebell.db")).unwrap();
    // It comes so far and no further.
    store
        .execute_batch(
            "CREATE TRIGGER hold BEFORE INSERT ON file WHEN (SELECT count(*) FROM file) >= 4096
             BEGIN SELECT RAISE(ABORT, 'no further'); END;",
        )
        .unwrap();
    house.start();
    let begun = Instant::now();
    while rows(&house).len() < 4096 {
        assert!(begun.elapsed() < PATIENCE, "{} rows", rows(&house).len());
    }
    house.kill();
    let before = rows(&house);
    store.execute_batch("DROP TRIGGER hold").unwrap();

    let mut expected = Vec::new();
    // Beside what is known already, and beside what is not.
    for directory in ["a", "z"] {
        house.write(&format!("{directory}/new"), "new");
        house.write(&format!("{directory}/set-back"), "set back");
        run("touch", &["-d", "2001-02-03", house.root().join(directory).join("set-back").to_str().unwrap()]);
        fs::copy(house.path("stage/renamed"), house.path("stage/copy")).unwrap();
        run("touch", &["-d", "2001-02-03", house.path("stage/copy").to_str().unwrap()]);
        fs::rename(house.path("stage/copy"), house.root().join(directory).join("renamed")).unwrap();
        expected.extend(["new", "set-back", "renamed"].map(|name| format!("created /{directory}/{name}")));
    }
    house.write("a/changed", "differently");
    expected.push("updated /a/changed".to_owned());
    // What it was before, nobody has seen: it is as good as new.
    house.write("z/changed", "differently");
    expected.push("created /z/changed".to_owned());
    // Trees in which nothing has changed since long before the root was watched.
    for tree in trees {
        fs::rename(house.path("stage").join(tree), house.root().join(tree)).unwrap();
        expected.push(format!("created /{tree}/sub/old"));
    }

    let told = |events: &[Value]| -> Vec<String> {
        let line = |event: &Value| format!("{} {}", event["kind"].as_str().unwrap(), event["path"].as_str().unwrap());
        let mut lines: Vec<_> = events.iter().map(line).collect();
        lines.sort();
        lines
    };
    expected.sort();
    house.start();
    house.wait_until_told("what came", |events| events.len() >= expected.len());
    house.run("scan", &["--wait"]);
    assert_eq!(told(&house.events()), expected);
    let after = rows(&house);
    assert_eq!(after.len(), FILES + 2 + 8);
    let rewritten = before.iter().filter(|(path, at)| path.as_slice() != b"/a/changed" && after.get(*path) != Some(at));
    assert_eq!(rewritten.count(), 0, "what was known is left as it is");
    house.kill();
    house.start();
    house.run("scan", &["--wait"]);
    assert_eq!(told(&house.events()), expected, "nothing is told later");
}

/// The disk is full for a while: arrivals wait, and are all told in the end.
#[test]
fn with_the_disk_full_for_a_while() {
    if !inside("crash::with_the_disk_full_for_a_while") {
        return;
    }
    let receiver = Receiver::start();
    let mut house = House::new(&each(&receiver));
    let data = house.path("data");
    fs::create_dir(&data).unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=16m", "tmpfs", data.to_str().unwrap()]);
    let log = house.path("log");
    let mut command = house.command("serve");
    command.stderr(Stdio::from(File::create(&log).unwrap()));
    house.start_as(command);
    house.write("before", "before");
    house.wait_for_events(1);
    let mut ballast = File::create(data.join("ballast")).unwrap();
    let fill = |ballast: &mut File| while ballast.write_all(&[0; 4096]).is_ok() {};
    fill(&mut ballast);
    let mut landed = BTreeMap::from([("/before".to_owned(), vec![sha256(b"before")])]);
    let begun = Instant::now();
    let mut number = 0;
    // What the store has set aside is used up first.
    while !fs::read_to_string(&log).unwrap().contains("arrivals wait") {
        assert!(begun.elapsed() < PATIENCE, "the disk is not full: {}", fs::read_to_string(&log).unwrap());
        let name = format!("f{number}");
        house.write(&name, &name);
        landed.insert(format!("/{name}"), vec![sha256(name.as_bytes())]);
        fill(&mut ballast);
        number += 1;
    }
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("full"), "the reason is said: {said}");
    fs::remove_file(data.join("ballast")).unwrap();
    drop(ballast);
    let events = all_is_told(&house, &landed);
    each_under_one_id(&receiver, &events);
    assert_eq!(house.stop(), Some(0));
}
