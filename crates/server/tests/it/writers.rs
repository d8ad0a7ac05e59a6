//! Every way in which programs write files, from outside: what is told is whole, and told once.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use filebell::seams::Seams;
use filebell_core::time::TimestampMs;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::house::{House, inside, run};
use crate::observe::{asked, until};

/// Shorter than any pause between two parts here.
const SETTLE: &str = "[watch]\nsettle = \"100ms\"\n";

/// A house whose journal is looked at.
struct Yard {
    house: House,
    fences: Cell<usize>,
}

impl Yard {
    fn open() -> Self {
        Self::of(House::open(SETTLE))
    }

    fn of(house: House) -> Self {
        fs::create_dir(house.path("stage")).unwrap();
        Self { house, fences: Cell::new(0) }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.house.root().join(name)
    }

    /// On the same file system as the root, and not watched.
    fn stage(&self, name: &str) -> PathBuf {
        self.house.path("stage").join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        self.house.write(name, content);
    }

    /// All that is told of what was finished before: a file of our own that comes and goes is told after it, for its
    /// deletion takes longer to be told than anything else.
    fn told(&self) -> Vec<String> {
        let fence = format!("fence-{}", self.fences.replace(self.fences.get() + 1));
        for (kind, present) in [("created", true), ("deleted", false)] {
            if present {
                self.write(&fence, "");
            } else {
                fs::remove_file(self.at(&fence)).unwrap();
            }
            let path = format!("/{fence}");
            let is_fence = |event: &Value| event["kind"] == kind && event["path"] == path.as_str();
            self.house.wait_until_told("the fence", |events| events.iter().any(is_fence));
        }
        lines(&self.house.events())
    }

    /// Exactly this is told, in this order.
    fn expect(&self, expected: &[String]) {
        self.house.wait_until_told(&format!("{expected:#?}"), |events| lines(events).len() >= expected.len());
        assert_eq!(self.told(), expected);
    }

    /// Exactly this is told, in any order.
    fn expect_all(&self, expected: &[String]) {
        self.house.wait_until_told("all", |events| lines(events).len() >= expected.len());
        let (mut told, mut expected) = (self.told(), expected.to_vec());
        told.sort();
        expected.sort();
        assert_eq!(told, expected);
    }
}

fn sha256(content: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(content))
}

/// What is told of everything but the fences, a line for each event.
fn lines(events: &[Value]) -> Vec<String> {
    let real = events.iter().filter(|event| !event["path"].as_str().unwrap().starts_with("/fence-"));
    real.map(|event| {
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        match event["kind"].as_str().unwrap() {
            "deleted" => format!("deleted {}", text("path")),
            "moved" => format!("moved {} from {}", text("path"), text("previous_path")),
            kind => format!("{kind} {} {}", text("path"), text("sha256")),
        }
    })
    .collect()
}

fn created(path: &str, content: impl AsRef<[u8]>) -> String {
    format!("created {path} {}", sha256(content))
}

fn updated(path: &str, content: impl AsRef<[u8]>) -> String {
    format!("updated {path} {}", sha256(content))
}

#[test]
fn a_slow_writer_with_pauses_longer_than_settle() {
    let yard = Yard::open();
    let mut writer = File::create(yard.at("slow")).unwrap();
    for _ in 0..3 {
        writer.write_all(b"part.").unwrap();
        assert!(yard.told().is_empty());
    }
    drop(writer);
    yard.expect(&[created("/slow", "part.part.part.")]);
}

#[test]
fn two_writers() {
    let yard = Yard::open();
    let mut one = File::create(yard.at("a")).unwrap();
    let mut two = OpenOptions::new().append(true).open(yard.at("a")).unwrap();
    one.write_all(b"one").unwrap();
    drop(one);
    assert!(yard.told().is_empty(), "the first close ends nothing");
    two.write_all(b"two").unwrap();
    drop(two);
    yard.expect(&[created("/a", "onetwo")]);
}

#[test]
fn a_child_that_writes_on_after_its_parent() {
    let yard = Yard::open();
    let script = r#"exec 4<&0 3>"$0"; { read line <&4; printf %s "$line" >&3; } & printf parent. >&3"#;
    let mut parent = Command::new("sh").args(["-c", script]).arg(yard.at("a")).stdin(Stdio::piped()).spawn().unwrap();
    let mut to_child = parent.stdin.take().unwrap();
    assert!(parent.wait().unwrap().success());
    assert!(yard.told().is_empty());
    to_child.write_all(b"child\n").unwrap();
    yard.expect(&[created("/a", "parent.child")]);
}

#[test]
#[expect(unsafe_code, reason = "mmap(2) is in no safe crate")]
fn a_writable_mapping_after_the_close() {
    const BYTES: usize = 4096;
    let yard = Yard::open();
    let file = File::options().read(true).write(true).create_new(true).open(yard.at("a")).unwrap();
    file.set_len(BYTES as u64).unwrap();
    let (access, fd) = (libc::PROT_READ | libc::PROT_WRITE, file.as_raw_fd());
    // SAFETY: a fresh shared mapping of a file that this test alone uses.
    let map = unsafe { libc::mmap(std::ptr::null_mut(), BYTES, access, libc::MAP_SHARED, fd, 0) };
    assert_ne!(map, libc::MAP_FAILED);
    drop(file);
    assert!(yard.told().is_empty());
    // SAFETY: the mapping has so many bytes, lives until the next statement, and is used here alone.
    unsafe {
        std::ptr::write_bytes(map.cast::<u8>(), b'x', BYTES);
        libc::munmap(map, BYTES);
    }
    yard.expect(&[created("/a", [b'x'; BYTES])]);
}

#[test]
fn a_writer_that_closes_and_resumes() {
    let yard = Yard::open();
    yard.write("a", "half.");
    yard.expect(&[created("/a", "half.")]);
    OpenOptions::new().append(true).open(yard.at("a")).unwrap().write_all(b"whole").unwrap();
    yard.expect(&[created("/a", "half."), updated("/a", "half.whole")]);
}

#[test]
fn a_writer_that_resumes_within_quiet() {
    let yard = Yard::of(House::open("[watch]\nquiet = \"1s\"\n"));
    yard.write("a", "half.");
    OpenOptions::new().append(true).open(yard.at("a")).unwrap().write_all(b"whole").unwrap();
    yard.expect(&[created("/a", "half.whole")]);
}

/// A process that has written half of a file, and has been at it for long enough to be known.
fn half_written(yard: &Yard, name: &str) -> Child {
    let mut writer = Command::new("sh");
    writer.args(["-c", r#"exec dd of="$0" bs=1 status=none"#]).arg(yard.at(name)).stdin(Stdio::piped());
    let mut writer = writer.spawn().unwrap();
    writer.stdin.as_mut().unwrap().write_all(b"half.").unwrap();
    let half = || fs::read(yard.at(name)).is_ok_and(|content| content == b"half.");
    until(half, |half| *half);
    for _ in 0..3 {
        assert!(yard.told().is_empty());
    }
    writer
}

/// As the operator is answered why a file is not told.
fn why(yard: &Yard, name: &str) -> Value {
    asked(&yard.house, "GET", &format!("/api/v1/why?account=test2&path=/{name}"))
}

fn is_orphaned(yard: &Yard, name: &str) {
    until(|| why(yard, name), |report| report["answer"].as_str().unwrap().contains("its writer was killed"));
}

#[test]
fn a_killed_writer_and_the_next_that_ends_its_work() {
    let yard = Yard::of(House::open("[watch]\norphan_after = \"1s\"\n"));
    let mut writer = half_written(&yard, "a");
    let killed_at = Seams::real().now();
    writer.kill().unwrap();
    is_orphaned(&yard, "a");
    writer.wait().unwrap();
    let told = yard.house.wait_until_told("the stub", |events| events.iter().any(|event| event["path"] == "/a"));
    let stub = told.iter().find(|event| event["path"] == "/a").unwrap();
    let told_at: TimestampMs = stub["recorded_at"].as_str().unwrap().parse().unwrap();
    assert!(told_at.since(killed_at) >= Duration::from_secs(1), "killed at {killed_at}, told at {told_at}");
    assert_eq!(stub["completeness"], "orphaned");
    assert_eq!(why(&yard, "a")["events"][0]["completeness"], "orphaned");
    assert!(yard.house.run("tail", &["--after", "0"]).contains("/a, 5 bytes, orphaned"));
    yard.write("a", "half.whole");
    yard.expect(&[created("/a", "half."), updated("/a", "half.whole")]);
    let events = yard.house.events();
    let whole = events.iter().rfind(|event| event["path"] == "/a").unwrap();
    assert_eq!(whole["completeness"], "leased");
}

#[test]
fn a_killed_writer_that_nobody_has_waited_for_and_another_that_goes_on_with_its_file() {
    let yard = Yard::of(House::open("[watch]\norphan_after = \"1h\"\n"));
    let mut writer = half_written(&yard, "a");
    writer.kill().unwrap();
    is_orphaned(&yard, "a");
    assert!(yard.told().is_empty());
    OpenOptions::new().append(true).open(yard.at("a")).unwrap().write_all(b"whole").unwrap();
    yard.expect(&[created("/a", "half.whole")]);
    writer.wait().unwrap();
    let events = yard.house.events();
    assert_eq!(events.iter().find(|event| event["path"] == "/a").unwrap()["completeness"], "leased");
}

#[test]
fn a_writer_that_ends_by_itself_is_no_killed_one() {
    let yard = Yard::of(House::open("[watch]\norphan_after = \"1h\"\n"));
    let mut writer = half_written(&yard, "a");
    writer.stdin.take().unwrap().write_all(b"whole").unwrap();
    assert!(writer.wait().unwrap().success());
    yard.expect(&[created("/a", "half.whole")]);
}

#[test]
fn a_killed_sftp_server() {
    let yard = Yard::of(House::open("[watch]\norphan_after = \"1h\"\n"));
    fs::write(yard.stage("a"), vec![b'x'; 4 << 20]).unwrap();
    let script = "printf 'put %s %s\\n' \"$0\" \"$1\" | exec sftp -q -l 800 -b - -D /usr/lib/openssh/sftp-server";
    let mut client = Command::new("sh");
    client.args(["-c", script]).args([yard.stage("a"), yard.at("a")]).stderr(Stdio::null());
    let mut client = client.spawn().unwrap();
    until(|| fs::metadata(yard.at("a")).map_or(0, |about| about.len()), |size| *size > 0);
    for _ in 0..3 {
        assert!(yard.told().is_empty());
    }
    let report = why(&yard, "a");
    let server = report["writers"][0].as_str().unwrap();
    let number = server.strip_prefix("sftp-server (process ").and_then(|rest| rest.strip_suffix(")"));
    run("kill", &["-KILL", number.unwrap_or_else(|| panic!("{report:#?}"))]);
    is_orphaned(&yard, "a");
    assert!(!client.wait().unwrap().success());
    assert!(yard.told().is_empty());
}

#[test]
fn a_rename_in_from_the_same_and_from_another_file_system() {
    let yard = Yard::open();
    fs::write(yard.stage("a"), "same").unwrap();
    run("mv", &[yard.stage("a").to_str().unwrap(), yard.at("a").to_str().unwrap()]);
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let content = "x".repeat(3 << 20);
    fs::write(elsewhere.path().join("b"), &content).unwrap();
    run("mv", &[elsewhere.path().join("b").to_str().unwrap(), yard.at("b").to_str().unwrap()]);
    yard.expect(&[created("/a", "same"), created("/b", &content)]);
    fs::write(yard.stage("over"), "over").unwrap();
    fs::rename(yard.stage("over"), yard.at("a")).unwrap();
    yard.expect(&[created("/a", "same"), created("/b", &content), updated("/a", "over")]);
    let events = yard.house.events();
    let over = events.iter().find(|event| event["kind"] == "updated").unwrap();
    assert_eq!(over["completeness"], "renamed");
}

#[test]
fn an_exchange() {
    let yard = Yard::open();
    yard.write("a", "inside");
    yard.expect(&[created("/a", "inside")]);
    fs::write(yard.stage("b"), "outside").unwrap();
    rustix::fs::renameat_with(CWD, yard.stage("b"), CWD, yard.at("a"), RenameFlags::EXCHANGE).unwrap();
    yard.expect(&[created("/a", "inside"), updated("/a", "outside")]);
}

#[test]
fn a_hard_link_in() {
    let yard = Yard::open();
    fs::write(yard.stage("a"), "linked").unwrap();
    fs::hard_link(yard.stage("a"), yard.at("a")).unwrap();
    yard.expect(&[created("/a", "linked")]);
    fs::remove_file(yard.stage("a")).unwrap();
    yard.expect(&[created("/a", "linked")]);
}

#[test]
fn a_file_without_a_name_that_gets_one() {
    let yard = Yard::open();
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let mut file = File::from(rustix::fs::open(yard.house.root(), flags, Mode::from(0o600)).unwrap());
    file.write_all(b"half.").unwrap();
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, source.as_str(), CWD, yard.at("a"), AtFlags::SYMLINK_FOLLOW).unwrap();
    assert!(yard.told().is_empty(), "its writer still holds it");
    file.write_all(b"whole").unwrap();
    drop(file);
    yard.expect(&[created("/a", "half.whole")]);
}

#[test]
fn a_truncation() {
    let yard = Yard::open();
    yard.write("a", "a long text");
    yard.expect(&[created("/a", "a long text")]);
    run("python3", &["-c", "import os, sys; os.truncate(sys.argv[1], 1)", yard.at("a").to_str().unwrap()]);
    yard.expect(&[created("/a", "a long text"), updated("/a", "a")]);
}

#[test]
fn a_tree_moved_in_and_out() {
    const FILES: usize = 120;
    let yard = Yard::open();
    let name = |at: usize| format!("{}/deep/{at}", at % 5);
    for at in 0..FILES {
        let path = yard.stage("tree").join(name(at));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, at.to_string()).unwrap();
    }
    fs::rename(yard.stage("tree"), yard.at("in")).unwrap();
    let mut expected: Vec<_> = (0..FILES).map(|at| created(&format!("/in/{}", name(at)), at.to_string())).collect();
    yard.expect_all(&expected);
    fs::rename(yard.at("in"), yard.stage("out")).unwrap();
    expected.extend((0..FILES).map(|at| format!("deleted /in/{}", name(at))));
    yard.expect_all(&expected);
}

#[test]
fn a_directory_made_and_written_into_at_once() {
    const ROUNDS: usize = 200;
    let yard = Yard::open();
    let script =
        format!("cd \"$0\"; i=0; while [ $i -lt {ROUNDS} ]; do mkdir -p r$i/b/c; echo $i >r$i/b/c/f; i=$((i+1)); done");
    run("sh", &["-ec", &script, yard.house.root().to_str().unwrap()]);
    let expected: Vec<_> = (0..ROUNDS).map(|at| created(&format!("/r{at}/b/c/f"), format!("{at}\n"))).collect();
    yard.expect_all(&expected);
}

#[test]
fn an_mtime_set_back_afterwards() {
    let yard = Yard::open();
    yard.write("a", "content");
    run("touch", &["-d", "2001-02-03", yard.at("a").to_str().unwrap()]);
    yard.expect(&[created("/a", "content")]);
    run("touch", &["-d", "1999-02-03", yard.at("a").to_str().unwrap()]);
    run("chmod", &["600", yard.at("a").to_str().unwrap()]);
    yard.expect(&[created("/a", "content")]);
    // The same size and the same time of change, but another content.
    yard.write("a", "CONTENT");
    run("touch", &["-d", "1999-02-03", yard.at("a").to_str().unwrap()]);
    yard.expect(&[created("/a", "content"), updated("/a", "CONTENT")]);
}

/// A real program brings a tree in; brings it again; and again when a file has changed.
fn carries(script: &str) {
    let yard = Yard::open();
    let (source, target) = (yard.house.path("source"), yard.at("in"));
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::create_dir(&target).unwrap();
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    for (name, content) in [("a", large.as_slice()), ("b.csv", b"1;2"), ("sub/c", b"c")] {
        fs::write(source.join(name), content).unwrap();
        run("touch", &["-d", "2001-02-03", source.join(name).to_str().unwrap()]);
    }
    let carry = || run("sh", &["-ec", script, source.to_str().unwrap(), target.to_str().unwrap()]);
    carry();
    let mut expected = vec![created("/in/a", &large), created("/in/b.csv", "1;2"), created("/in/sub/c", "c")];
    yard.expect_all(&expected);
    carry();
    yard.expect_all(&expected);
    fs::write(source.join("b.csv"), "1;2;3").unwrap();
    carry();
    expected.push(updated("/in/b.csv", "1;2;3"));
    yard.expect_all(&expected);
}

#[test]
fn rsync_in() {
    carries("rsync -a \"$0/\" \"$1/\"");
}

#[test]
fn rsync_in_place() {
    carries("rsync -a --inplace \"$0/\" \"$1/\"");
}

#[test]
fn rclone_in() {
    carries("rclone --config=/dev/null copy \"$0\" \"$1\"");
}

#[test]
fn cp_in() {
    carries("cp -rp \"$0/.\" \"$1/\"");
}

#[test]
fn tar_in() {
    carries("tar -C \"$0\" -c . | tar -C \"$1\" -x");
}

#[test]
fn curl_in() {
    carries(
        "cd \"$0\"; for f in a b.csv sub/c; do curl -sS --limit-rate 40M --create-dirs -R -o \"$1/$f\" \"file://$0/$f\"; done",
    );
}

#[test]
fn sftp_in() {
    carries("printf 'lcd %s\\ncd %s\\nput -rp *\\n' \"$0\" \"$1\" | sftp -q -b - -D /usr/lib/openssh/sftp-server");
}

#[test]
fn an_upload_that_sftp_resumes() {
    let yard = Yard::open();
    let content = "0123456789".repeat(1000);
    fs::write(yard.stage("a"), &content).unwrap();
    yard.write("a", &content[..4000]);
    yard.expect(&[created("/a", &content[..4000])]);
    let script = "printf 'reput %s %s\\n' \"$0\" \"$1\" | sftp -q -b - -D /usr/lib/openssh/sftp-server";
    run("sh", &["-ec", script, yard.stage("a").to_str().unwrap(), yard.at("a").to_str().unwrap()]);
    yard.expect(&[created("/a", &content[..4000]), updated("/a", &content)]);
}

#[test]
fn empty_files_the_same_again_and_there_and_back() {
    let yard = Yard::open();
    yard.write("a", "");
    let mut expected = vec![created("/a", "")];
    yard.expect(&expected);
    for (content, told) in [("A", true), ("A", false), ("B", true), ("A", true), ("", true)] {
        yard.write("a", content);
        if told {
            expected.push(updated("/a", content));
        }
        yard.expect(&expected);
    }
}

#[test]
fn an_inode_number_given_out_again() {
    let yard = Yard::open();
    let mut expected = Vec::new();
    for name in ["a", "b", "c", "d"] {
        yard.write(name, "the same content");
        expected.push(created(&format!("/{name}"), "the same content"));
        yard.expect(&expected);
        fs::remove_file(yard.at(name)).unwrap();
        expected.push(format!("deleted /{name}"));
        yard.expect(&expected);
    }
    // Within the time that a deletion takes to be told.
    for name in ["e", "f", "g"] {
        yard.write(name, "the same content");
        yard.house.wait_until_told(name, |events| events.iter().any(|event| event["path"] == format!("/{name}")));
        fs::remove_file(yard.at(name)).unwrap();
        expected.extend([created(&format!("/{name}"), "the same content"), format!("deleted /{name}")]);
    }
    yard.expect_all(&expected);
}

#[test]
fn a_file_that_is_gone_before_it_is_read() {
    let yard = Yard::open();
    yard.house.signal("STOP");
    for at in 0..50 {
        yard.write(&format!("d/{at}"), "gone");
    }
    fs::remove_dir_all(yard.at("d")).unwrap();
    yard.write("kept", "kept");
    yard.house.signal("CONT");
    yard.expect(&[created("/kept", "kept")]);
}

#[test]
fn a_disk_that_is_missing_deletes_nothing() {
    if !inside("writers::a_disk_that_is_missing_deletes_nothing") {
        return;
    }
    let house = House::new(SETTLE);
    fs::create_dir(house.path("disk")).unwrap();
    let (disk, root) = (house.path("disk"), house.root());
    let (disk, root) = (disk.to_str().unwrap(), root.to_str().unwrap());
    run("mount", &["-t", "tmpfs", "tmpfs", disk]);
    run("mount", &["--bind", disk, root]);
    let mut yard = Yard::of(house);
    yard.house.start();
    yard.write("a", "a");
    yard.expect(&[created("/a", "a")]);
    yard.house.kill();
    run("umount", &[root]);
    yard.house.start();
    yard.expect(&[created("/a", "a")]);
    yard.house.kill();
    run("mount", &["--bind", disk, root]);
    yard.house.start();
    yard.write("b", "b");
    yard.expect(&[created("/a", "a"), created("/b", "b")]);
}

#[test]
fn a_root_that_goes_and_comes_back() {
    let yard = Yard::open();
    yard.write("a", "a");
    yard.expect(&[created("/a", "a")]);
    fs::rename(yard.house.root(), yard.house.path("away")).unwrap();
    fs::write(yard.house.path("away").join("b"), "b").unwrap();
    fs::rename(yard.house.path("away"), yard.house.root()).unwrap();
    yard.write("c", "c");
    yard.expect_all(&[created("/a", "a"), created("/b", "b"), created("/c", "c")]);
}

#[test]
fn names_are_bytes() {
    let yard = Yard::open();
    let long = [b'x'; 255];
    let names: [&[u8]; 6] = [b"\xff\xfe", b"new\nline", b" ", b"\"\\'%2e", "\u{202e}".as_bytes(), &long];
    for name in names {
        fs::write(yard.house.root().join(OsStr::from_bytes(name)), name).unwrap();
    }
    let events = yard.house.wait_for_events(names.len());
    let mut told: Vec<(Vec<u8>, String)> = events
        .iter()
        .map(|event| {
            let exact = event["path_base64"].as_str();
            let exact = exact.map(|text| base64::engine::general_purpose::STANDARD.decode(text).unwrap());
            let path = exact.unwrap_or_else(|| event["path"].as_str().unwrap().as_bytes().to_vec());
            (path[1..].to_vec(), event["sha256"].as_str().unwrap().to_owned())
        })
        .collect();
    told.sort();
    let mut expected: Vec<_> = names.iter().map(|name| (name.to_vec(), sha256(name))).collect();
    expected.sort();
    assert_eq!(told, expected);
}

#[test]
fn what_is_no_file_is_left_alone() {
    let yard = Yard::open();
    for (name, kind) in [("fifo", FileType::Fifo), ("device", FileType::CharacterDevice)] {
        rustix::fs::mknodat(CWD, yard.at(name), kind, Mode::from(0o600), 0).unwrap();
    }
    let _socket = std::os::unix::net::UnixListener::bind(yard.at("socket")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", yard.at("link")).unwrap();
    std::os::unix::fs::symlink("/etc", yard.at("links")).unwrap();
    yard.write("a", "a");
    yard.expect(&[created("/a", "a")]);
}

#[test]
fn a_sparse_terabyte_beside_others() {
    let yard = Yard::open();
    File::create(yard.at("huge")).unwrap().set_len(1 << 40).unwrap();
    let large = "x".repeat(20 << 20);
    yard.write("large", &large);
    yard.write("small", "small");
    yard.expect_all(&[created("/large", &large), created("/small", "small")]);
}

#[test]
fn ten_thousand_files_in_a_directory() {
    const FILES: usize = 10_000;
    let yard = Yard::open();
    fs::create_dir(yard.at("d")).unwrap();
    (0..FILES).for_each(|at| fs::write(yard.at(&format!("d/{at}")), at.to_string()).unwrap());
    let expected: Vec<_> = (0..FILES).map(|at| created(&format!("/d/{at}"), at.to_string())).collect();
    yard.expect_all(&expected);
}

/// More than the kernel keeps for us while we do not read: what it drops is found by a walk.
#[test]
fn a_queue_that_overflows() {
    let yard = Yard::open();
    fs::create_dir(yard.at("d")).unwrap();
    yard.write("d/before", "before");
    yard.expect(&[created("/d/before", "before")]);
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    // Three events for each: created, modified, closed.
    let files = limit.trim().parse::<usize>().unwrap() / 3 + 500;
    yard.house.signal("STOP");
    (0..files).for_each(|at| fs::write(yard.at(&format!("d/{at}")), at.to_string()).unwrap());
    fs::create_dir_all(yard.at("not/heard/of")).unwrap();
    yard.write("not/heard/of/f", "f");
    fs::remove_file(yard.at("d/before")).unwrap();
    yard.house.signal("CONT");
    let mut expected: Vec<_> = (0..files).map(|at| created(&format!("/d/{at}"), at.to_string())).collect();
    expected.extend([created("/d/before", "before"), "deleted /d/before".to_owned(), created("/not/heard/of/f", "f")]);
    yard.expect_all(&expected);
}

#[test]
fn two_hundred_directories_deep() {
    let yard = Yard::open();
    let deep = format!("{}f", "d/".repeat(200));
    yard.write(&deep, "deep");
    yard.expect(&[created(&format!("/{deep}"), "deep")]);
    yard.write(&deep, "deeper");
    yard.expect(&[created(&format!("/{deep}"), "deep"), updated(&format!("/{deep}"), "deeper")]);
}

/// Another owner's files, and no CAP_LEASE.
#[test]
fn where_no_lease_is_to_be_had_a_file_has_to_stand_still() {
    const NOBODY: u32 = 65534;
    let pause = Duration::from_millis(100);
    let mut house = House::new("[watch]\nsettle = \"1s\"\n");
    fs::create_dir(house.path("data")).unwrap();
    let chown = std::os::unix::fs::chown(house.path("data"), Some(NOBODY), Some(NOBODY));
    chown.expect("this test starts a server as another user: it has to run as root");
    fs::set_permissions(house.path("."), fs::Permissions::from_mode(0o755)).unwrap();
    let plain = house.command("serve");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(plain.get_program()).args(plain.get_args());
    house.start_as(command);
    let begun = Instant::now();
    let mut writer = File::create(house.root().join("a")).unwrap();
    for _ in 0..5 {
        writer.write_all(b"part.").unwrap();
        std::thread::sleep(pause);
    }
    drop(writer);
    let told = house.wait_for_events(1);
    assert!(begun.elapsed() > Duration::from_secs(1));
    assert_eq!(lines(&told), [created("/a", "part.".repeat(5))]);
    assert_eq!(told[0]["completeness"], "quiet-period");
}
