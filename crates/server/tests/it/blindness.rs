//! What cannot be seen is said, and found all the same.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use crate::house::{House, inside, run};
use crate::observe::asked;
use crate::receiver::PATIENCE;

/// Of what the root says of itself: how well it is seen, why not better, and when that was proved.
fn source(house: &House) -> Value {
    let token = fs::read_to_string(house.path("data").join("admin-token")).unwrap();
    let answer = house.get("/api/v1/status", &[("Authorization", &format!("Bearer {}", token.trim()))]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["sources"][0].clone()
}

fn wait_until(house: &House, state: &str, reason: &str) -> Value {
    let begun = Instant::now();
    loop {
        let now = source(house);
        if now["state"] == state && now["reason"].as_str().unwrap_or_default().contains(reason) {
            return now;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {state} ({reason}): {now:#?}");
        std::thread::yield_now();
    }
}

/// Writes a file and waits until it is told.
fn is_told(house: &House, name: &str) -> Value {
    house.write(name, name);
    let path = format!("/{name}");
    let events = house.wait_until_told(name, |events| events.iter().any(|event| event["path"] == path.as_str()));
    events.into_iter().find(|event| event["path"] == path.as_str()).unwrap()
}

fn nothing_is_deleted(house: &House) {
    assert!(house.events().iter().all(|event| event["kind"] != "deleted"), "{:#?}", house.events());
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn mount_overlay(house: &House, at: &Path) {
    let [lower, upper, work] = ["lower", "upper", "work"].map(|layer| house.path(layer));
    [&lower, &upper, &work].into_iter().for_each(|layer| fs::create_dir(layer).unwrap());
    let options = format!("lowerdir={},upperdir={},workdir={}", text(&lower), text(&upper), text(&work));
    run("mount", &["-t", "overlay", "overlay", "-o", &options, text(at)]);
}

#[test]
fn a_root_is_live_and_that_is_proved() {
    let house = House::open("");
    let begun = Instant::now();
    while source(&house)["last_probe_at"].is_null() {
        assert!(begun.elapsed() < PATIENCE, "{:#?}", source(&house));
    }
    wait_until(&house, "live", "");
    assert!(house.events().is_empty(), "the file that proves it is nobody's business");
}

#[test]
fn a_root_that_vanishes_is_swapped_and_comes_back() {
    let house = House::open("[watch]\nrescan = \"1s\"\n");
    is_told(&house, "a");
    let away = house.path("away");
    fs::rename(house.root(), &away).unwrap();
    wait_until(&house, "degraded", "cannot be opened");
    fs::create_dir(house.root()).unwrap();
    wait_until(&house, "degraded", "another directory");
    is_told(&house, "in-the-other");
    fs::rename(house.root(), house.path("other")).unwrap();
    fs::rename(&away, house.root()).unwrap();
    wait_until(&house, "live", "");
    is_told(&house, "b");
    assert!(!house.events().iter().any(|event| event["kind"] == "deleted" && event["path"] == "/a"));
}

/// The root is replaced while nobody looks, by a directory that holds something else.
#[test]
fn a_root_that_is_replaced_while_filebell_is_down() {
    let mut house = House::open("[watch]\nrescan = \"1s\"\n");
    for name in ["a", "d/b"] {
        is_told(&house, name);
    }
    let scanned = |house: &House| asked(house, "POST", "/api/v1/scan?wait=60")["done"] == true;
    for how in ["killed", "stopped"] {
        if how == "killed" {
            house.kill();
            fs::rename(house.root(), house.path("away")).unwrap();
            fs::create_dir(house.root()).unwrap();
            house.write("found", "found");
            fs::create_dir(house.root().join("d")).unwrap();
        } else {
            assert_eq!(house.stop(), Some(0));
        }
        let doctor = house.command("doctor").output().unwrap();
        let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
        assert_eq!(doctor.status.code(), Some(1));
        assert!(said.contains("PROBLEM  another directory than the one that is known"), "{said}");
        house.start();
        wait_until(&house, "degraded", "filebell scan --accept-root test2");
        house.wait_for_events(3);
        is_told(&house, how);
        // A directory of the other root takes none of the known one's files with it.
        fs::rename(house.root().join("d"), house.root().join("e")).unwrap();
        fs::rename(house.root().join("e"), house.root().join("d")).unwrap();
        assert!(scanned(&house));
        nothing_is_deleted(&house);
    }
    // The known one is back.
    house.kill();
    fs::rename(house.root(), house.path("other")).unwrap();
    fs::rename(house.path("away"), house.root()).unwrap();
    house.start();
    wait_until(&house, "live", "");
    let deleted = |events: &[Value]| -> Vec<String> {
        let deleted = events.iter().filter(|event| event["kind"] == "deleted");
        let mut paths: Vec<_> = deleted.map(|event| event["path"].as_str().unwrap().to_owned()).collect();
        paths.sort();
        paths
    };
    let told = house.wait_until_told("what is not in it", |events| deleted(events).len() >= 3);
    assert_eq!(deleted(&told), ["/found", "/killed", "/stopped"]);
    // The other one again, and it is accepted.
    house.kill();
    fs::rename(house.root(), house.path("away")).unwrap();
    fs::rename(house.path("other"), house.root()).unwrap();
    house.start();
    wait_until(&house, "degraded", "another directory");
    house.run("scan", &["--accept-root", "test2", "--wait"]);
    wait_until(&house, "live", "");
    let told = house.wait_until_told("what is accepted", |events| deleted(events).len() >= 5);
    assert_eq!(deleted(&told), ["/a", "/d/b", "/found", "/killed", "/stopped"]);
    house.kill();
    house.start();
    wait_until(&house, "live", "");
    assert!(scanned(&house));
    assert_eq!(deleted(&house.events()).len(), 5, "what is accepted stays so");
    assert!(!house.run("doctor", &[]).contains("PROBLEM"));
}

/// A disk that is not mounted after a start leaves an empty mount point, on another file system.
#[test]
fn a_mount_point_without_its_disk() {
    if inside("blindness::a_mount_point_without_its_disk") {
        let mut house = House::new("[watch]\nrescan = \"1s\"\n");
        let (disk, root) = (house.path("disk"), house.root());
        fs::create_dir(&disk).unwrap();
        run("mount", &["-t", "tmpfs", "tmpfs", text(&disk)]);
        run("mount", &["--bind", text(&disk), text(&root)]);
        house.start();
        is_told(&house, "a");
        house.kill();
        run("umount", &[text(&root)]);
        house.start();
        wait_until(&house, "degraded", "if its disk is not mounted, mount it");
        is_told(&house, "under");
        nothing_is_deleted(&house);
        run("mount", &["--bind", text(&disk), text(&root)]);
        wait_until(&house, "live", "");
        house.run("scan", &["--wait"]);
        // It lies hidden under the disk, and was not deleted either.
        nothing_is_deleted(&house);
    }
}

/// The other disk is for good: what is missing on it was deleted, though it lies on another device.
#[test]
fn another_disk_that_is_accepted() {
    if inside("blindness::another_disk_that_is_accepted") {
        let mut house = House::new("");
        let root = house.root();
        house.start();
        is_told(&house, "a");
        house.kill();
        run("mount", &["-t", "tmpfs", "tmpfs", text(&root)]);
        house.start();
        wait_until(&house, "degraded", "another directory");
        is_told(&house, "b");
        house.run("scan", &["--accept-root", "test2", "--wait"]);
        let events = house.wait_for_events(3);
        assert_eq!((&events[2]["kind"], &events[2]["path"]), (&"deleted".into(), &"/a".into()));
    }
}

#[test]
fn watches_that_are_used_up() {
    if inside("blindness::watches_that_are_used_up") {
        fs::write("/proc/sys/user/max_inotify_watches", "3").unwrap();
        let house = House::open("[watch]\nsettle = \"100ms\"\n");
        for at in 0..6 {
            fs::create_dir_all(house.root().join(format!("d{at}/sub"))).unwrap();
        }
        wait_until(&house, "degraded", "fs.inotify.max_user_watches");
        for at in 0..6 {
            assert_eq!(is_told(&house, &format!("d{at}/sub/f"))["completeness"], "leased");
        }
    }
}

#[test]
fn a_root_on_an_overlay() {
    if inside("blindness::a_root_on_an_overlay") {
        let mut house = House::new("[watch]\nsettle = \"300ms\"\n");
        mount_overlay(&house, &house.root());
        house.start();
        wait_until(&house, "polling", "overlay");
        assert_eq!(is_told(&house, "a")["completeness"], "quiet-period");
    }
}

#[test]
fn a_root_on_fuse() {
    if inside("blindness::a_root_on_fuse") {
        let mut house = House::new("[watch]\nsettle = \"300ms\"\n");
        let behind = house.path("behind");
        fs::create_dir(&behind).unwrap();
        run("bindfs", &[text(&behind), text(&house.root())]);
        house.start();
        wait_until(&house, "polling", "FUSE");
        fs::write(behind.join("a"), "a").unwrap();
        assert_eq!(house.wait_for_events(1)[0]["completeness"], "quiet-period");
        house.kill();
        run("umount", &["-l", text(&house.root())]);
    }
}

#[test]
fn a_mount_on_top_of_a_watched_directory() {
    if inside("blindness::a_mount_on_top_of_a_watched_directory") {
        let house = House::new("[watch]\nsettle = \"300ms\"\n");
        let (disk, layers) = (house.root().join("disk"), house.root().join("layers"));
        [&disk, &layers].into_iter().for_each(|directory| fs::create_dir(directory).unwrap());
        let mut house = house;
        house.start();
        is_told(&house, "disk/under");
        run("mount", &["-t", "tmpfs", "tmpfs", text(&disk)]);
        is_told(&house, "disk/on-top");
        wait_until(&house, "live", "");
        mount_overlay(&house, &layers);
        wait_until(&house, "polling", "lies on overlay");
        is_told(&house, "layers/a");
        run("umount", &[text(&layers)]);
        run("umount", &[text(&disk)]);
        wait_until(&house, "live", "");
        is_told(&house, "disk/again");
        nothing_is_deleted(&house);
    }
}

/// A directory that cannot be listed proves nothing about what is in it.
#[test]
fn a_directory_that_may_not_be_read_deletes_nothing() {
    let mut house = House::new("[watch]\nrescan = \"500ms\"\n");
    fs::create_dir(house.path("data")).unwrap();
    let chown = |path: PathBuf| std::os::unix::fs::chown(path, Some(65534), Some(65534));
    chown(house.path("data")).expect("this test starts a server as another user: it has to run as root");
    let rights = |path: PathBuf, mode| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode));
    rights(house.path("."), 0o755).unwrap();
    let plain = house.command("serve");
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(plain.get_program()).args(plain.get_args());
    house.start_as(command);
    is_told(&house, "d/a");
    rights(house.root().join("d"), 0o700).unwrap();
    let said = wait_until(&house, "degraded", "/d/");
    assert!(said["reason"].as_str().unwrap().contains("cannot be read"));
    is_told(&house, "b");
    nothing_is_deleted(&house);
    rights(house.root().join("d"), 0o755).unwrap();
    wait_until(&house, "live", "");
    File::create(house.root().join("d/c")).unwrap();
    house.wait_for_events(3);
    nothing_is_deleted(&house);
}
