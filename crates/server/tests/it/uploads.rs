//! Uploads that do not go well: what is refused or broken off leaves nothing and is told to nobody.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::house::{House, basic, inside, run};
use crate::observe::asked;

const DAV: &str = "/remote.php/webdav";
const PIECES: &str = "/remote.php/dav/uploads/test2/up";
const MIB: usize = 1 << 20;

fn me() -> String {
    basic("test2", "secret")
}

/// The names in the root, without what is filebell's own and empty.
fn names(house: &House) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(house.root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        // The server's own: pieces, and what it tries the root with when it examines itself.
        .filter(|name| name != ".filebell-pieces" && !name.starts_with(".filebell-examine-"))
        .collect();
    names.sort();
    names
}

fn told(house: &House) -> Vec<String> {
    house.events().iter().map(|event| event["path"].as_str().unwrap().to_owned()).collect()
}

/// A body in chunks of an odd length.
fn chunked(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, chunk) in body.chunks(37).enumerate() {
        let extension = if at == 1 { ";x=y" } else { "" };
        out.extend(format!("{:x}{extension}\r\n", chunk.len()).into_bytes());
        out.extend([chunk, b"\r\n"].concat());
    }
    out.extend(b"0\r\nTrailer: x\r\n\r\n");
    out
}

/// Where a request of this length is cut: everywhere, or here and there in a long one.
fn cuts(from: usize, length: usize) -> Vec<usize> {
    let step = if length < 4096 { 1 } else { length / 40 };
    (from..length).step_by(step).chain(length.saturating_sub(8)..length).collect()
}

#[test]
fn an_upload_that_is_cut_off_anywhere_leaves_nothing() {
    let house = House::open("");
    let me = me();
    let auth = ("Authorization", me.as_str());
    for bytes in [200, 3 * MIB] {
        let body: Vec<u8> = (0..bytes).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let length = bytes.to_string();
        let plain = house.head("PUT", &format!("{DAV}/cut"), &[auth, ("Content-Length", &length)]);
        let in_chunks = house.head("PUT", &format!("{DAV}/cut"), &[auth, ("Transfer-Encoding", "chunked")]);
        for request in [[plain.as_bytes(), &body].concat(), [in_chunks.as_bytes(), &chunked(&body)].concat()] {
            // Of the head, a few places; of the body, all.
            for cut in cuts(plain.len() - 2, request.len()) {
                let answer = house.break_off(&request[..cut]);
                assert!(answer.is_none_or(|answer| answer.status >= 400), "cut at {cut} of {}", request.len());
            }
            assert_eq!(names(&house), [""; 0], "nothing is left");
            assert_eq!(house.exchange(&request).unwrap().status, 201);
            assert_eq!(fs::read(house.root().join("cut")).unwrap(), body);
            assert_eq!(house.request("DELETE", &format!("{DAV}/cut"), &[auth]).status, 204);
        }
    }
    let kinds: BTreeSet<_> = house.events().iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect();
    let told = told(&house);
    assert_eq!((told.len(), kinds.len()), (8, 2), "each whole one came and went, and nothing else: {told:?}");
}

#[test]
fn an_upload_in_pieces_that_is_cut_off_leaves_nothing() {
    let house = House::open("");
    let me = me();
    let auth = ("Authorization", me.as_str());
    let piece: Vec<u8> = (0..200).collect();
    let destination = ("Destination", "/remote.php/dav/files/test2/whole");
    assert_eq!(house.request("MKCOL", PIECES, &[auth]).status, 201);
    for number in 1..=3 {
        // Between the pieces nobody sees anything.
        assert_eq!((names(&house).len(), told(&house).len()), (0, 0));
        let head = house.head("PUT", &format!("{PIECES}/{number}"), &[auth, ("Content-Length", "200")]);
        let request = [head.as_bytes(), &piece].concat();
        for cut in cuts(head.len() - 2, request.len()) {
            let answer = house.break_off(&request[..cut]);
            assert!(answer.is_none_or(|answer| answer.status >= 400), "cut at {cut}");
        }
        let short = house.request("MOVE", &format!("{PIECES}/.file"), &[auth, destination, ("OC-Total-Length", "600")]);
        assert!(short.status >= 400, "{number}: {}", short.status);
        assert_eq!(house.exchange(&request).unwrap().status, 201);
    }
    let request = house.head("MOVE", &format!("{PIECES}/.file"), &[auth, destination, ("OC-Total-Length", "600")]);
    for cut in cuts(0, request.len()) {
        assert!(house.break_off(&request.as_bytes()[..cut]).is_none_or(|answer| answer.status >= 400), "cut at {cut}");
    }
    assert_eq!((names(&house).len(), told(&house).len()), (0, 0));
    assert_eq!(house.exchange(request.as_bytes()).unwrap().status, 201);
    assert_eq!(fs::read(house.root().join("whole")).unwrap(), [piece.clone(), piece.clone(), piece].concat());
    assert_eq!(told(&house), ["/whole"]);
    assert_eq!(fs::read_dir(house.root().join(".filebell-pieces")).unwrap().count(), 0);
}

#[test]
fn two_who_write_one_path_at_once_never_mix() {
    const ROUNDS: usize = 12;
    let house = House::open("");
    let me = me();
    let bodies = [vec![b'a'; 2 * MIB], vec![b'b'; 2 * MIB + 1]];
    let sums: Vec<String> = bodies.iter().map(|body| hex::encode(Sha256::digest(body))).collect();
    for round in 0..ROUNDS {
        std::thread::scope(|scope| {
            for (at, body) in bodies.iter().enumerate() {
                let (house, me) = (&house, me.as_str());
                scope.spawn(move || {
                    let chunked_body = chunked(body);
                    let head = house.head(
                        "PUT",
                        &format!("{DAV}/both"),
                        &[("Authorization", me), ("Transfer-Encoding", "chunked")],
                    );
                    let answer = match (round + at) % 2 {
                        0 => house.send("PUT", &format!("{DAV}/both"), &[("Authorization", me)], body),
                        _ => house.exchange(&[head.as_bytes(), &chunked_body].concat()).unwrap(),
                    };
                    assert!([201, 204].contains(&answer.status), "{}: {}", answer.status, answer.text());
                });
            }
        });
        let lies = hex::encode(Sha256::digest(fs::read(house.root().join("both")).unwrap()));
        assert!(sums.contains(&lies), "it is one of the two, whole");
        let events = house.wait_until_told("what lies there", |events| {
            events.last().is_some_and(|event| event["sha256"] == lies.as_str())
        });
        for event in &events {
            assert!(sums.iter().any(|sum| event["sha256"] == sum.as_str()), "told is one of the two: {event}");
        }
        assert!(events.windows(2).all(|two| two[0]["sha256"] != two[1]["sha256"]), "nothing is told twice");
    }
    assert_eq!(names(&house), ["both"]);
}

#[test]
fn lengths_that_lie_are_refused() {
    let house = House::open("");
    let me = me();
    let head = |headers: &str| format!("PUT {DAV}/lie HTTP/1.1\r\nHost: x\r\nAuthorization: {me}\r\n{headers}\r\n");
    for headers in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: five\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5.0\r\n",
        "Content-Length: 99999999999999999999999999\r\n",
        "Content-Length: 18446744073709551615\r\n",
        "Content-Length: 6\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: xchunked\r\nContent-Length: 50\r\n",
        "Content-Length: 5\r\nX-Expected-Entity-Length: 6\r\nOC-Checksum: SHA1:00\r\n",
    ] {
        let answer = house.break_off(format!("{}hello", head(headers)).as_bytes());
        assert!(
            answer.as_ref().is_none_or(|answer| answer.status >= 400),
            "{headers}: {:?}",
            answer.map(|one| one.status)
        );
        assert_eq!(names(&house), [""; 0], "{headers}");
    }
    // More than was said is another request, and none that anybody understands.
    let more = format!("{}hello and more\r\n\r\n", head("Content-Length: 5\r\n"));
    assert_eq!(house.exchange(more.as_bytes()).unwrap().status, 201);
    assert_eq!(fs::read(house.root().join("lie")).unwrap(), b"hello");
    assert_eq!(told(&house), ["/lie"]);
}

#[test]
fn names_are_bytes_and_told_as_they_are() {
    let house = House::open("");
    let me = me();
    let put =
        |name: &str| house.send("PUT", &format!("{DAV}/{name}"), &[("Authorization", &me)], name.as_bytes()).status;
    let long = "n".repeat(255);
    let good = [
        long.as_str(),
        "caf%C3%A9",
        "cafe%CC%81",
        "a%01b%09c%0Ad%7F",
        "%FF%FE",
        "%E2%80%AEtxt.exe",
        "a%5Cb",
        "CON",
        "%3F%2A",
    ];
    for name in good {
        assert_eq!(put(name), 201, "{name}");
        let got = house.get(&format!("{DAV}/{name}"), &[("Authorization", &me)]);
        assert_eq!((got.status, got.text().as_str()), (200, name), "no two of them are the same");
    }
    for name in ["n".repeat(256).as_str(), "a%00b", "%2e%2e", ".filebell-own"] {
        assert!((400..500).contains(&put(name)), "{name}");
    }
    let events = house.events();
    assert_eq!(events.len(), good.len());
    let exact = |event: &Value| match event["path_base64"].as_str() {
        Some(text) => base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap(),
        None => event["path"].as_str().unwrap().as_bytes().to_vec(),
    };
    for (event, name) in events.iter().zip(good) {
        let decoded: Vec<u8> = percent_encoding::percent_decode_str(&format!("/{name}")).collect();
        assert_eq!(exact(event), decoded, "{event}");
    }
}

/// As clients do that upload under a name of their own first.
#[test]
fn an_upload_is_told_under_the_name_it_gets_in_the_end() {
    let house = House::open("");
    let me = me();
    let at = |name: &str| format!("{DAV}/{name}");
    let put = |name: &str| house.send("PUT", &at(name), &[("Authorization", &me)], name.as_bytes()).status;
    let rename = |from: &str, to: &str| {
        let to = at(to);
        house.send("MOVE", &at(from), &[("Authorization", &me), ("Destination", &to)], b"").status
    };
    for name in ["a.csv.part", ".hidden", "b"] {
        assert_eq!(put(name), 201, "{name}");
    }
    assert_eq!(told(&house), ["/b"]);
    assert_eq!(rename("a.csv.part", "a.csv"), 201);
    house.wait_for_events(2);
    assert_eq!(rename("b", "b.tmp"), 201);
    let kinds = || -> Vec<String> {
        let line = |event: &Value| format!("{} {}", event["kind"].as_str().unwrap(), event["path"].as_str().unwrap());
        house.events().iter().map(line).collect()
    };
    assert_eq!(kinds(), ["created /b", "created /a.csv", "deleted /b"]);
    assert_eq!(house.get(&at("b.tmp"), &[("Authorization", &me)]).text(), "b", "it is served all the same");
}

#[test]
fn the_disk_is_full_for_a_while() {
    if !inside("uploads::the_disk_is_full_for_a_while") {
        return;
    }
    let mut house = House::new("");
    run("mount", &["-t", "tmpfs", "-o", "size=8m", "tmpfs", house.root().to_str().unwrap()]);
    house.start();
    let me = me();
    let auth = ("Authorization", me.as_str());
    let put = |name: &str, bytes: usize| house.send("PUT", &format!("{DAV}/{name}"), &[auth], &vec![b'x'; bytes]);
    assert_eq!(put("before", 10).status, 201);
    let mut ballast = File::create(house.root().join(".ballast")).unwrap();
    while ballast.write_all(&[0; 4096]).is_ok() {}
    for bytes in [10 * 4096, 3 * MIB] {
        let answer = put("after", bytes);
        assert_eq!(answer.status, 507, "{}", answer.text());
        assert!(answer.text().contains("Sabre\\DAV\\Exception\\InsufficientStorage"), "{}", answer.text());
        let head = house.head("PUT", &format!("{DAV}/after"), &[auth, ("Transfer-Encoding", "chunked")]);
        let answer = house.exchange(&[head.as_bytes(), &chunked(&vec![b'x'; bytes])].concat());
        assert_eq!(answer.map(|answer| answer.status), Some(507), "in chunks");
        // What was there is untouched.
        assert_eq!(put("before", bytes).status, 507);
    }
    assert_eq!(names(&house), [".ballast", "before"]);
    assert_eq!(fs::read(house.root().join("before")).unwrap(), [b'x'; 10]);
    assert_eq!(told(&house), ["/before"]);
    fs::remove_file(house.root().join(".ballast")).unwrap();
    drop(ballast);
    assert_eq!(put("after", 3 * MIB).status, 201);
    assert_eq!(told(&house), ["/before", "/after"]);
    assert_eq!(house.stop(), Some(0));
}

#[test]
fn a_quota_counts_what_comes_in_any_way_and_refuses_uploads_only() {
    let house =
        House::new("[[accounts]]\nname = \"small\"\npassword = \"small\"\nroot = \"{root}-small\"\nquota = \"5MB\"\n");
    let root = house.path("root-small");
    fs::create_dir(&root).unwrap();
    let mut house = house;
    house.start();
    let small = basic("small", "small");
    let used = |house: &House| -> Value {
        let accounts: Value = serde_json::from_str(&house.run("account", &["list", "--json"])).unwrap();
        accounts.as_array().unwrap().iter().find(|one| one["name"] == "small").unwrap().clone()
    };
    assert_eq!((used(&house)["used_bytes"].clone(), used(&house)["quota_bytes"].clone()), (0.into(), 5_000_000.into()));
    fs::write(root.join("dropped"), vec![b'x'; 6_000_000]).unwrap();
    house.wait_for_events(1);
    assert_eq!(used(&house)["used_bytes"], 6_000_000);
    let put =
        |house: &House| house.send("PUT", &format!("{DAV}/up"), &[("Authorization", &small)], &vec![b'x'; 4_000_000]);
    // Said before the bytes are asked for, and heard although they were sent.
    let refused = put(&house);
    assert_eq!(refused.status, 507, "{}", refused.text());
    assert!(refused.text().contains("Insufficient space in /up, 4000000 required, 0 available"), "{}", refused.text());
    assert_eq!(house.events().len(), 1);
    // A file that shrinks and one that goes while nobody looks.
    fs::write(root.join("dropped"), "x").unwrap();
    house.wait_for_events(2);
    assert_eq!(used(&house)["used_bytes"], 1);
    assert_eq!(put(&house).status, 201);
    house.kill();
    fs::remove_file(root.join("up")).unwrap();
    house.start();
    house.wait_until_told("that it went", |events| events.last().is_some_and(|event| event["kind"] == "deleted"));
    assert_eq!(used(&house)["used_bytes"], 1);
    let managed = house.command("account").args(["quota", "small", "none"]).output().unwrap();
    assert!(!managed.status.success() && String::from_utf8_lossy(&managed.stderr).contains("configuration file"));
    let other = house.path("other");
    fs::create_dir(&other).unwrap();
    let shown = house.run("account", &["add", "other", "--root", other.to_str().unwrap(), "--quota", "10GiB"]);
    assert!(shown.contains("quota          10GiB"), "{shown}");
    let shown = house.run("account", &["quota", "other", "none"]);
    assert!(shown.contains("quota          none"), "{shown}");
    let status = asked(&house, "GET", "/api/v1/status");
    assert!(status["subscriptions"].is_array());
}
