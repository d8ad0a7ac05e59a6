//! Requests that mean no good: nothing leaves a root, nothing is told, and the server goes on.

use std::fs;
use std::io::{Read, Write};

use crate::house::{Answer, House, basic};

const DAV: &str = "/remote.php/webdav";
const RECENT: &str = "/ocs/v2.php/apps/file_upload_notification/api/recent";
const MIB: usize = 1 << 20;

fn me() -> String {
    basic("test2", "secret")
}

/// The server answers as if nothing had been.
fn goes_on(house: &House, after: &str) {
    assert_eq!(house.get("/status.php", &[]).status, 200, "after {after}");
}

fn refused(answer: Option<&Answer>, statuses: &[u16], what: &str) {
    // A server may also hang up on such a client, as long as it goes on for others.
    let status = answer.map(|answer| answer.status);
    assert!(status.is_none_or(|status| statuses.contains(&status)), "{what}: {status:?}");
}

/// Every name below a directory, with what is in it.
fn all_below(directory: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(all_below(&path));
            all.push((path, Vec::new()));
        } else {
            all.push((path.clone(), fs::read(path).unwrap()));
        }
    }
    all.sort();
    all
}

#[test]
fn no_spelling_of_a_path_leads_out_of_the_root() {
    let house = House::new("");
    let other = house.path("other");
    for directory in [&other, &house.path("rootside")] {
        fs::create_dir(directory).unwrap();
        fs::write(directory.join("outside.txt"), "treasure").unwrap();
    }
    let mut house = house;
    house.start();
    house.write("inside.txt", "inside");
    house.write("d/inside.txt", "inside");
    house.wait_for_events(2);
    let outside = all_below(&other);
    let (me, beside) = (me(), all_below(&house.path("rootside")));
    let ups = [
        "..",
        "%2e%2e",
        "%2E.",
        ".%2e",
        "%252e%252e",
        "%c0%ae%c0%ae",
        "%e0%80%ae%e0%80%ae",
        "..;",
        "..%3b",
        "..%00",
        "..%5c",
        "%uff0e%uff0e",
        "%ef%bc%8e%ef%bc%8e",
        "....//",
        "..%2f",
        "..%252f",
        "..%c0%af",
        "..%5c..%5c",
        ".",
        "d/..",
        "d/../..",
        "%20..",
        "..%20",
        "..%0a",
        "..%0d%0a",
        "~",
        "/etc",
        "%2fetc",
        "C:",
        "file:",
        "..\\",
    ];
    for up in ups {
        for middle in ["/", "%2f", "%5c", "\\", "%252f", "%c0%af", "//"] {
            let path = format!("{DAV}/{up}{middle}other{middle}outside.txt");
            for method in ["GET", "PROPFIND", "PUT", "DELETE", "MKCOL", "PROPPATCH", "COPY", "MOVE"] {
                let headers =
                    [("Authorization", me.as_str()), ("Destination", "/remote.php/webdav/stolen"), ("Depth", "1")];
                let request =
                    format!("{}mine", house.head(method, &path, &[&headers[..], &[("Content-Length", "4")]].concat()));
                let answer = house.exchange(request.as_bytes());
                let text = answer.map(|answer| answer.text()).unwrap_or_default();
                assert!(!text.contains("treasure"), "{method} {path}: {text}");
            }
            let destination = [("Authorization", me.as_str()), ("Destination", path.as_str()), ("Overwrite", "T")];
            house.request("COPY", &format!("{DAV}/d/inside.txt"), &destination);
            house.request("MOVE", &format!("{DAV}/d/inside.txt"), &destination);
            // What went somewhere in the root is put back.
            house.send("PUT", &format!("{DAV}/d/inside.txt"), &[("Authorization", &me)], b"inside");
        }
    }
    for destination in [
        "http://evil.example.org/other/outside.txt",
        "http://evil.example.org",
        "http://",
        "//evil.example.org/remote.php/webdav/../../other/outside.txt",
        "file:///etc/passwd",
        "/etc/passwd",
        "/remote.php/dav/files/other/outside.txt",
        "/remote.php/dav/files/test2/../other/outside.txt",
        "/remote.php/webdav/../dav/files/other/outside.txt",
        "/remote.php/webdavx/outside.txt",
        "",
        "..",
    ] {
        for method in ["COPY", "MOVE"] {
            let headers = [("Authorization", me.as_str()), ("Destination", destination)];
            let answer = house.request(method, &format!("{DAV}/inside.txt"), &headers);
            assert!((400..600).contains(&answer.status), "{method} to {destination:?}: {}", answer.status);
        }
    }
    assert_eq!(all_below(&other), outside);
    assert_eq!(all_below(&house.path("rootside")), beside);
    for (path, content) in all_below(&house.root()) {
        assert!(!content.starts_with(b"treasure"), "{} was stolen", path.display());
    }
    // Another host in it is not another server: whoever stands before us may have another name.
    let headers =
        [("Authorization", me.as_str()), ("Destination", "https://files.example.org/remote.php/webdav/moved.txt")];
    assert_eq!(house.request("MOVE", &format!("{DAV}/inside.txt"), &headers).status, 201);
    assert_eq!(fs::read(house.root().join("moved.txt")).unwrap(), b"inside");
    goes_on(&house, "all this");
}

#[test]
fn a_since_that_is_no_number_is_refused_and_a_large_one_is_none() {
    let house = House::open("");
    let me = me();
    for (since, status) in [
        ("99999999999999999999", 200),
        ("9223372036854775807", 200),
        ("1e400", 200),
        ("1.5", 200),
        ("%20%207%20", 200),
        ("-0.5", 200),
        ("-1", 400),
        ("-99999999999999999999", 400),
        ("", 400),
        ("%20", 400),
        ("NaN", 400),
        ("INF", 400),
        ("0x10", 400),
        ("1_0", 400),
        ("1%00", 400),
        ("%D9%A1", 400),
        ("%FF", 400),
    ] {
        let headers = [("Authorization", me.as_str()), ("OCS-APIRequest", "true")];
        let answer = house.get(&format!("{RECENT}?since={since}"), &headers);
        assert_eq!(answer.status, status, "{since}: {}", answer.text());
    }
    let long = house
        .get(&format!("{RECENT}?since={}", "9".repeat(60_000)), &[("Authorization", &me), ("OCS-APIRequest", "1")]);
    assert!([200, 414, 431].contains(&long.status), "{}", long.status);
    goes_on(&house, "these");
}

#[test]
fn heads_without_end_are_cut() {
    let house = House::open("");
    let large = "x".repeat(10 * MIB);
    for (what, request) in [
        ("a header", house.head("GET", "/status.php", &[("X-Large", &large)])),
        ("a name of a header", house.head("GET", "/status.php", &[(&large, "x")])),
        ("a request line", house.head("GET", &format!("/{large}"), &[])),
        ("a method", house.head(&large, "/status.php", &[])),
        ("credentials", house.head("GET", "/v1", &[("Authorization", &format!("Bearer {large}"))])),
        ("headers", house.head("GET", "/status.php", &vec![("X", "x"); 100_000])),
        ("no line at all", large.clone()),
    ] {
        refused(house.exchange(request.as_bytes()).as_ref(), &[400, 414, 431], what);
        goes_on(&house, what);
    }
}

#[test]
fn documents_that_grow_are_refused() {
    let house = House::open("");
    let me = me();
    house.send("PUT", &format!("{DAV}/a.txt"), &[("Authorization", &me)], b"a");
    let bomb = {
        let lol = |at: u32| format!("<!ENTITY l{at} \"{}\">", format!("&l{};", at - 1).repeat(10));
        let entities: String = (1..10).map(lol).collect();
        format!(
            "<?xml version=\"1.0\"?><!DOCTYPE l [<!ENTITY l0 \"lol\">{entities}]><d:propfind xmlns:d=\"DAV:\">&l9;</d:propfind>"
        )
    };
    let outside = "<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><d:propfind xmlns:d=\"DAV:\"><d:prop>&b;</d:prop></d:propfind>";
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    let in_lock = |inner: &str| {
        format!(
            "<d:lockinfo xmlns:d=\"DAV:\"><d:lockscope><d:exclusive/></d:lockscope><d:locktype><d:write/></d:locktype>\
             <d:owner>{inner}</d:owner></d:lockinfo>"
        )
    };
    let unclosed = "<a>".repeat(300_000);
    let attributes =
        format!("<d:propfind xmlns:d=\"DAV:\" {}/>", (0..50_000).map(|at| format!("a{at}='' ")).collect::<String>());
    for method in ["PROPFIND", "PROPPATCH", "LOCK", "MKCOL", "REPORT"] {
        for (what, body) in [
            ("a bomb", bomb.as_str()),
            ("an entity from elsewhere", outside),
            ("a depth", &deep("<a>", "</a>")),
            ("a depth of namespaces", &deep("<a xmlns='b'>", "</a>")),
            ("a depth in an owner", &in_lock(&deep("<a>", "</a>"))),
            ("no end", &unclosed),
            ("attributes", &attributes),
            ("much", &format!("<d:propfind xmlns:d=\"DAV:\">{}</d:propfind>", " ".repeat(10 * MIB))),
        ] {
            let headers = [("Authorization", me.as_str()), ("Content-Type", "application/xml")];
            let answer = house.send(method, &format!("{DAV}/a.txt"), &headers, body.as_bytes());
            assert!((400..600).contains(&answer.status), "{method} with {what}: {}", answer.status);
            assert!(!answer.text().contains("root:") && !answer.text().contains("lollol"), "{method} with {what}");
            goes_on(&house, what);
        }
    }
    for path in ["/index.php/apps/file_upload_notification/config", RECENT, "/v1/token", "/v1/token/revoke"] {
        for body in ["[".repeat(500_000), "{\"a\":".repeat(100_000), format!("\"{}\"", "x".repeat(10 * MIB))] {
            let headers =
                [("Authorization", me.as_str()), ("OCS-APIRequest", "1"), ("Content-Type", "application/json")];
            let method = if path == RECENT { "GET" } else { "POST" };
            let answer = house.send(method, path, &headers, body.as_bytes());
            assert!((400..500).contains(&answer.status), "{path}: {}", answer.status);
            goes_on(&house, path);
        }
    }
}

/// Takes an answer one byte after the other, with the least window, while others are served.
#[test]
fn who_reads_slowly_holds_up_nobody() {
    const READERS: usize = 100;
    let house = House::open("");
    let me = me();
    house.send("PUT", &format!("{DAV}/large"), &[("Authorization", &me)], &vec![b'x'; 32 * MIB]);
    house.send("PUT", &format!("{DAV}/small"), &[("Authorization", &me)], b"small");
    let mut readers: Vec<_> = (0..READERS).map(|_| house.connect()).collect();
    for reader in &mut readers {
        reader.write_all(house.head("GET", &format!("{DAV}/large"), &[("Authorization", &me)]).as_bytes()).unwrap();
    }
    let before = house.status_kib("VmRSS:");
    for reader in &mut readers {
        let mut byte = [0];
        reader.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"H", "each has begun");
        let small = house.get(&format!("{DAV}/small"), &[("Authorization", &me)]);
        assert_eq!((small.status, small.text().as_str()), (200, "small"));
    }
    house.write("arrives", "x");
    house.wait_for_events(3);
    let grown = house.status_kib("VmRSS:").saturating_sub(before);
    assert!(grown < 128 * 1024, "{READERS} readers of 32 MiB each hold {grown} KiB");
}

#[test]
fn the_operator_reads_any_account_s_files_and_changes_none() {
    let house = House::open("");
    house.write("d/a.txt", "hello\n");
    let by = format!("Bearer {}", house.admin_token());
    let by = [("Authorization", by.as_str())];
    let path = "/remote.php/dav/files/test2/d/a.txt";
    let read = house.get(path, &by);
    assert_eq!((read.status, read.text().as_str()), (200, "hello\n"));
    assert_eq!(house.request("HEAD", path, &by).header("content-length"), "6");
    let before = all_below(&house.root());
    for method in ["PUT", "DELETE", "MKCOL", "COPY", "MOVE", "PROPFIND", "PROPPATCH", "LOCK", "OPTIONS", "POST"] {
        let headers = [by[0], ("Destination", "/remote.php/dav/files/test2/b.txt")];
        assert_eq!(house.request(method, path, &headers).status, 403, "{method}");
    }
    assert_eq!(house.request("MKCOL", "/remote.php/dav/uploads/test2/1", &by).status, 403);
    for (path, status) in [
        ("/remote.php/dav/files/test2/none", 404),
        ("/remote.php/dav/files/test2/d", 404),
        ("/remote.php/dav/files/test2/", 404),
        ("/remote.php/dav/files/nobody/d/a.txt", 404),
        ("/remote.php/dav/files/%ff/d/a.txt", 404),
        ("/remote.php/dav/files/test2/..%2Fdata%2Fadmin-token", 403),
        ("/remote.php/webdav/d/a.txt", 404),
    ] {
        assert_eq!(house.get(path, &by).status, status, "{path}");
    }
    assert_eq!(all_below(&house.root()), before);
}
