//! The whole client against small servers on this machine.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use filebell_client::download::{DownloadError, Downloaded, Expected, Remote, download};
use filebell_client::pull::{ChangesClient, Http, NextcloudClient, PullError, SageX3Client};
use filebell_client::receive::Verified;
use filebell_client::recent::{RecentError, read_json, read_xml};
use filebell_client::verify::NextcloudKey;
use filebell_client::wire::ocs::{Failure, Format, RecentRow, RecentWriter, Version};
use filebell_client::wire::{nextcloud, sagex3};
use filebell_client::{Secret, TimestampMs, TimestampSecs, Uuid};
use filebell_core::id::{FileId, NotificationId};
use filebell_core::subscription::Customer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

// ---- servers

async fn serve(routes: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    base
}

/// A server that gives these answers, one a connection, byte for byte, and keeps what it was asked.
struct Scripted {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    async fn start(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers: Vec<String> = answers.iter().map(|&answer| answer.to_owned()).collect();
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                log.lock().unwrap().push(String::from_utf8(head).unwrap().to_lowercase());
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        Self { url, asked }
    }

    fn asked(&self, at: usize) -> String {
        self.asked.lock().unwrap()[at].clone()
    }

    async fn download(&self, directory: &Path, expected: &Expected) -> Result<Downloaded, DownloadError> {
        let remote = Remote::new(self.url.parse().unwrap());
        download(&http(), &remote, directory, b"sub/a.txt", expected, |_, _| ()).await
    }
}

fn ok(etag: &str, bytes: usize, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nETag: {etag}\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n{body}")
}

fn http() -> Http {
    Http::new(Duration::from_secs(20)).unwrap()
}

/// SHA-256 and size of `0123456789`.
fn digits() -> Expected {
    let sha256 = "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882";
    Expected { size: Some(10), sha256: Some(hex::decode(sha256).unwrap().try_into().unwrap()), md5: None }
}

/// Every file below a directory, sorted, with its content.
fn tree(directory: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn only(content: &str) -> Vec<(String, String)> {
    vec![("sub/a.txt".to_owned(), content.to_owned())]
}

fn there() -> TempDir {
    tempfile::tempdir().unwrap()
}

// ---- download

#[tokio::test]
async fn a_cut_download_goes_on_where_it_stopped() {
    let rest = "HTTP/1.1 206 Partial Content\r\nETag: \"1\"\r\nContent-Range: bytes 6-9/10\r\nContent-Length: 4\r\n\
                Connection: close\r\n\r\n6789";
    let server = Scripted::start(&[&ok("\"1\"", 10, "012345"), rest]).await;
    let directory = there();

    let cut = server.download(directory.path(), &digits()).await;
    assert!(matches!(cut, Err(DownloadError::Pull(PullError::Unreachable(_)))), "{cut:?}");
    assert!(!directory.path().join("sub/a.txt").exists());

    let done = server.download(directory.path(), &digits()).await.unwrap();
    assert_eq!((done.resumed_at, done.size), (6, 10));
    assert_eq!(tree(directory.path()), only("0123456789"));
    assert!(!server.asked(0).contains("range:"));
    assert!(server.asked(1).contains("range: bytes=6-\r\n") && server.asked(1).contains("if-range: \"1\"\r\n"));
}

#[tokio::test]
async fn a_file_that_changed_meanwhile_is_fetched_whole() {
    let server = Scripted::start(&[&ok("\"1\"", 10, "abc"), &ok("\"2\"", 10, "0123456789")]).await;
    let directory = there();
    assert!(server.download(directory.path(), &digits()).await.is_err());
    assert_eq!(server.download(directory.path(), &digits()).await.unwrap().resumed_at, 0);
    assert_eq!(tree(directory.path()), only("0123456789"));
}

#[tokio::test]
async fn without_a_strong_etag_it_begins_anew() {
    let server = Scripted::start(&[&ok("W/\"1\"", 10, "012345"), &ok("W/\"1\"", 10, "0123456789")]).await;
    let directory = there();
    assert!(server.download(directory.path(), &digits()).await.is_err());
    server.download(directory.path(), &digits()).await.unwrap();
    assert!(!server.asked(1).contains("range:"));
    assert_eq!(tree(directory.path()), only("0123456789"));
}

#[tokio::test]
async fn a_part_that_the_server_no_longer_knows_is_dropped() {
    let gone = "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let server = Scripted::start(&[&ok("\"1\"", 10, "012345"), gone, &ok("\"2\"", 10, "0123456789")]).await;
    let directory = there();
    assert!(server.download(directory.path(), &digits()).await.is_err());
    server.download(directory.path(), &digits()).await.unwrap();
    assert!(!server.asked(2).contains("range:"));
    assert_eq!(tree(directory.path()), only("0123456789"));
}

#[tokio::test]
async fn another_range_than_was_asked_for_is_not_taken() {
    let from_5 = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\
                  Connection: close\r\n\r\n56789";
    let version_2 = "HTTP/1.1 206 Partial Content\r\nETag: \"2\"\r\nContent-Range: bytes 6-9/10\r\n\
                     Content-Length: 4\r\nConnection: close\r\n\r\n6789";
    for wrong in [from_5, version_2] {
        let whole = ok("\"2\"", 10, "0123456789");
        let server = Scripted::start(&[&ok("\"1\"", 10, "012345"), wrong, &whole]).await;
        let directory = there();
        assert!(server.download(directory.path(), &digits()).await.is_err());
        let refused = server.download(directory.path(), &digits()).await;
        assert!(matches!(refused, Err(DownloadError::Pull(PullError::Answer(_)))), "{refused:?}");
        server.download(directory.path(), &digits()).await.unwrap();
        assert!(!server.asked(2).contains("range:"), "it begins anew");
    }
}

#[tokio::test]
async fn what_is_not_what_was_told_leaves_nothing_behind() {
    let body = ok("\"1\"", 10, "0123456789");
    let md5 = Expected { md5: Some([0; 16]), ..Expected::default() };
    let sha256 = Expected { sha256: Some([0; 32]), ..Expected::default() };
    let (larger, smaller) = (Expected { size: Some(11), ..digits() }, Expected { size: Some(9), ..digits() });
    for (expected, what) in [(md5, "MD5"), (sha256, "SHA-256"), (smaller, "size")] {
        let (server, directory) = (Scripted::start(&[&body]).await, there());
        let refused = server.download(directory.path(), &expected).await;
        assert!(matches!(refused, Err(DownloadError::Mismatch(found)) if found == what), "{refused:?}");
        assert_eq!(tree(directory.path()), [], "{what}");
    }
    let (server, directory) = (Scripted::start(&[&body]).await, there());
    let short = server.download(directory.path(), &larger).await;
    assert!(matches!(short, Err(DownloadError::Incomplete { have: 10, expected: 11 })), "{short:?}");
    assert!(!directory.path().join("sub/a.txt").exists());
}

#[tokio::test]
async fn a_failed_download_leaves_the_old_file() {
    let directory = there();
    std::fs::create_dir(directory.path().join("sub")).unwrap();
    std::fs::write(directory.path().join("sub/a.txt"), "old").unwrap();
    let refused =
        "HTTP/1.1 404 Not Found\r\nContent-Length: 26\r\nConnection: close\r\n\r\n{\"message\":\"File not found\"}";
    let server = Scripted::start(&[refused, &ok("\"1\"", 3, "bad")]).await;
    match server.download(directory.path(), &digits()).await {
        Err(DownloadError::Pull(error)) => assert_eq!(error.status(), Some(StatusCode::NOT_FOUND)),
        other => panic!("{other:?}"),
    }
    assert!(server.download(directory.path(), &digits()).await.is_err());
    assert_eq!(std::fs::read_to_string(directory.path().join("sub/a.txt")).unwrap(), "old");
}

#[tokio::test]
async fn a_checksum_sent_along_is_checked() {
    let answer = format!(
        "HTTP/1.1 200 OK\r\nOC-Checksum: MD5:{}\r\nContent-Length: 10\r\nConnection: close\r\n\r\n0123456789",
        "00".repeat(16)
    );
    let (server, directory) = (Scripted::start(&[&answer]).await, there());
    let refused = server.download(directory.path(), &Expected::default()).await;
    assert!(matches!(refused, Err(DownloadError::Mismatch("MD5"))), "{refused:?}");
}

#[tokio::test]
async fn progress_is_told_up_to_the_end() {
    let (server, directory) = (Scripted::start(&[&ok("\"1\"", 10, "0123456789")]).await, there());
    let mut told = Vec::new();
    let remote = Remote::new(server.url.parse().unwrap());
    let tell = |done, total| told.push((done, total));
    download(&http(), &remote, directory.path(), b"a", &Expected::default(), tell).await.unwrap();
    assert_eq!(told.first(), Some(&(0, Some(10))));
    assert_eq!(told.last(), Some(&(10, Some(10))));
}

#[tokio::test]
async fn a_hostile_name_is_refused_before_anything_is_asked() {
    let (server, directory) = (Scripted::start(&[]).await, there());
    let remote = Remote::new(server.url.parse().unwrap());
    let refused = download(&http(), &remote, directory.path(), b"../a", &Expected::default(), |_, _| ()).await;
    assert!(matches!(refused, Err(DownloadError::Name(_))));
    assert!(server.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap(); // accepts in the kernel, answers never
    let base = format!("http://{}", listener.local_addr().unwrap());
    let http = Http::new(Duration::from_millis(20)).unwrap();
    let client = ChangesClient::new(http.clone(), &base, &Secret::new("t")).unwrap();
    let late = client.changes("a", None, 1, Duration::ZERO).await;
    assert!(matches!(late, Err(PullError::Deadline(_))), "{late:?}");
    let remote = Remote::new(base.parse().unwrap());
    let late = download(&http, &remote, there().path(), b"a", &Expected::default(), |_, _| ()).await;
    assert!(matches!(late, Err(DownloadError::Pull(PullError::Deadline(_)))), "{late:?}");
}

// ---- recent

#[test]
fn captured_lists_read_the_same_in_both_formats() {
    let captured = include_str!("../../core/tests/vectors/nextcloud/ocs.json");
    let captured: Vec<serde_json::Value> = serde_json::from_str(captured).unwrap();
    let answer = |name: &str| {
        let exchange = captured.iter().find(|exchange| exchange["name"] == name).unwrap();
        exchange["response"]["body"].as_str().unwrap().as_bytes()
    };
    let files = read_xml(answer("ocs/v1_accept_json_q")).unwrap();
    assert_eq!((files.len(), files[0].id, files[0].path.as_str()), (6, 88, "/empty.txt"));
    for name in ["ocs/v1_accept_json", "ocs/v2_accept_json", "ocs/v1_json_ok_recent"] {
        assert_eq!(read_json(answer(name)).unwrap(), files, "{name}");
    }
    assert_eq!(read_xml(answer("ocs/v2_xml_ok_recent")).unwrap(), files);
    // Its comment is read over; it is a good document of another kind.
    let other = read_xml(answer("ocs/v1_xml_capabilities"));
    assert!(matches!(other, Err(RecentError::Malformed(why)) if why == "no files"));
}

// ---- pull

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

/// As little of a Nextcloud as is asked for here.
async fn nextcloud_answers(uri: Uri, headers: HeaderMap) -> Response {
    let query = uri.query().unwrap_or_default();
    let format = if query.contains("format=json") { Format::Json } else { Format::Xml };
    if header(&headers, "authorization") != "Basic dGVzdDI6c2VjcmV0" || header(&headers, "ocs-apirequest") != "true" {
        let answer = Failure::WrongPassword.answer(Version::V1, format);
        return (StatusCode::from_u16(answer.status).unwrap(), answer.body).into_response();
    }
    if !query.starts_with("since=7&") {
        return Failure::SinceInvalid.answer(Version::V1, format).body.into_response();
    }
    let mut writer = RecentWriter::new(Version::V1, format, 1);
    let (id, time) = (FileId::new(3), TimestampSecs::from_secs(9));
    writer.row(&RecentRow { id, time, name: "ä.txt", path: "/in box/ä.txt", modified_user: "bob" });
    writer.finish().into_response()
}

async fn nextcloud_server() -> String {
    let recent = "/ocs/v1.php/apps/file_upload_notification/api/recent";
    let dav = |uri: Uri| async move { uri.path().to_owned() };
    serve(Router::new().route(recent, get(nextcloud_answers)).route("/remote.php/{*rest}", get(dav))).await
}

#[tokio::test]
async fn recent_files_are_listed_in_both_formats_and_downloaded() {
    let base = nextcloud_server().await;
    let client = NextcloudClient::new(http(), &base, "test2", Secret::new("secret")).unwrap();
    let files = client.recent(7).await.unwrap();
    assert_eq!(files, client.recent_as(7, Format::Xml).await.unwrap());
    assert_eq!((files[0].id, files[0].path.as_str()), (3, "/in box/ä.txt"));

    let directory = there();
    let done = client.download(&files[0].path, directory.path(), &Expected::default(), |_, _| ()).await.unwrap();
    assert_eq!(done.path, directory.path().join("in box/ä.txt"));
    let asked = std::fs::read_to_string(done.path).unwrap();
    assert_eq!(asked, "/remote.php/dav/files/test2/in%20box/%C3%A4.txt");
}

#[tokio::test]
async fn a_refusal_says_what_the_server_said() {
    let base = nextcloud_server().await;
    let client = NextcloudClient::new(http(), &base, "test2", Secret::new("wrong")).unwrap();
    for format in [Format::Json, Format::Xml] {
        match client.recent_as(7, format).await {
            Err(PullError::Status { status, message, .. }) => {
                assert_eq!((status, message.as_str()), (StatusCode::UNAUTHORIZED, "Unauthorised"));
            }
            other => panic!("{other:?}"),
        }
    }
    let client = NextcloudClient::new(http(), &base, "test2", Secret::new("secret")).unwrap();
    match client.recent(0).await {
        Err(PullError::Recent(error)) => assert!(error.to_string().contains("since is invalid number")),
        other => panic!("{other:?}"),
    }
}

/// As little of a Sage X3 as is asked for here; the folder `ROUND` goes in circles, `HERE` gives the bytes itself.
async fn sage_answers(uri: Uri, headers: HeaderMap) -> Response {
    let token = header(&headers, "authorization");
    let customer = Customer { url: "u".into(), id: "c".into(), code: "k".into() };
    let page = |number, more| {
        let key = format!("{number}.txt");
        let modified = TimestampMs::ZERO;
        let file = sagex3::ListedFile { key: key.as_bytes(), last_modified: modified, md5: [0; 16], size: 10 };
        sagex3::listing(&sagex3::Page {
            folder: b"SEED",
            number,
            size: 1,
            files: &[file],
            more,
            always_truncated: false,
        })
        .into_response()
    };
    match (uri.path(), uri.query().unwrap_or_default()) {
        ("/bytes", _) if token.is_empty() => "0123456789".into_response(),
        ("/bytes", _) => StatusCode::BAD_REQUEST.into_response(),
        ("/loop", _) => Redirect::to("/loop").into_response(),
        _ if token != "Bearer t" => (StatusCode::UNAUTHORIZED, sagex3::Failure::Unauthorised.body()).into_response(),
        ("/v1/notification/00000000-0000-0000-0000-000000000007", _) => sagex3::detail(&sagex3::Detail {
            public_url: "https://a",
            id: NotificationId::new(Uuid::from_u128(7)),
            application_id: "a",
            customer: &customer,
            created_at: TimestampMs::ZERO,
            folder: b"SEED",
            file_name: b"1.txt",
        })
        .into_response(),
        ("/v1/datadelivery/SEED", "") => page(1, true),
        ("/v1/datadelivery/SEED", "page=2") => page(2, false),
        ("/v1/datadelivery/ROUND", _) => r#"{"items":[{"key":"a","size":1}],"$next":"ROUND?page=2"}"#.into_response(),
        ("/v1/datadelivery/SEED", "filename=sub%2F1.txt") => Redirect::to("/bytes?signature=x").into_response(),
        ("/v1/datadelivery/HERE", "filename=1.txt") => "0123456789".into_response(),
        ("/v1/datadelivery/LOOP", _) => Redirect::to("/loop").into_response(),
        _ => (StatusCode::NOT_FOUND, sagex3::Failure::FileNotFound.body()).into_response(),
    }
}

async fn sage(token: &str) -> SageX3Client {
    let base = serve(Router::new().fallback(sage_answers)).await;
    SageX3Client::new(http(), &format!("{base}/v1"), &Secret::new(token)).unwrap()
}

#[tokio::test]
async fn sage_details_and_listings_are_read_over_all_pages() {
    let client = sage("t").await;
    let detail = client.notification(Uuid::from_u128(7)).await.unwrap();
    assert_eq!(detail.customer_id, "c");
    let keys = |files: Vec<sagex3::read::ListedFile>| files.into_iter().map(|file| file.key).collect::<Vec<_>>();
    assert_eq!(keys(client.list("SEED").await.unwrap()), ["1.txt", "2.txt"]);
    assert_eq!(keys(client.list("ROUND").await.unwrap()), ["a"]);
    match sage("old").await.list("SEED").await {
        Err(PullError::Status { message, .. }) => assert_eq!(message, "Unauthorised"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_sage_download_follows_to_the_storage_without_the_token() {
    let (client, directory) = (sage("t").await, there());
    let done = client.download("SEED", "sub/1.txt", directory.path(), &digits(), |_, _| ()).await.unwrap();
    assert_eq!(done.path, directory.path().join("sub/1.txt"));
    client.download("HERE", "1.txt", directory.path(), &digits(), |_, _| ()).await.unwrap();
    match client.download("LOOP", "1.txt", directory.path(), &digits(), |_, _| ()).await {
        Err(DownloadError::Pull(error)) => assert_eq!(error.status(), Some(StatusCode::SEE_OTHER)),
        other => panic!("{other:?}"),
    }
    client.delete("SEED", "missing").await.unwrap();
}

#[tokio::test]
async fn changes_are_read_and_the_named_version_is_downloaded() {
    let sha256 = hex::encode(digits().sha256.unwrap());
    let answer = format!(
        r#"{{"events":[{{"seq":7,"id":"evt_1","kind":"created","account":"in box","path":"/SEED/\ufffd.txt",
        "path_base64":"L1NFRUQv/y50eHQ=","previous_path":null,"file_id":12,"size":10,"sha256":"{sha256}",
        "mtime":"2026-11-22T17:00:00.123Z","recorded_at":"2026-11-22T17:00:01.000Z","user":"bob","source":"folder",
        "completeness":"leased","later":true}}],"next":"cur_7","more":false}}"#
    );
    let changes = |uri: Uri, headers: HeaderMap| async move {
        assert_eq!(header(&headers, "authorization"), "Bearer t");
        match uri.query().unwrap_or_default() {
            "account=in%20box&after=cur_3&limit=10&wait=30" => answer.into_response(),
            _ => (StatusCode::GONE, r#"{"title":"Gone","detail":"that cursor is too old"}"#).into_response(),
        }
    };
    let file = |uri: Uri| async move {
        assert_eq!(uri.path(), "/base/remote.php/dav/files/in%20box/SEED/%FF.txt");
        "0123456789"
    };
    let base = serve(Router::new().route("/base/api/v1/changes", get(changes)).fallback(file)).await;
    let client = ChangesClient::new(http(), &format!("{base}/base/"), &Secret::new("t")).unwrap();
    let changes = client.changes("in box", Some("cur_3"), 10, Duration::from_secs(30)).await.unwrap();
    assert_eq!((changes.next.as_str(), changes.more, changes.events[0].seq), ("cur_7", false, 7));
    let directory = there();
    let done = client.download(&changes.events[0], directory.path(), |_, _| ()).await.unwrap();
    assert_eq!(std::fs::read_to_string(done.path).unwrap(), "0123456789");

    match client.changes("in box", None, 10, Duration::ZERO).await {
        Err(PullError::Status { message, .. }) => assert_eq!(message, "that cursor is too old"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_call_can_be_spawned() {
    fn is_send<T: Send>(_: T) {}
    let nextcloud = NextcloudClient::new(http(), "http://a", "a", Secret::new("p")).unwrap();
    let sage = SageX3Client::new(http(), "http://a/v1", &Secret::new("t")).unwrap();
    let (directory, expected) = (Path::new("never"), Expected::default());
    is_send(nextcloud.recent(0));
    is_send(nextcloud.download("a", directory, &expected, |_, _| ()));
    is_send(sage.list("SEED"));
    is_send(sage.download("SEED", "a", directory, &expected, |_, _| ()));
}

#[test]
fn only_web_addresses_are_bases() {
    for wrong in ["", "a", "ftp://a", "http://a?x", "http://a/#b"] {
        let refused = SageX3Client::new(http(), wrong, &Secret::new("t"));
        assert!(matches!(refused, Err(PullError::Url(_))), "{wrong}");
    }
    let refused = SageX3Client::new(http(), "http://a", &Secret::new("t\n"));
    assert!(matches!(refused, Err(PullError::Credentials)));
}

// ---- receive

async fn status(headers: &[(&'static str, String)], body: Vec<u8>) -> StatusCode {
    let mut request = Request::builder().method("POST").uri("/hook");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let key = NextcloudKey::new(Secret::new("4fda"));
    match Verified::<NextcloudKey>::from_request(request.body(Body::from(body)).unwrap(), &key).await {
        Ok(Verified(notification)) => {
            assert_eq!(notification.id, "id");
            StatusCode::NO_CONTENT
        }
        Err(rejection) => rejection.into_response().status(),
    }
}

#[tokio::test]
async fn only_a_verified_notification_reaches_the_handler() {
    let key = Secret::new("4fda");
    let sign = |body: &[u8]| nextcloud::sign(body.to_vec(), &key);
    let good = nextcloud::notification("id", Duration::from_secs(10), TimestampSecs::from_secs(7), &key);
    let malformed = sign(b"{}");
    let large = sign(&vec![b' '; 64 * 1024 + 1]);
    assert_eq!(status(&good.headers, good.body.clone()).await, StatusCode::NO_CONTENT);
    assert_eq!(status(&malformed.headers, good.body.clone()).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&[], good.body).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&malformed.headers, malformed.body).await, StatusCode::BAD_REQUEST);
    assert_eq!(status(&large.headers, large.body).await, StatusCode::PAYLOAD_TOO_LARGE);
}
